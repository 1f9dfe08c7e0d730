"""The rules that read metrics: each at its limit and next to it, and its evidence word by word."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any

import pytest

from rlhf_cli.health import steps
from rlhf_cli.health.course import WINDOW, Concern, Course, Row, Trend
from tests.unit.health.samples import CONFIG

OTHER = CONFIG | {"reference": {"kind": "model"}}
LOWER_LR, MORE_BETA = "optimizer.lr=0.0002", "beta=0.2"


def course(first: Row, *now: Row, learned: int = 20, config: Row = CONFIG, trend: Trend | None = None) -> Course:
    """A course whose metrics are those of one row at the start, and of the rows now."""
    return Course(config, learned, learned, trend=trend or Trend(), start=[first], recent=deque(now, maxlen=WINDOW))


def line(z: float) -> Trend:
    """A line whose slope is z standard errors: of three values, with xx = 1 and a residual variance of 1."""
    return Trend(count=3, xx=1.0, xy=z, yy=z * z + 1)


class TestEntropyCollapse:
    @pytest.mark.parametrize(
        ("before", "now", "collapsed"),
        [
            (4.0, 0.4, True),  # a tenth
            (4.0, 0.41, False),
            (0.1, 0.02, True),
            (0.1, 0.021, False),
        ],
    )
    def test_limits(self, before: float, now: float, collapsed: bool) -> None:
        found = steps.entropy_collapse(course({"policy/entropy": before}, {"policy/entropy": now}, learned=10))
        evidence = f"entropy {now:g} nats a token over 10 steps; {before:g} in the first 5"
        assert found == (Concern(evidence, MORE_BETA) if collapsed else None)

    def test_nine_steps_are_too_few(self) -> None:
        assert steps.entropy_collapse(course({"policy/entropy": 4.0}, {"policy/entropy": 0.0}, learned=9)) is None

    def test_without_its_start_or_its_present_it_is_silent(self) -> None:
        assert steps.entropy_collapse(course({}, {"policy/entropy": 0.0})) is None
        assert steps.entropy_collapse(course({"policy/entropy": 4.0}, {})) is None

    @pytest.mark.parametrize(
        ("temperature", "more", "override"), [(0.5, "", MORE_BETA), (0.49, "; temperature 0.49", "temperature=1")]
    )
    def test_a_temperature_below_a_half_explains_it(self, temperature: float, more: str, override: str) -> None:
        now = {"policy/entropy": 0.4, "temperature": temperature}
        evidence = f"entropy 0.4 nats a token over 10 steps; 4 in the first 5{more}"
        assert steps.entropy_collapse(course({"policy/entropy": 4.0}, now)) == Concern(evidence, override)


class TestKlRunaway:
    @pytest.mark.parametrize(
        ("entropy", "kl", "runs"),
        [
            (4.0, 2.0, False),  # half of the entropy
            (4.0, 2.01, True),
            (0.1, 0.25, False),  # half of the least entropy, 0.5
            (0.1, 0.26, True),
        ],
    )
    def test_the_share_of_the_entropy(self, entropy: float, kl: float, runs: bool) -> None:
        found = steps.kl_runaway(course({"policy/entropy": entropy}, {"kl/tok": kl, "kl/seq": 30.0}, learned=10))
        evidence = f"KL {kl:g} nats a token over 10 steps (30 a completion); the entropy was {entropy:g} at first"
        assert found == (Concern(evidence, MORE_BETA) if runs else None)

    @pytest.mark.parametrize("now", [{"kl/tok": 9.0}, {"kl/seq": 30.0}], ids=str)
    def test_without_a_metric_it_is_silent(self, now: Row) -> None:
        assert steps.kl_runaway(course({"policy/entropy": 4.0}, now)) is None

    def test_nine_steps_are_too_few(self) -> None:
        now = {"kl/tok": 9.0, "kl/seq": 30.0}
        assert steps.kl_runaway(course({"policy/entropy": 4.0}, now, learned=9)) is None

    @pytest.mark.parametrize(("before", "runs"), [(3.0, False), (2.9, True)])
    def test_a_policy_that_comes_nearer_to_another_model_does_not_run_away(self, before: float, runs: bool) -> None:
        first, now = {"policy/entropy": 4.0, "kl/tok": before}, {"kl/tok": 3.0, "kl/seq": 30.0}
        assert (steps.kl_runaway(course(first, now, config=OTHER)) is not None) == runs
        assert steps.kl_runaway(course(first, now)) is not None

    def test_a_start_that_is_not_known_counts_as_near(self) -> None:
        now = {"kl/tok": 0.9, "kl/seq": 30.0}
        assert steps.kl_runaway(course({"policy/entropy": 0.5}, now, config=OTHER)) is not None

    @pytest.mark.parametrize(
        ("kl", "objective", "reward", "learned", "costs"),
        [
            (1.0, -4.5, 0.0, 15, True),
            (0.99, -4.5, 0.0, 15, False),  # a KL that small costs little
            (1.0, -4.0, 0.0, 15, False),  # four standard errors of 1
            (1.0, -4.5, -0.25, 15, False),  # the reward fell as well
            (1.0, -4.5, 0.0, 14, False),
        ],
    )
    def test_the_cost(self, kl: float, objective: float, reward: float, learned: int, costs: bool) -> None:
        first = {"objective": 0.0, "objective_se": 0.0, "reward/mean": 0.5, "reward/mean_se": 0.1}
        now = {"objective": objective, "objective_se": 1.0, "reward/mean": 0.5 + reward, "reward/mean_se": 0.1}
        found = steps.kl_runaway(course(first, now | {"kl/tok": 0.01, "kl/seq": kl}, learned=learned))
        evidence = "J -4.5 over 10 steps, +0 in the first 5: reward +0, KL 1 nats a completion"
        assert found == (Concern(evidence, LOWER_LR) if costs else None)

    @pytest.mark.parametrize("missing", ["objective", "reward/mean"])
    def test_a_cost_without_a_metric_is_not_known(self, missing: str) -> None:
        now = {"objective": -9.0, "objective_se": 1.0, "reward/mean": 0.5, "reward/mean_se": 0.1}
        first = now | {"objective": 0.0}
        now |= {"kl/tok": 0.01, "kl/seq": 1.0}
        assert steps.kl_runaway(course(first, now)) is not None
        assert steps.kl_runaway(course(first, {k: v for k, v in now.items() if k != missing})) is None


class TestTruncation:
    @pytest.mark.parametrize(("share", "learned", "cut"), [(0.9, 10, True), (0.89, 10, False), (1.0, 9, False)])
    def test_limits(self, share: float, learned: int, cut: bool) -> None:
        row = {"completion/truncated": share}
        evidence = "90% of the completions of 10 steps are cut; 90% in the first 5"
        found = steps.truncation(course(row, row, learned=learned))
        assert found == (Concern(evidence, "max_new_tokens=64") if cut else None)

    def test_a_start_that_is_not_known_is_not_told(self) -> None:
        found = steps.truncation(course({}, {"completion/truncated": 1.0}, config={}))
        assert found == Concern("100% of the completions of 10 steps are cut", "a larger max_new_tokens")


class TestZeroVariance:
    @pytest.mark.parametrize(("share", "learned", "same"), [(0.8, 10, True), (0.79, 10, False), (1.0, 9, False)])
    def test_limits(self, share: float, learned: int, same: bool) -> None:
        found = steps.zero_variance(course({}, {"reward/same_in_group": share, "reward/mean": 0.25}, learned=learned))
        evidence = "80% of the groups of 10 steps have one score (mean reward 0.25)"
        assert found == (Concern(evidence, "samples_per_prompt=8, or other prompts") if same else None)

    def test_without_a_reward_its_mean_is_shown_as_zero(self) -> None:
        found = steps.zero_variance(course({}, {"reward/same_in_group": 1.0}, config={}))
        evidence = "100% of the groups of 10 steps have one score (mean reward 0)"
        assert found == Concern(evidence, "more samples_per_prompt, or other prompts")


@pytest.mark.parametrize(("share", "apart"), [(0.8, False), (0.79, True)])
def test_sampler_parting(share: float, apart: bool) -> None:
    row: dict[str, Any] = {"sampler/effective_share": share}
    evidence = "the samples of 10 steps are worth 79% of their number"
    assert steps.sampler_parting(course({}, row)) == (Concern(evidence, "dtype=float32") if apart else None)
    with_gap = steps.sampler_parting(course({}, row | {"sampler/gap": 0.5}))
    assert with_gap == (Concern(f"{evidence}, 0.5 nats apart at most", "dtype=float32") if apart else None)


@pytest.mark.parametrize(
    ("kl", "learned", "more", "still"),
    [
        (9e-4, 20, {}, True),
        (1e-3, 20, {}, False),
        (9e-4, 19, {}, False),
        (9e-4, 20, {"reward/same_in_group": 0.79}, True),
        (9e-4, 20, {"reward/same_in_group": 0.8}, False),  # no score tells it what to do
    ],
)
def test_lr_too_small(kl: float, learned: int, more: Row, still: bool) -> None:
    now = course({}, {"kl/seq": kl, **more}, learned=learned)
    evidence = "KL 0.0009 nats a completion after 20 steps"
    assert steps.lr_too_small(now) == (Concern(evidence, "optimizer.lr=0.006") if still else None)
    assert steps.lr_too_small(replace(now, config=OTHER)) is None


@pytest.mark.parametrize(
    ("entropy", "rise", "large"),
    [
        (4.0, 0.16, True),  # 4 % of it
        (4.0, 0.159, False),
        (0.1, 0.02, True),  # of the least entropy, 0.5
        (0.1, 0.019, False),
    ],
)
def test_lr_too_large(entropy: float, rise: float, large: bool) -> None:
    rows = [{"step": 7, "kl/tok": 0.0}, {"step": 8, "kl/tok": rise}, {"step": 9, "kl/tok": rise}]
    found = steps.lr_too_large(course({"policy/entropy": entropy}, *rows))
    assert found == (Concern(f"KL rose by {rise:g} nats a token in step 8", LOWER_LR) if large else None)


def test_one_step_has_no_rise() -> None:
    assert steps.lr_too_large(course({"policy/entropy": 4.0}, {"step": 7, "kl/tok": 9.0})) is None


class TestNothingLearnt:
    def found(self, now: Row, z: float = 0.0, learned: int = 20, config: Row = CONFIG) -> Concern | None:
        first, flat = ({"reward/mean": 0.5, "reward/mean_se": error} for error in (0.0, 1.0))
        return steps.nothing_learnt(course(first, {**flat, **now}, learned=learned, config=config, trend=line(z)))

    def test_evidence(self) -> None:
        evidence = "reward 0.5 over 10 steps, 0.5 in the first 5; its slope over 20 steps is +0.0 standard errors"
        assert self.found({}) == Concern(evidence, "optimizer.lr=0.0018")

    @pytest.mark.parametrize(
        ("steps", "learned", "enough"),
        [(40, 20, True), (40, 19, False), (10, 19, False), (60, 30, True), (60, 29, False)],
    )
    def test_half_of_the_steps_and_twenty(self, steps: int, learned: int, enough: bool) -> None:
        assert (self.found({}, learned=learned, config=CONFIG | {"steps": steps}) is not None) == enough

    @pytest.mark.parametrize(
        ("z", "gain", "flat"), [(1.0, 0.0, False), (0.9, 0.9, True), (0.0, 1.0, False), (-2.0, -1.0, True)]
    )
    def test_a_gain_of_one_standard_error_in_either_is_enough(self, z: float, gain: float, flat: bool) -> None:
        assert (self.found({"reward/mean": 0.5 + gain}, z) is not None) == flat

    @pytest.mark.parametrize(
        ("more", "flat"),
        [
            ({"kl/seq": 1e-3}, True),
            ({"kl/seq": 9e-4}, False),  # lr too small
            ({"reward/same_in_group": 0.79}, True),
            ({"reward/same_in_group": 0.8}, False),  # zero-variance groups
        ],
    )
    def test_a_cause_that_has_a_rule_of_its_own(self, more: Row, flat: bool) -> None:
        assert (self.found(more) is not None) == flat

    @pytest.mark.parametrize(("z", "falls"), [(-3.0, False), (-3.5, True)])
    def test_a_reward_that_falls_by_three_standard_errors(self, z: float, falls: bool) -> None:
        found = self.found({}, z)
        assert found is not None
        assert found.override.startswith("rlhf reward test") == falls
        assert found.evidence.endswith(f"over 20 steps is {z:+.1f} standard errors{': it falls' * falls}")

    def test_a_run_without_a_reward_is_not_to_learn_one(self) -> None:
        assert self.found({}, config=CONFIG | {"reward": {"kind": "none"}}) is None
        assert self.found({}, config=CONFIG | {"reward": {"kind": "words"}}) is not None
