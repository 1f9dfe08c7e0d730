"""--help, --cfg and --info print, and make nothing."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from rlhf_cli.config import security
from rlhf_cli.config.arguments import COMPARE_AT, OPTIONS
from rlhf_cli.config.keys import fields, meanings
from rlhf_cli.config.launch import Launch, launch
from rlhf_cli.config.options import options
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


def test_help_has_every_key_with_its_default_and_its_meaning(
    capsys: pytest.CaptureFixture[str], started: Started
) -> None:
    assert started("--help") == []
    page = capsys.readouterr().out
    found = dict(re.findall(r"^([a-z][a-z_.]+)=(.+)\n    \S", page, re.MULTILINE))
    own = {key for key in fields() if "*" not in key and not key.endswith(".kind")}
    assert found.keys() == own - {key.rpartition(".")[0] for key in own}
    assert (found["steps"], found["evaluate.every"], found["top_k"], found["sinks"]) == (
        "40", "20", "null", '["tensorboard"]',
    )  # fmt: skip
    assert found["data.id"] == "..."  # what an option leaves open
    assert (found["data.path"], found["data.where"], found["reward.clip"]) == ("...", "{}", "null")
    assert found["algorithm.clip_range_high"] == "0.28|0.2"  # dapo; grpo and what follows it
    assert "\n    Steps of training; in `rlhf train` each begins with a rollout.\n" in page
    assert "reward.best=null|10\n    With python, http: The highest possible score; null: unknown.\n" in page
    assert "    With judge: The number that is scaled to 1.\n" in page
    assert "optimizer.lr=0.0005\n    Peak learning rate.\n" in page  # its only kind needs no name


def test_every_setting_says_what_it_means() -> None:
    """The page of help is made of it."""
    assert [key for key, each in meanings().items() if "" in each] == []


def test_hydra_help_shows_what_works_here(capsys: pytest.CaptureFixture[str], started: Started) -> None:
    assert started("--hydra-help", "steps=-1") == []
    page = capsys.readouterr().out
    assert max(map(len, page.splitlines())) <= 80
    flags = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", page))
    of_no_use = {"--run", "-r", "--help", "-h", "--hydra-help"}  # they show pages, or change nothing
    assert flags == {*OPTIONS} - of_no_use - {COMPARE_AT}  # which is no flag of hydra's
    parts = {name.split(".")[0] for name in re.findall(r"(?<!//)hydra[./](\w+)", page)}
    assert parts <= security.HYDRA.keys()


@pytest.mark.parametrize("argv", [["--info", "defaults"], ["--info"]])
def test_info_always_works(argv: list[str], forked: Callable[..., Outcome]) -> None:
    outcome = forked("train", *argv, "steps=-1")
    assert (outcome.code, outcome.err) == (0, "")
    assert "hydra" in outcome.out


def test_resolve_alone_starts_nothing(cwd: Path, refused: Refused) -> None:
    assert refused("--resolve", "config=tiny") == "--resolve shows a config without its interpolations: add --cfg job"
    assert list(cwd.iterdir()) == []
