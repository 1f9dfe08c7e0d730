"""Scores of rollouts: what the reward is asked, which prompts are left out, and how scores are shaped."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from rlhf_cli.errors import UserError
from rlhf_cli.rewards import Reward
from rlhf_cli.rewards.execution.retrying import RetryingSource, ScoreRequest, SourceScores
from rlhf_cli.rewards.execution.scorer import Scorer, Scores, join_scores
from tests.unit.support import SHAPING, rollout_of

TEXTS = ["a", "b", "", "d\n\x1b"]
MASK = [[1, 1], [1, 0], [1, 1], [1, 1]]

Answering = Callable[..., list[ScoreRequest]]


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Answering:
    """`answering([1.0, None, ...])`: the source's answer from now on; returns the list of what it is asked."""

    def answer(scores: Sequence[float | None], failures: dict[int, str] | None = None) -> list[ScoreRequest]:
        requests: list[ScoreRequest] = []

        def score(self: RetryingSource, request: ScoreRequest) -> SourceScores:
            requests.append(request)
            return SourceScores(list(scores), failures or {}, retries=2)

        monkeypatch.setattr(RetryingSource, "score", score)
        return requests

    return answer


def scorer_of(**changes: Any) -> Scorer:
    return Scorer(Reward.model_validate({"kind": "sentiment", **SHAPING, **changes}), [], None)


def test_every_completion_is_scored_with_its_own_prompt(answering: Answering) -> None:
    requests = answering([1.0, 0.5, -0.0, 1e18])
    tick = list[None]().clear
    scores = scorer_of().score(rollout_of(MASK, samples=2, texts=TEXTS), seed=3, tick=tick, where="step 7")
    assert scores.values == (1.0, 0.5, 0.0, 1e18)
    assert (scores.left_out, scores.parts, scores.failures, scores.retries) == (set(), {}, 0, 2)
    assert scores.first_failure is None
    (request,) = requests
    assert [row.shown for row in request.prompts] == ["prompt 0", "prompt 0", "prompt 1", "prompt 1"]
    assert list(request.completions) == TEXTS
    assert request.token_ids == [[0, 0], [0], [0, 0], [0, 0]]
    assert (request.seed, request.tick, request.where) == (3, tick, "step 7")


@pytest.mark.parametrize(
    ("answers", "left_out", "values"),
    [
        ([None, 1.0, 2.0, 3.0], {0}, (2.0, 3.0)),
        ([0.0, 1.0, 2.0, None], {1}, (0.0, 1.0)),
        ([0.0, None, None, 3.0], {0, 1}, ()),
        ([None] * 4, {0, 1}, ()),
    ],
)
def test_a_prompt_with_a_completion_without_a_score_is_left_out(
    answering: Answering, answers: list[float | None], left_out: set[int], values: tuple[float, ...]
) -> None:
    failures = {row: f"no score for {row}" for row, score in enumerate(answers) if score is None}
    answering(answers, failures)
    scores = scorer_of().score(rollout_of(MASK, samples=2), seed=3, tick=lambda: None, where="step 7")
    assert (scores.left_out, scores.values) == (left_out, values)
    assert (scores.failures, scores.first_failure) == (len(failures), f"no score for {min(failures)}")


def test_a_failure_that_costs_a_value_leaves_nothing_out(answering: Answering) -> None:
    answering([1.0, -7.0, 1.0, -7.0], {3: "the last", 1: "the second"})
    scores = scorer_of().score(rollout_of(MASK, samples=2), seed=3, tick=lambda: None, where="step 7")
    assert (scores.left_out, scores.values) == (set(), (1.0, -7.0, 1.0, -7.0))
    assert (scores.failures, scores.first_failure) == (2, "the second")


