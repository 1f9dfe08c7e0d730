"""docs/json.md is what `--json` prints: every key of it, for every verb that has the option."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rlhf_cli
from rlhf_cli.cli import ROOM_OF
from rlhf_cli.commands.parts.harnessing import Harnessed
from rlhf_cli.display.verbs.explain import Setting
from rlhf_cli.evaluation.dial import DialPoint
from rlhf_cli.evaluation.oracle import Oracle
from rlhf_cli.evaluation.sides import Sides
from rlhf_cli.prompts.preview import Preview
from rlhf_cli.rewards.examine import Examination
from rlhf_cli.runs.result import Result
from rlhf_cli.supervised.result import SupervisedResult
from rlhf_cli.sweep.answer import Answer, Grid
from rlhf_cli.sweep.outcome import LeftOut
from rlhf_cli.sweep.points import Point
from rlhf_cli.sweep.power import Needed
from rlhf_cli.verify.gradient import Verification
from rlhf_cli.verify.trial import Trial
from tests.support import QUICK, Outcome

Rlhf = Callable[..., Outcome]
PACKAGE = Path(rlhf_cli.__file__).parent
PAGE = PACKAGE.parent / "docs" / "json.md"
ROW = re.compile(r"^\| `([^`]+)` \| [^|]+ \| (.+) \|$", re.MULTILINE)
PROMISED = {verb: re.findall(r"`(\w+)`", keys) for verb, keys in ROW.findall(PAGE.read_text(encoding="utf-8"))}
OF_TRAINING = {
    line.replace("`", ""): re.findall(r"`(\w+)`", keys)
    for line, keys in re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
}
"""The keys of the lines that `display=json` prints."""


def names(kind: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]


FIXED = {
    "check": names(Trial),
    "explain": list(Setting._fields),
    "data show": names(Preview),
    "oracle": names(Oracle),
    "oracle RUN": names(DialPoint),
    "verify-gradient": names(Verification),
    "reward test": [*names(Examination), "verdict"],
    "eval": ["a", "b", "decoding", *names(Sides)],
    "eval --harness": names(Harnessed),
    "push": ["url"],
}
"""Verbs whose JSON is a type with at most some keys beside it; their own tests read it."""

TYPES = {
    "result of train": Result,
    "result of other training": SupervisedResult,
    "the answer of a sweep": Answer,
    "one of points": Point,
    "one of left_out": LeftOut,
    "needed": Needed,
    "grid": Grid,
}
PRINTED = {
    "presets list": ("presets", "list"),
    "runs": ("runs", "RUN"),
    "generate": ("generate", "RUN", "Name a tool."),
    "chat": ("chat", "RUN", "--reference"),
    "label": ("label", "RUN"),
    "doctor RUN": ("doctor", "RUN"),
    "merge": ("merge", "RUN", "merged"),
    "export": ("export", "RUN", "m.gguf"),
    "report": ("report", "RUN", "--output", "page.html"),
    "verify-resume": ("verify-resume", "RUN"),
    "audit": ("audit", "RUN"),
}


@pytest.mark.parametrize("verb", FIXED)
def test_the_type_of_a_result_has_the_keys(verb: str) -> None:
    assert PROMISED[verb] == FIXED[verb]


@pytest.mark.parametrize("verb", PRINTED)
def test_a_result_has_the_keys(
    verb: str, finished: Path, rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("Hi.\n"))
    shutil.copytree(finished, tmp_path / "out")  # label leaves pairs in it
    outcome = rlhf(*(word.replace("RUN", "out") for word in PRINTED[verb]), "--json")
    assert outcome.code == 0, outcome.err
    found = json.loads(outcome.out)
    assert list(found[0] if isinstance(found, list) else found) == PROMISED[verb]


@pytest.mark.parametrize("line", TYPES)
def test_the_type_of_a_line_has_the_keys(line: str) -> None:
    assert OF_TRAINING[line] == names(TYPES[line])


def test_a_sweep_prints_its_trials_and_its_answer(forked: Rlhf) -> None:
    sweep = ("steps=2", "evaluate.every=2", "display=json", "sweep_dir=s", "-m", "beta=0.01,0.1", "temperature=1,1.1")
    outcome = forked("train", *QUICK, *sweep)
    assert outcome.code == 0, outcome.err
    *trials, answer = [json.loads(line, parse_constant=pytest.fail) for line in outcome.out.splitlines()]
    assert [list(trial)[:4] for trial in trials] == [OF_TRAINING["a trial that ended"]] * 4
    assert list(answer) == OF_TRAINING["the answer of a sweep"]
    assert list(answer["points"][0]) == OF_TRAINING["one of points"]
    assert list(answer["grid"]) == OF_TRAINING["grid"]
    assert (answer["recommended"] is None) == (answer["needed"] is not None)


def test_the_end_of_a_run(finished: Path, rlhf: Rlhf, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "out")
    end = json.loads(rlhf("train", "resume=out", "display=json").out)
    assert list(end) == OF_TRAINING["the end of a run"]
    assert list(end["result"]) == [key for key in OF_TRAINING["result of train"] if key != "stopped"]


def test_the_page_has_every_verb_with_the_option() -> None:
    modules = {verb: PACKAGE / "commands" / room / f"{verb.replace('-', '_')}.py" for verb, room in ROOM_OF.items()}
    adds = ('"--json"', "exporting import add_arguments")  # merge and export share theirs
    takers = {verb for verb, file in modules.items() if any(text in file.read_text(encoding="utf-8") for text in adds)}
    assert {verb.split()[0] for verb in PROMISED} == takers
    assert set(PROMISED) == {*FIXED, *PRINTED}
