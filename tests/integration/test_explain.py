"""`rlhf explain`: each setting of a run, what sets it, and what it means."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import Outcome, place_in_train_yaml

Rlhf = Callable[..., Outcome]


def test_every_setting_has_a_line(rlhf: Rlhf) -> None:
    lines = rlhf("explain", "config=tiny", "beta=0.3").out.splitlines()
    rows = {key: rest for key, rest in (line.split(maxsplit=1) for line in lines)}
    assert rows["beta.value"].split(maxsplit=1) == ["0.3", "the command line: beta=0.3"]
    assert rows["steps"].split() == ["60", "configs/config/tiny.yaml:9"]
    assert rows["sinks"].split() == ['["tensorboard"]', place_in_train_yaml("sinks")]


def test_a_named_setting_is_explained(rlhf: Rlhf) -> None:
    outcome = rlhf("explain", "config=tiny", "optimizer.lr")
    assert outcome.out.splitlines() == [
        "optimizer.lr = 0.01",
        "  set by   configs/config/tiny.yaml:15",
        "  takes    number, above 0, below 1",
        "  means    Peak learning rate.",
    ]


@pytest.mark.parametrize(
    ("verb", "preset"), [(("sft",), "sft"), (("dpo",), "dpo"), (("reward", "train"), "reward_model")]
)
def test_the_settings_of_another_verb_are_explained(verb: tuple[str, ...], preset: str, rlhf: Rlhf) -> None:
    rows = {row["key"]: row for row in json.loads(rlhf("explain", *verb, "config=tiny", "patience=2", "--json").out)}
    assert (rows["patience"]["value"], rows["patience"]["set_by"]) == (2, "the command line: patience=2")
    assert "beta.value" not in rows
    assert rows["optimizer.lr"]["set_by"].startswith(f"configs/{preset}/tiny.yaml:")
    assert rows["steps"]["set_by"] == "configs/supervised.yaml:2"
    assert any(key.startswith("objective.") for key in rows)


def test_a_group_as_json(rlhf: Rlhf) -> None:
    rows = json.loads(rlhf("explain", "config=tiny", "evaluate", "--json").out)
    assert {row["key"] for row in rows} >= {"evaluate.every", "evaluate.prompts", "evaluate.samples"}
    assert rows[0].keys() == {"key", "value", "set_by", "rule", "meaning"}


def test_the_place_in_a_file_whose_path_has_a_quote_is_found(rlhf: Rlhf, tmp_path: Path) -> None:
    (tmp_path / "it's mine").mkdir()
    (tmp_path / "it's mine" / "my run.yaml").write_text("defaults: [tiny]\nsteps: 3\n")
    lines = rlhf("explain", "config=it's mine/my run.yaml", "steps").out.splitlines()
    assert lines[:2] == ["steps = 3", "  set by   it's mine/my run.yaml:2"]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("stepz",), "error: unknown setting 'stepz'; did you mean steps?\n"),
        (("a run",), "error: unknown setting 'a run'; resume='a run' goes on with a run\n"),
        (("sft", "config=tiny", "beta"), "error: unknown setting 'beta'; did you mean objective.beta?\n"),
        (("tiny",), "error: unknown setting 'tiny'; did you mean config=tiny?\n"),
        (("config=tiny", "model.path"), "error: model.path: model is tiny, which has no path; pretrained has it\n"),
        (("config=tiny", "data.where.level"), "error: unknown setting 'data.where.level'; did you mean data.where?\n"),
        (("resume=out",), "error: these are the settings of a new run (resume); fix: leave resume out\n"),
        (("config=tiny", "steps=x"), "error: steps: must be a whole number (got 'x')\n"),
    ],
)
def test_mistakes_are_one_line(argv: tuple[str, ...], said: str, rlhf: Rlhf, tmp_path: Path) -> None:
    (tmp_path / "a run").mkdir()
    (tmp_path / "a run" / "config.json").write_text("{}")
    outcome = rlhf("explain", *argv)
    assert (outcome.code, outcome.out, outcome.err) == (2, "", said)


def test_a_mapping_that_is_empty_is_shown(rlhf: Rlhf) -> None:
    assert any(line.split()[:2] == ["data.where", "{}"] for line in rlhf("explain", "config=tiny").out.splitlines())
    named = rlhf("explain", "config=tiny", "data.where").out.splitlines()
    assert named[0] == "data.where = {}"
    assert named[2] == "  takes    mapping"


@pytest.mark.parametrize(("kind", "allowed"), [("linear", "number, at least 0"), ("adaptive", "number, above 0")])
def test_the_range_is_that_of_the_chosen_kind(kind: str, allowed: str, rlhf: Rlhf) -> None:
    outcome = rlhf("explain", "config=tiny", f"beta={kind}", "beta.start")
    assert outcome.out.splitlines()[2] == f"  takes    {allowed}"


def test_the_kind_of_a_group_is_a_setting_too(rlhf: Rlhf) -> None:
    assert rlhf("explain", "config=tiny", "beta=linear", "beta.kind").out.splitlines()[:2] == [
        "beta.kind = linear",
        "  set by   configs/beta/linear.yaml:2 (beta=linear)",
    ]


def test_a_value_of_a_mapping_has_its_own_type_and_the_meaning_of_the_mapping(rlhf: Rlhf) -> None:
    weighted = ("reward=weighted", "+reward@reward.parts.short=length", "reward.weights.short=0.5")
    lines = rlhf("explain", "config=tiny", *weighted, "reward.weights").out.splitlines()
    assert lines[2:4] == [
        "  takes    number",
        "  means    The factor of each part's score; a negative weight punishes.",
    ]
