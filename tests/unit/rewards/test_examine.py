"""The checks find what was planted in a reward, and nothing else."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlhf_cli.rewards.checks import Finding, check_variance
from rlhf_cli.rewards.examine import Examination, Group, examine
from rlhf_cli.rewards.kinds import SingleSource
from rlhf_cli.rewards.kinds.characters import Characters
from rlhf_cli.rewards.kinds.python import Python
from rlhf_cli.rewards.kinds.weighted import Weighted
from rlhf_cli.types import PromptRow

WORDS = ("a", "bb b", "c", "dd", "e eee", "ff", "ggg gg", "h", "i ii", "jj")
GROUPS = [Group(PromptRow(f"p{n}", {}, f"c.jsonl:{n}"), (f"{w} x{n}", f"{w}y z", f"{n}{w} q q")) for n, w in
          enumerate(WORDS, start=1)]  # fmt: skip

Planted = Callable[..., Examination]


def examined(source: SingleSource | Weighted, groups: list[Group] = GROUPS, **changes: Any) -> Examination:
    settings: dict[str, Any] = {"batch": 8, "slow_s": 1.0, "seed": 0}
    return examine(source, groups, **settings | changes)


@pytest.fixture
def planted(tmp_path: Path) -> Planted:
    """`planted(code)`: what is found about its function `f`."""

    def of(code: str, groups: list[Group] = GROUPS, best: float | None = None, **changes: Any) -> Examination:
        (tmp_path / "r.py").write_text(textwrap.dedent(code))
        settings = {"timeout_s": 20.0, "retries": 0, "on_error": "stop", "error_value": 0.0, "best": best}
        return examined(Python(kind="python", function=f"{tmp_path}/r.py:f", **settings), groups, **changes)

    return of


def of(found: Examination, check: str) -> tuple[str, str]:
    (finding,) = [finding for finding in found.findings if finding.check == check]
    return finding.verdict, finding.said


def not_ok(found: Examination) -> set[str]:
    return {finding.check for finding in found.findings if finding.verdict != "ok"}


SOUND = "def f(completions):\n    return [(sum(map(ord, text)) * 7919 % 101) / 101 for text in completions]\n"


def test_a_sound_reward_is_found_sound(planted: Planted) -> None:
    found = planted(SOUND)
    assert not_ok(found) == set()
    assert found.verdict == "ok"
    assert (found.prompts, found.completions, found.reward) == (10, 30, "r.py:f")
    assert found.scores[1] == [(sum(map(ord, text)) * 7919 % 101) / 101 for text in GROUPS[1].texts]
    assert found.call_s["completions"] == 8


@pytest.mark.parametrize(("expression", "way"), [("len(text)", "longer"), ("-len(text) ** 3", "shorter")])
def test_length_in_disguise(planted: Planted, expression: str, way: str) -> None:
    found = planted(f"def f(completions):\n    return [{expression} for text in completions]\n")
    verdict, said = of(found, "length")
    assert verdict == "look"
    assert f"1.00 with the length in characters: {way} completions score higher" in said
    assert not_ok(found) == {"length"}


def test_a_score_that_depends_on_its_batch(planted: Planted) -> None:
    rank = "def f(completions):\n    return [sorted(completions).index(text) for text in completions]\n"
    found = planted(rank)
    assert of(found, "batch")[0] == found.verdict == "wrong"
    assert "scores differ when the completion is alone, by up to 7: " in of(found, "batch")[1]
    assert of(found, "determinism")[0] == "ok"


def test_one_that_is_slow(planted: Planted) -> None:
    found = planted("import time\n" + SOUND.replace("    return", "    time.sleep(0.05)\n    return"), slow_s=0.04)
    assert not_ok(found) == {"latency"}
    assert of(found, "latency")[1].endswith("a call of 8: more than 40 ms, every step waits for it")
    assert found.call_s["p99"] >= found.call_s["p50"] >= 0.05


def test_one_that_cannot_be_repeated(planted: Planted) -> None:
    found = planted(
        """
        from itertools import count
        calls = count()
        def f(completions):
            number = next(calls)
            return [float(len(text) * 31 % 17 + number) for text in completions]
        """
    )
    assert of(found, "determinism")[0] == "wrong"
    assert "30 of 30 scores differ when asked again" in of(found, "determinism")[1]
    assert of(found, "batch") == ("look", "cannot be told apart from the reward's own changes")


def test_one_that_is_another_in_every_process(planted: Planted) -> None:
    found = planted(SOUND.replace("* 7919", "* (7919 + os.getpid())").replace("def f", "import os\ndef f"))
    verdict, said = of(found, "determinism")
    assert verdict == "wrong"
    assert "scores differ when asked in a new process" in said


def test_one_that_draws_lots_is_repeatable_by_its_seed(planted: Planted) -> None:
    found = planted("import random\ndef f(completions):\n    return [random.random() for _ in completions]\n")
    verdict, said = of(found, "determinism")
    assert (verdict, said.startswith("repeatable, but 30 of 30 scores depend on the seed")) == ("look", True)
    assert found.verdict == "look"


def test_one_that_has_no_score_the_second_time(planted: Planted) -> None:
    found = planted(
        """
        seen = set()
        def f(completions):
            return [None if text in seen or seen.add(text) else 1.0 for text in completions]
        """
    )
    assert "scores differ when asked again, and some are missing: " in of(found, "determinism")[1]


def test_failures_are_counted_and_the_first_is_told(planted: Planted) -> None:
    found = planted(
        "def f(completions):\n    return [None if 'x' in text else len(text) % 3 for text in completions]\n"
    )
    verdict, said = of(found, "exceptions")
    assert verdict == "wrong"
    first = "r.py:f gave None for the completion 'a x1' (c.jsonl:1)"
    assert said == f"10 of 30 have no usable score; the first: {first}"
    assert found.scores[0][0] is None
    assert of(found, "determinism")[0] == of(found, "batch")[0] == "ok"


def test_the_ties_of_many_completions_of_one_prompt() -> None:
    # 50,000 of each of two scores: all pairs within them are ties, (10^5 / 2 - 1) / (10^5 - 1) of all
    group = [0.0, 1.0] * 50_000
    said = "0% of the groups have no variance, 50% of the pairs in them are ties"
    assert check_variance([group]) == Finding("variance", "ok", said)


def test_scores_that_differ_by_float32s_rounding_have_no_variance() -> None:
    said = "50% of the groups have no variance, 0% of the pairs in them are ties: nothing is learned from such groups"
    assert check_variance([[-0.3, -0.29999998], [-0.3, -0.299999]]) == Finding("variance", "look", said)


def test_ties_and_groups_without_variance(planted: Planted) -> None:
    found = planted("def f(prompts, completions):\n    return [int(p[1:]) > 4 and 'y' in t for p, t in "
                    "zip(prompts, completions)]\n")  # fmt: skip
    # of ten groups the first four are all 0; the others have scores 0, 1, 0: one tie in three pairs
    assert of(found, "variance") == ("ok", "40% of the groups have no variance, 60% of the pairs in them are ties")
    same = planted("def f(completions):\n    return [1.0 for _ in completions]\n")
    assert of(same, "variance")[0] == "look"
    alone = planted(SOUND, [Group(GROUPS[0].row, ("a",)), Group(GROUPS[1].row, ("b",))])
    assert of(alone, "variance")[1] == "no prompt has two completions with a score: nothing to compare"


def test_a_score_above_the_highest_there_is_said_to_be(planted: Planted) -> None:
    assert of(planted(SOUND, best=0.5), "range")[0] == "wrong"
    assert of(planted(SOUND, best=1.0), "range")[0] == "ok"


def test_no_score_at_all(planted: Planted) -> None:
    found = planted("def f(completions):\n    return [None for _ in completions]\n")
    assert of(found, "range") == ("wrong", "there is no score")
    assert of(found, "length")[0] == "ok"


def test_parts_are_lenient_too(tmp_path: Path) -> None:
    (tmp_path / "r.py").write_text("def f(completions):\n    return [None for _ in completions]\n")
    settings = {"timeout_s": 20.0, "retries": 0, "on_error": "stop", "error_value": 0.0, "best": None}
    parts: dict[str, SingleSource] = {
        "mine": Python(kind="python", function=f"{tmp_path}/r.py:f", **settings),
        "letters": Characters(kind="characters", characters="abc"),
    }
    found = examined(Weighted(kind="weighted", parts=parts, weights={"mine": 1.0, "letters": 1.0}))
    assert of(found, "exceptions")[0] == "wrong"
    assert found.reward == "r.py:f + reward.parts.letters=characters"
