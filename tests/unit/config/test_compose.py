"""compose_config: a config without a run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra.types import RunMode
from omegaconf import OmegaConf

from rlhf_cli.config import session
from rlhf_cli.config.compose import compose
from rlhf_cli.config.jobs import compose_config
from rlhf_cli.config.launch import Launch
from rlhf_cli.config.options import PRESET, groups, options
from rlhf_cli.config.session import open_hydra
from rlhf_cli.errors import UserError

Started = Callable[..., list[Launch]]
Refused = Callable[..., str]


def test_composing_loads_no_torch(cwd: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "rlhf_cli", "train", "--cfg", "job"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "hydra" in imported
    assert "torch" not in imported


def test_a_later_run_of_a_process_has_a_time_of_its_own(cwd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = []
    for hour in (8, 9):
        clock = SimpleNamespace(now=partial(datetime, 2026, 1, 31, hour, 7, 5))
        monkeypatch.setattr("hydra.core.utils.datetime", clock)
        with open_hydra() as hydra:
            folders.append(compose(hydra.config_loader(), ["config=tiny", "seed=5"]).hydra.run.dir)
    assert folders == ["outputs/2026-01-31/08-07-05", "outputs/2026-01-31/09-07-05"]


def test_compose_config_needs_no_folder(cwd: Path) -> None:
    assert compose_config(["config=tiny", "steps=9"]).steps == 9
    assert compose_config([]).run_dir is None
    assert compose_config(["run_dir=~/r"]).run_dir == os.path.expanduser("~/r")
    assert list(cwd.iterdir()) == []


def test_composing_lists_no_keys_for_a_page_of_help(cwd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[str] = []
    monkeypatch.setattr(session, "key_list", lambda: listed.append("") or "steps  $5")
    monkeypatch.setattr("rlhf_cli.config.compose._COMPOSED", {})
    assert compose_config(["config=tiny"]).steps > 0
    assert listed == []
    with open_hydra() as hydra, session._printer():
        help_page = compose(hydra.config_loader(), ["config=tiny", "seed=1"]).hydra.help.template
    assert "steps  $$5" in help_page


def test_what_becomes_of_one_job_is_not_seen_by_the_next(cwd: Path) -> None:
    """The files of configs/ are read once; each job has a copy."""
    with open_hydra() as hydra:
        first = compose(hydra.config_loader(), ["config=tiny", "beta=linear"])
        first.beta.start, first.hydra.job.name = 5.0, "changed"
        first.optimizer.lr = 0.5
        second = compose(hydra.config_loader(), ["config=tiny", "beta=linear"])
    assert (second.beta.start, second.hydra.job.name) == (0.1, "train")
    assert second.optimizer.lr < 0.5


def test_jobs_that_differ_in_values_are_what_hydra_composes(cwd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each choice of options is composed once in a process, wherever that was; what a user's file holds may change."""
    file, folder = cwd / "my.yaml", cwd / "elsewhere"
    folder.mkdir()
    text = "defaults: [tiny]\nsteps: {}\nreward: {{kind: weighted, parts: {{a: keyword, b: {{kind: length}}}}}}\n"
    choices = (f"config='{file}'", "beta='0.05'", "hydra.job.config.override_dirname.exclude_keys=[seed]")
    lines = [
        [
            *choices,
            "hydra.mode=MULTIRUN",
            "steps=7",
            "steps=8",
            "evaluate={every: 5}",
            "sinks=[]",
            "seed=3",
            "run_dir='x=y'",
        ],
        [*choices, "beta={value: 0.3}", "++reward.parts.a.weight=2.0", "steps=1,2", "seed=${steps}"],
        [*choices, "hydra.sweep.dir='a b'", "hydra.job.env_copy=[HOME]"],
        [*choices, "steps=5", "~sinks"],
    ]
    with open_hydra() as hydra:
        loader = hydra.config_loader()
        for steps in (5, 6):
            file.write_text(text.format(steps))
            for line in lines:
                composed = compose(loader, line)
                by_hydra = loader.load_configuration("train", line, RunMode.MULTIRUN, validate_sweep_overrides=False)
                assert OmegaConf.to_yaml(composed) == OmegaConf.to_yaml(by_hydra)
            monkeypatch.chdir(folder)


def test_every_option_is_composed_as_by_hydra_with_numbers_composed_once(cwd: Path) -> None:
    """Each preset and each option of each group once; a number of a group stands for any other number of it."""
    columns = {
        **{group: options(group) for group in (PRESET, *groups())},
        "beta": (*options("beta"), "0", "0.30", "1e-2", "inf"),
        "temperature": ("0.9", *options("temperature"), "1"),
    }
    with open_hydra() as hydra:
        loader = hydra.config_loader()
        for row in range(max(map(len, columns.values()))):
            line = [f"{group}='{names[row % len(names)]}'" for group, names in columns.items()]
            by_hydra = loader.load_configuration("train", line, RunMode.MULTIRUN, validate_sweep_overrides=False)
            assert OmegaConf.to_yaml(compose(loader, line)) == OmegaConf.to_yaml(by_hydra)


def test_a_number_takes_the_place_of_what_a_file_says_of_its_group_as_by_hydra(cwd: Path) -> None:
    (cwd / "my.yaml").write_text("defaults: [tiny]\nbeta: {value: 0.5}\ntemperature: {kind: linear, start: 2.0}\n")
    line = [f"config='{cwd}/my.yaml'", "beta='0.2'", "temperature='0.7'"]
    with open_hydra() as hydra:
        loader = hydra.config_loader()
        by_hydra = loader.load_configuration("train", line, RunMode.MULTIRUN, validate_sweep_overrides=False)
        composed = compose(loader, line)
    assert OmegaConf.to_yaml(composed) == OmegaConf.to_yaml(by_hydra)
    assert (composed.beta.value, composed.temperature.value) == (0.2, 0.7)


@pytest.mark.case(77)
def test_thirty_levels_of_interpolations_are_refused_at_once(cwd: Path) -> None:
    for first, next_one in (("x", "${{{0}}}${{{0}}}"), ("{x: 1}", "{{x: '${{{0}}}', y: '${{{0}}}'}}")):
        levels = [f"a{level}: {next_one.format(f'a{level - 1}')}\n" for level in range(1, 30)]
        (cwd / "bomb.yaml").write_text(f"defaults: [tiny]\na0: {first}\n" + "".join(levels))
        with pytest.raises(UserError, match=r"^more than 2,000 interpolations"):
            compose_config(["config=./bomb.yaml"])
    assert compose_config(["config=tiny", "steps=7", "run_dir=x-${steps}"]).run_dir == str(cwd / "x-7")


@pytest.mark.parametrize("names", [("1e3", "[x]", "true"), ("0.10", "out'", 'out"'), ("a'b", "step-00000001", "a b")])
def test_a_folders_name_is_what_was_typed(names: tuple[str, str, str], cwd: Path) -> None:
    keys = ("run_dir", "sweep_dir", "data.path")
    config = compose_config(["config=tiny", *(f"{key}={name}" for key, name in zip(keys, names, strict=True))])
    assert [config.run_dir, config.sweep_dir, config.data.path] == [str(cwd / name) for name in names]


@pytest.mark.case(77)
def test_a_number_of_thousands_of_digits_is_refused_in_a_line(cwd: Path) -> None:
    with pytest.raises(UserError, match=r"^steps: must be a whole number \(got '999"):
        compose_config(["config=tiny", f"steps={'9' * 5000}"])
