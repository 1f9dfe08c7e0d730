"""What starts the trials: its settings come from a file, and none of them may be code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from rlhf_cli.errors import UserError
from rlhf_cli.sweep import launchers
from rlhf_cli.sweep.launchers import LAUNCHERS, Joblib, Launcher, Ray, Slurm, read_launcher

CONFIGS = Path(__file__).parents[3] / "configs" / "hydra" / "launcher"


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every package counts as installed."""
    monkeypatch.setattr(launchers, "find_spec", lambda name: name)


def written(name: str) -> dict[str, Any]:
    return yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()) or {}


def test_every_launcher_of_ours_has_a_config_with_all_its_settings() -> None:
    assert {file.stem for file in CONFIGS.glob("*.yaml")} == {*LAUNCHERS}
    found = {name: read_launcher(name, written(name)) for name in LAUNCHERS}
    kinds = {name: type(launcher) for name, launcher in found.items()}
    assert kinds == {"processes": Launcher, "joblib": Joblib, "ray": Ray, "slurm": Slurm}
    for name, launcher in found.items():
        assert launcher is not None
        assert launcher.model_dump() == written(name)


def test_one_of_hydras_is_not_ours() -> None:
    assert read_launcher("basic", {"_target_": "hydra._internal.core_plugins.basic_launcher.BasicLauncher"}) is None
    assert read_launcher("joblib", {"_target_": "hydra_plugins.hydra_joblib_launcher.joblib_launcher.X"}) is None


@pytest.mark.parametrize("text", ["a\nrm -rf /", "a b", "a;b", "$(id)", "`id`", "a'b", "", "a\n"])
def test_text_for_sbatch_is_one_plain_word(text: str) -> None:
    with pytest.raises(UserError) as caught:
        read_launcher("slurm", written("slurm") | {"partition": text})
    assert caught.value.what.startswith("hydra.launcher.partition: ")
    found = read_launcher("slurm", written("slurm") | {"partition": "gpu,long", "gres": "gpu:a100:1"})
    assert isinstance(found, Slurm)
    assert (found.partition, found.gres) == ("gpu,long", "gpu:a100:1")


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(UserError) as caught:
        read_launcher("slurm", written("slurm") | {"setup": ["rm -rf /"]})
    assert caught.value.what.startswith("hydra.launcher.setup: ")
    assert str(caught.value.fix).startswith("settings of hydra/launcher=slurm: cluster, partition, ")
    with pytest.raises(UserError, match="n_jobs"):
        read_launcher("joblib", {"n_jobs": 2})


@pytest.mark.parametrize(
    ("name", "key", "least", "less"),
    [
        ("ray", "num_cpus", 0, -0.5),
        ("ray", "num_gpus", 0, -0.5),
        ("ray", "max_retries", -1, -2),
        ("slurm", "cpus_per_task", 1, 0),
        ("slurm", "gpus_per_node", 0, -1),
        ("slurm", "mem_gb", 0.5, 0),
        ("slurm", "timeout_min", 1, 0),
        ("slurm", "signal_delay_s", 1, 0),
        ("slurm", "max_num_timeout", 0, -1),
    ],
)
def test_the_least_values(name: str, key: str, least: float, less: float) -> None:
    assert getattr(read_launcher(name, written(name) | {key: least}), key) == least
    with pytest.raises(UserError) as caught:
        read_launcher(name, written(name) | {key: less})
    assert caught.value.what.startswith(f"hydra.launcher.{key}: ")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launchers, "find_spec", lambda name: None)
    with pytest.raises(UserError) as caught:
        read_launcher("slurm", written("slurm"))
    assert caught.value.line() == ("submitit is not installed (hydra/launcher); fix: pip install 'rlhf-cli[slurm]'")
    assert read_launcher("processes", {}) == Launcher()