def test_scores_are_shaped_by_length_and_end_and_the_sources_own_are_kept_beside_them(answering: Answering) -> None:
    answering([None, 5.0, 1.0, -2.0, 0.5, 0.5], {0: "one"})
    mask = [[1, 1], [1, 1], [1, 1], [1, 0], [1, 0], [1, 1]]
    rollout = rollout_of(mask, samples=2, truncated=[False, False, True, False, False, True])
    scorer = scorer_of(clip=(-1.0, 0.75), length_penalty=0.5, truncated="penalty", truncated_penalty=4.0)
    scores = scorer.score(rollout, seed=3, tick=lambda: None, where="step 7")
    # clipped, two tokens and cut; clipped, one token; one token; two tokens and cut
    assert scores.values == (0.75 - 1 - 4, -1 - 0.5, 0.5 - 0.5, 0.5 - 1 - 4)
    assert scores.parts == {"raw": (1.0, -2.0, 0.5, 0.5)}
    assert (scores.left_out, scores.failures, scores.retries, scores.first_failure) == ({0}, 1, 2, "one")


def test_a_penalty_too_large_for_training_is_refused(answering: Answering) -> None:
    answering([1.0, 0.5])
    with pytest.raises(UserError, match=r"with its penalties is -1e\+300 \(the limit is 1e\+18\) \(step 7\); fix: "):
        scorer_of(length_penalty=1e300).score(rollout_of([[1]] * 2), seed=3, tick=lambda: None, where="step 7")


def test_the_sources_own_scores_come_before_the_parts() -> None:
    parts = {"a": {"kind": "characters", "characters": "a"}, "c": {"kind": "characters", "characters": "c"}}
    given = {"kind": "weighted", "parts": parts, "weights": {"a": 1.0, "c": 2.0}, **SHAPING}
    rollout = rollout_of([[1]] * 3, texts=["a", "c", "x"])
    for shaping, raw in (({}, {}), ({"clip": [0.0, 1.5]}, {"raw": (1.0, 2.0, 0.0)})):
        scorer = Scorer(Reward.model_validate(given | shaping), [], None)
        scores = scorer.score(rollout, seed=0, tick=lambda: None, where="step 1")
        assert scores.values == (1.0, 1.5 if raw else 2.0, 0.0)
        assert list(scores.parts.items()) == [*raw.items(), ("a", (1.0, 0.0, 0.0)), ("c", (0.0, 1.0, 0.0))]


def test_the_scores_of_several_rollouts_are_one() -> None:
    """Of three prompts each: prompt 1 of the second rollout is prompt 4 of all."""
    first = Scores((1.0, 2.0), frozenset({2}), {"a": (3.0, 4.0)}, failures=1, retries=2, first_failure=None)
    second = Scores((5.0,), frozenset({0, 1}), {"a": (6.0,)}, failures=2, retries=1, first_failure="no answer")
    third = Scores((7.0, 8.0), frozenset({1}), {"a": (9.0, 9.5)}, failures=1, retries=0, first_failure="another")
    assert join_scores([first], 3) == first
    assert join_scores([first, second, third], 3) == Scores(
        (1.0, 2.0, 5.0, 7.0, 8.0), frozenset({2, 3, 4, 7}), {"a": (3.0, 4.0, 6.0, 9.0, 9.5)}, 4, 3, "no answer"
    )


@pytest.mark.parametrize(
    ("hashes", "expected"),
    [
        ([], None),
        ([None], None),
        (["a"], "a"),
        ([None, "a"], "a"),
        (["a", "b"], hashlib.sha256(b"a b").hexdigest()),
        (["a", None, "b", "c"], hashlib.sha256(b"a b c").hexdigest()),
    ],
)
def test_a_reward_of_one_function_has_its_hash_and_one_of_several_a_hash_of_theirs(
    hashes: list[str | None], expected: str | None
) -> None:
    scorer: Any = scorer_of()
    scorer._sources = {str(place): SimpleNamespace(sha256=own) for place, own in enumerate(hashes)}
    assert scorer.sha256 == expected
