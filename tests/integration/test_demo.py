"""`rlhf demo`: the lecture through a pipe, as a page, and its mistakes."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import pytest

from rlhf_cli.algorithms import Algorithm
from rlhf_cli.commands.planning.demo import MODULES
from rlhf_cli.demo import ascent, toy_example, trick
from rlhf_cli.demo.lecture import OPENING, TIPS
from rlhf_cli.demo.soup import BETA
from tests.support import Outcome

Rlhf = Callable[..., Outcome]
FEW = 4


@cache
def ascend(algorithm: Algorithm, beta: float, steps: int, seed: int) -> ascent.Ascent:
    """An ascent that stands still after FEW steps."""
    run = ascent.ascend(algorithm, beta, FEW, seed)
    more = steps - FEW
    return replace(
        run,
        objective=[*run.objective, *[run.objective[-1]] * more],
        policy=[*run.policy, *[run.policy[-1]] * more],
        clip_fraction=[*run.clip_fraction, *[run.clip_fraction[-1]] * more],
    )


@pytest.fixture(autouse=True, scope="module")
def scenes_are_computed_once() -> Iterator[None]:
    """They are the same every time, and take seconds; here all steps after the first few stand still."""
    with pytest.MonkeyPatch.context() as patch:
        for name in MODULES.values():
            module = importlib.import_module(f"rlhf_cli.demo.{name}")
            patch.setattr(module, "scene", cache(module.scene))
            if hasattr(module, "ascend"):
                patch.setattr(module, "ascend", ascend)
        patch.setattr(trick, "SIZES", trick.SIZES[:9])
        yield


def test_one_scene_through_a_pipe(rlhf: Rlhf) -> None:
    outcome = rlhf("demo", "c", "--fast")
    assert outcome.code == 0
    assert "clipped surrogate" in outcome.out
    assert "rlhf_cli/functional/losses.py" in outcome.out
    assert "\x1b" not in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 80
    assert "log-derivative" not in outcome.out
    assert outcome.err.startswith("loading torch ...\n")


def test_the_whole_lecture_as_a_page(rlhf: Rlhf, tmp_path: Path) -> None:
    outcome = rlhf("demo", "--fast", "--html", "demo.html")
    assert (outcome.code, outcome.out) == (0, "written to demo.html\n")
    text = (tmp_path / "demo.html").read_text(encoding="utf-8")
    root = ElementTree.fromstring(text.removeprefix("<!doctype html>"))
    headings = [heading.text or "" for heading in root.iter("h2")]
    assert headings[:5] == [scene.heading for scene in OPENING]
    assert headings[-1] == TIPS.heading
    ideas = [int(heading[0]) for heading in headings if heading[1] == "."]
    assert ideas == [1, 2, 3, 4, 5, 6, 7, 8]
    assert len(list(root.iter("{http://www.w3.org/2000/svg}svg"))) == 10
    climbed = ascend(toy_example.ALGORITHMS[toy_example.CHOSEN], BETA, 60, 0)
    assert f"{toy_example.CHOSEN} {climbed.percent:.1f} %" in text
    assert len(toy_example.scene(True).frames) == toy_example.FRAMES + 1
    assert not re.search(r"https?:|<script|<link|<img", text.replace('xmlns="http://www.w3.org/2000/svg"', ""))
    assert len(text) < 300_000


def test_scenes_come_in_the_order_of_the_lecture(rlhf: Rlhf) -> None:
    out = rlhf("demo", "c", "a", "a", "--fast").out
    assert out.count("6. The log-derivative trick") == 1
    assert out.index("6. The log-derivative trick") < out.index("2, once more")


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        (["e"], 2, "error: argument SCENE: no scene e; have a, b, c, d (rlhf demo); fix: rlhf demo --help\n"),
        (["--html"], 2, "error: argument --html: expected one argument (rlhf demo); fix: rlhf demo --help\n"),
        (["--html", "no/such.html"], 6, "error: no such folder (no); fix: make it, or name another path\n"),
        (["c", "--fast", "--html", "."], 6, "error: a folder, and no file for a page (.); fix: --html FILE\n"),
    ],
)
def test_mistakes_are_one_line(argv: list[str], code: int, said: str, rlhf: Rlhf) -> None:
    outcome = rlhf("demo", *argv)
    assert outcome.code == code
    assert outcome.err.splitlines(keepends=True)[-1] == said
