"""--help, --cfg and --info print, and make nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from rlhf_cli.config.keys import fields
from rlhf_cli.config.launch import Launch, launch
from rlhf_cli.config.options import groups, options
from rlhf_cli.schema import RunConfig
from tests.support import Outcome

from .conftest import not_started, sweep_with

Started = Callable[..., list[Launch]]
Refused = Callable[..., str]


def test_cfg_shows_the_job_and_makes_nothing(cwd: Path, capsys: pytest.CaptureFixture[str], started: Started) -> None:
    assert started("--cfg", "job", "config=tiny", "beta=0.3") == []
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["beta"] == {"kind": "constant", "value": 0.3}
    assert set(shown) == set(RunConfig.model_fields)
    assert started("config=tiny", "-c", "hydra") == []
    assert "MULTIRUN" not in capsys.readouterr().out
    assert list(cwd.iterdir()) == []


def test_cfg_does_not_ask_for_files_to_exist(capsys: pytest.CaptureFixture[str]) -> None:
    launch(["--cfg", "job", "config=tiny"], not_started, check=not_started, sweep=sweep_with(not_started))
    assert capsys.readouterr().out.startswith("model:")


def test_cfg_of_a_bad_config_is_refused(refused: Refused) -> None:
    assert refused("--cfg", "job", "stpes=3") == "unknown setting 'stpes'; did you mean steps?"


def test_help_is_a_page_of_80_columns_whatever_else_is_typed(
    cwd: Path, capsys: pytest.CaptureFixture[str], started: Started
) -> None:
    assert started("--help", "algorithm=ppoo", "-m") == []
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    for line in ("algorithm: dapo, dr_grpo, grpo, ppo, reinforce, rloo", "model: pretrained, smollm2, tiny"):
        assert line in lines
    (first,) = [number for number, line in enumerate(lines) if line.startswith("reward: characters, ")]
    assert lines[first + 1].startswith("  ")  # there are more than a line holds
    assert {word for line in lines[first : first + 2] for word in re.findall(r"\w+", line)} == {
        "reward",
        *options("reward"),
    }
    assert list(cwd.iterdir()) == []


def test_help_names_every_key_outside_the_groups_and_none_that_is_not(
    capsys: pytest.CaptureFixture[str], started: Started
) -> None:
    assert started("--help") == []
    page = capsys.readouterr().out
    words = set(re.findall(r"\b[a-z][a-z_.]+\b", page[page.index("Keys people type") : page.index("\nOptions")]))
    holds_more = {key.rpartition(".")[0] for key in fields()}
    assert words >= {key for key in fields() if key.split(".")[0] not in groups()} - holds_more
    assert {word for word in words if "_" in word or "." in word} <= fields().keys()


@pytest.mark.parametrize("argv", [["--info", "defaults"], ["--info"], ["--hydra-help"]])
def test_info_always_works(argv: list[str], forked: Callable[..., Outcome]) -> None:
    outcome = forked("train", *argv, "steps=-1")
    assert (outcome.code, outcome.err) == (0, "")
    assert "hydra" in outcome.out
