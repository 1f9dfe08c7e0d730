"""amend: a run's saved config, changed by overrides, never interpolated."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlhf_cli.config.arguments import renew_command
from rlhf_cli.config.compose import amend
from rlhf_cli.config.jobs import compose_config
from rlhf_cli.errors import UserError
from rlhf_cli.schema import RunConfig
from tests.unit.support import SHAPING

from .conftest import write


@pytest.fixture(scope="module")
def config() -> RunConfig:
    """The config of a tiny run."""
    return compose_config(["config=tiny", "beta=linear", "seed=7", "run_dir=/r"])


@pytest.fixture
def saved(config: RunConfig) -> dict[str, Any]:
    """config.json of that run, read back."""
    return dict(json.loads(config.model_dump_json()))


def test_without_overrides_it_is_the_saved_config(saved: dict[str, Any], config: RunConfig) -> None:
    assert amend(saved, ()) == config


def test_a_group_that_the_earlier_version_lacked_takes_a_key(saved: dict[str, Any]) -> None:
    del saved["stop"]
    assert amend(saved, ()).stop.kl is None
    assert amend(saved, ["stop.kl=6"]).stop.kl == 6.0


def test_single_keys_are_set(saved: dict[str, Any], cwd: Path) -> None:
    before = json.dumps(saved)
    changed = amend(saved, ["checkpoint.every=5", "beta.start=3", "steps=99", "++seed=8", "data.path=p (1).jsonl"])
    assert (changed.checkpoint.every, changed.beta.at(0, 9), changed.steps, changed.seed) == (5, 3.0, 99, 8)
    assert changed.data.path == str(cwd / "p (1).jsonl")
    assert json.dumps(saved) == before


@pytest.mark.parametrize(
    ("override", "group", "expected"),
    [
        ("beta=0.1", "beta", {"kind": "constant", "value": 0.1}),
        ("beta='0.1'", "beta", {"kind": "constant", "value": 0.1}),
        ("beta=cosine", "beta", {"kind": "cosine", "start": 0.1, "end": 0.02}),
        ("algorithm=reinforce", "algorithm", {"kind": "reinforce", "baseline": "mean"}),
        ("reward=sentiment", "reward", {"kind": "sentiment"} | SHAPING),
    ],
)
def test_an_option_replaces_the_whole_group(
    saved: dict[str, Any], override: str, group: str, expected: dict[str, Any]
) -> None:
    changed = amend(saved, [override]).model_dump(mode="json")
    assert changed.pop(group) == expected
    assert changed == {key: value for key, value in saved.items() if key != group}


def test_keys_stand_over_options(saved: dict[str, Any]) -> None:
    changed = amend(saved, ["data.path=/p.jsonl", "data=jsonl", "model=smollm2"])
    assert (changed.data.path, changed.model.kind) == ("/p.jsonl", "pretrained")


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("stpes=3", "unknown setting 'stpes'; did you mean steps?"),
        ("optimizer.l=3", "unknown setting 'optimizer.l'; did you mean optimizer.lr?"),
        ("steps.x=3", "unknown setting 'steps.x'; did you mean steps?"),
        ("optimiser.lr=3", "unknown setting 'optimiser.lr'; did you mean optimizer.lr?"),
        ("STEPS=3", "unknown setting 'STEPS'; did you mean steps?"),
        ("steps=0", "steps: must be at least 1 (got 0)"),
        ("beta.value=1", "beta.value: beta is linear, which has no value; constant has it"),
        (
            "algorithm=RLO",
            "algorithm=RLO: no such option; have dapo, dr_grpo, grpo, ppo, reinforce, rloo; did you mean rloo?",
        ),
        (
            "data=jsonl",
            "data.path: must be given (training prompts): write data.path=...",
        ),
        ("config=tiny", "config=tiny: a resumed run keeps its own config; change single keys instead"),
        ("steps=1,2", "steps=1,2: a resumed run takes only key=value"),
        ("~steps", "~steps: a resumed run takes only key=value"),
        ("--cfg", "--cfg: not an override: write key=value"),
        ("hydra.run.dir=x", "unknown setting 'hydra.run.dir'; rlhf train --help lists the settings"),
    ],
)
def test_mistakes(saved: dict[str, Any], override: str, line: str) -> None:
    with pytest.raises(UserError) as error:
        amend(saved, [override])
    assert error.value.line() == line


def test_a_users_file_is_not_for_resuming(saved: dict[str, Any], cwd: Path) -> None:
    write(cwd / "r.yaml", "steps: 3")
    with pytest.raises(UserError, match=r"a resumed run keeps its own config"):
        amend(saved, ["config=r.yaml"])


def test_nothing_saved_is_interpolated(saved: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERE", "there")
    saved["resume"] = "${oc.env:WHERE}"
    assert amend(saved, ["beta=0.1"]).resume == "${oc.env:WHERE}"
    with pytest.raises(UserError, match=r"^steps: must be a whole number \(got '\$\{seed\}'\)$"):
        amend(saved | {"steps": "${seed}"}, ())


@pytest.mark.parametrize(
    ("command", "overrides", "renewed"),
    [
        (("rlhf", "steps=2", "seed=1"), ("steps=3",), ("rlhf", "seed=1", "steps=3")),
        (("rlhf", "reward=length", "reward.half=3"), ("reward=regex",), ("rlhf", "reward=regex")),
        (("rlhf", "beta=linear", "beta.end=0.1"), ("beta.end=0.2",), ("rlhf", "beta=linear", "beta.end=0.2")),
        (
            ("rlhf", "fork", "/a=b@3", "+model.stop=['x']"),
            ("model.stop=[]",),
            ("rlhf", "fork", "/a=b@3", "model.stop=[]"),
        ),
        (("rlhf", "seed=1"), ("resume_allow=[seed]", "seed=2"), ("rlhf", "seed=2")),
        ((), (), ()),
    ],
)
def test_the_command_of_a_resumed_run(
    command: tuple[str, ...], overrides: tuple[str, ...], renewed: tuple[str, ...]
) -> None:
    assert renew_command(command, overrides) == renewed
