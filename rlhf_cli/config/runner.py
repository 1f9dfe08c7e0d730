"""Run planned jobs: one run or a whole sweep by ourselves, a sweep by hydra where another launcher is named."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import run_job
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf

from rlhf_cli.config.arguments import quote
from rlhf_cli.config.compose import compose
from rlhf_cli.config.jobs import Plan
from rlhf_cli.config.session import one_line_errors
from rlhf_cli.errors import EXIT_DONE, EXIT_SWEEP, UserError, first_line, visible
from rlhf_cli.runs.folder import MULTIRUN
from rlhf_cli.sweep.record import Ending
from rlhf_cli.verbs import TRAIN, C


def run_alone(hydra: GlobalHydra, plan: Plan[C], folder: Path, run: Callable[[], None]) -> None:
    """Run the one job in this process, as hydra runs a job: its record in `.hydra`, its logging, its environment.

    Raises what `run` raises.
    """
    own = plan.settings.hydra
    own.mode, own.run.dir = RunMode.RUN, str(folder)
    own.overrides.hydra.extend(["hydra.mode=RUN", f"hydra.run.dir={quote(str(folder))}"])
    errors: list[Exception] = []

    def task(settings: DictConfig) -> None:
        try:
            run()
        except Exception as e:  # hydra would print a line of its own
            errors.append(e)

    no_callbacks: Any = Callback()
    with one_line_errors():
        run_job(task, plan.settings, "hydra.run.dir", None, HydraContext(hydra.config_loader(), no_callbacks))
    if errors:
        raise errors[0]


def record_sweep(hydra: GlobalHydra, plan: Plan[C], folder: Path) -> None:
    """Write what hydra writes of a sweep: multirun.yaml."""
    OmegaConf.save(compose(hydra.config_loader(), _sweep_overrides(plan, folder)), folder / MULTIRUN)


def run_by_hydra(hydra: GlobalHydra, plan: Plan[C], folder: Path, run: Callable[[int], None]) -> None:
    """Run a sweep by the launcher of hydra's that is named; `run` gets the index of a job, perhaps in another process.

    A job that ends in a UserError is named on stderr and does not stop the others.
    """
    jobs: Any = hydra.hydra
    try:
        jobs.multirun(TRAIN.primary, _Trial(plan.names(), run), _sweep_overrides(plan, folder))
    except HydraException as e:
        raise UserError(first_line(e)) from e


def _sweep_overrides(plan: Plan[C], folder: Path) -> list[str]:
    return [*plan.overrides, "hydra.mode=MULTIRUN", f"hydra.sweep.dir={quote(str(folder))}"]


class _Trial:
    """The task that hydra's launcher calls with each job."""

    def __init__(self, names: list[str], run: Callable[[int], None]) -> None:
        self._names, self._run = names, run
        self._bug: Exception | None = None

    def __call__(self, settings: DictConfig) -> None:
        """Run one job and write down how it ended."""
        if self._bug is not None:  # a bug stops the sweep
            raise self._bug
        now = HydraConfig.get()
        folder = Path(now.runtime.output_dir)
        ending = Ending(EXIT_DONE, "")
        try:
            self._run(now.job.num)
        except UserError as e:
            ending = Ending(e.exit_code, e.line())
            sys.stderr.write(visible(f"error: {self._names[now.job.num]}: {e.line()}\n"))
        except Exception as e:
            self._bug = e
            raise
        folder.mkdir(parents=True, exist_ok=True)
        ending.write(folder)


def raise_failures(plan: Plan[C], folder: Path) -> None:
    """Raise UserError with EXIT_SWEEP if a job of a sweep failed."""
    endings = [Ending.read(folder / job.folder) for job in plan.jobs]
    failed = [name for name, ending in zip(plan.names(), endings, strict=True) if ending and ending.is_failure]
    if failed:
        raise UserError(f"{len(failed)} of {len(plan.jobs)} jobs failed: {'; '.join(failed)}", exit_code=EXIT_SWEEP)
