"""Our launcher of a sweep's jobs: a process for each, where hydra's own runs one after the other in this one."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

NAME: Final = "processes"


class ProcessLauncher(Launcher):
    """Works out where each job writes, and hands all of them to the task at once: to its `together`."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by hydra."""
        self._loader, self._task, self._config = hydra_context.config_loader, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Called by the sweeper; failures are the task's to report, so that every job returns."""
        task: Any = self._task
        task.together([self._job(list(one), number) for number, one in enumerate(job_overrides, initial_job_idx)])
        return [JobReturn(overrides=overrides, status=JobStatus.COMPLETED) for overrides in job_overrides]

    def _job(self, overrides: list[str], number: int) -> DictConfig:
        job = self._loader.load_sweep_config(self._config, overrides)
        with open_dict(job):
            job.hydra.job.id, job.hydra.job.num = str(number), number
            job.hydra.runtime.output_dir = str(Path(str(job.hydra.sweep.dir), str(job.hydra.sweep.subdir)).absolute())
        return job


def register() -> None:
    """Makes `hydra/launcher=processes` known to hydra.

    Hydra looks for launchers in modules of the package `hydra_plugins` alone, which is there where one of its own was
    installed: it gets a module with ours in it.
    """
    plugins = Plugins.instance()
    try:
        package = importlib.import_module("hydra_plugins")
    except ModuleNotFoundError:
        package = sys.modules["hydra_plugins"] = ModuleType("hydra_plugins")
        package.__path__ = []
    module = ModuleType("hydra_plugins.rlhf")
    sys.modules[module.__name__] = module
    vars(package)["rlhf"], vars(module)[ProcessLauncher.__name__] = module, ProcessLauncher
    ProcessLauncher.__module__ = module.__name__
    plugins.register(ProcessLauncher)
    target = f"{module.__name__}.{ProcessLauncher.__name__}"
    ConfigStore.instance().store(group="hydra/launcher", name=NAME, node={"_target_": target}, provider="rlhf")
