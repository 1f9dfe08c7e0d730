"""Each rule is triggered by its own planted series alone, and none by a healthy run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from rlhf_cli.evaluation.evaluation import Evaluation
from rlhf_cli.health.alarms import replay
from rlhf_cli.health.rules import RULES, about
from tests.unit.health.samples import CONFIG, Change, evaluation, evaluations, rows

HEALTHY = evaluations(evaluation(20, 0.4, 28), evaluation(40, 0.5, 30))


def flat(step: int) -> dict[str, float]:
    """The reward of a run that learns nothing."""
    return {"reward/mean": 0.18 + (0.03 if step % 4 < 2 else -0.03)}


def fall(step: int) -> dict[str, float]:
    return {"reward/mean": 0.5 - 0.01 * step}


def same(step: int) -> dict[str, float]:
    return {"reward/same_in_group": 0.9, **flat(step)}


def jump(step: int) -> dict[str, float]:
    return {"kl/tok": 0.9 if step >= 25 else 0.1}


def collapse(step: int) -> dict[str, float]:
    return {"policy/entropy": 3.4 if step < 20 else 0.3}


def costly(step: int) -> dict[str, float]:
    """The reward rises a little, and the KL costs more."""
    return {"objective": 0.18 if step <= 5 else -0.2}


STEPS: list[tuple[str, Change, str]] = [
    ("lr too large", jump, "optimizer.lr=0.0002"),
    ("lr too small", lambda step: {"kl/seq": 1e-5, **flat(step)}, "optimizer.lr=0.006"),
    ("sampler and trainer part", lambda step: {"sampler/effective_share": 0.75}, "dtype=float32"),
    ("zero-variance groups", same, "samples_per_prompt=8, or other prompts"),
    ("truncation", lambda step: {"completion/truncated": 0.95}, "max_new_tokens=64"),
    ("KL runaway", lambda step: {"kl/tok": 0.05 * step}, "beta=0.2"),
    ("KL runaway", costly, "optimizer.lr=0.0002"),
    ("entropy collapse", collapse, "beta=0.2"),
    ("nothing learnt", flat, "optimizer.lr=0.0018"),
    ("nothing learnt", fall, "rlhf reward test: has the reward the wrong sign?"),
]  # fmt: skip

EVALUATED: list[tuple[str, Sequence[Evaluation], str]] = [
    ("length hacking", evaluations(evaluation(40, 0.5, 60, pays=0.1)), "reward.length_penalty=0.01"),
    ("length hacking", evaluations(evaluation(40, 0.5, 10, pays=-0.1)), "a reward that short texts cannot win"),
    ("repetition", evaluations(evaluation(40, 0.5, text="so very very very very very very very good {}")), "beta=0.2"),
    (
        "reward and held-out part",
        evaluations(evaluation(20, 0.4), evaluation(40, 0.1)),
        "more prompts in data, or fewer steps (checkpoints/best)",
    ),
]


@pytest.mark.parametrize(("rule", "change", "override"), STEPS)
def test_a_planted_series_triggers_its_rule_alone(rule: str, change: Change, override: str) -> None:
    (finding,) = replay(rows(change), HEALTHY, CONFIG).findings()
    assert (finding.rule, finding.override, finding.until) == (rule, override, None)


@pytest.mark.parametrize(("rule", "evaluated", "override"), EVALUATED)
def test_planted_evaluations_trigger_their_rule_alone(
    rule: str, evaluated: Sequence[Evaluation], override: str
) -> None:
    (finding,) = replay(rows(), evaluated, CONFIG).findings()
    assert (finding.rule, finding.override, finding.step) == (rule, override, 40)


def test_a_healthy_run_triggers_none() -> None:
    assert replay(rows(), HEALTHY, CONFIG).findings() == []


def near_again(step: int) -> dict[str, float]:
    """A policy that comes near to another model: its KL begins high and ends at next to nothing."""
    kl = 2.0 if step < 10 else 1.5 if step < 20 else 1e-5
    return {"kl/tok": kl, "kl/seq": kl}


def distilled(step: int) -> dict[str, float]:
    return {**near_again(step), "reward/mean": 0.0, "reward/mean_se": 0.0}


def test_to_come_near_to_another_model_is_no_alarm() -> None:
    other = {**CONFIG, "reference": {"kind": "model"}}
    assert {finding.rule for finding in replay(rows(near_again), (), CONFIG).findings()} >= {"lr too small"}
    assert replay(rows(near_again), (), other).findings() == []
    assert replay(rows(distilled), (), {**other, "reward": {"kind": "none"}}).findings() == []


def test_every_rule_has_a_planted_series_and_a_meaning() -> None:
    assert {rule for rule, *_ in (*STEPS, *EVALUATED)} == {*RULES}
    assert all(about(rule) for rule in RULES)


@pytest.mark.parametrize("missing", ["policy/entropy", "kl/seq", "kl/tok", "completion/truncated", "reward/mean_se"])
def test_a_rule_without_its_metric_is_silent(missing: str) -> None:
    """An older run lacks a metric, and so does a step whose exact KL is not measured."""
    broken = [{k: v for k, v in row.items() if k != missing} for row in rows()]
    assert replay(broken, (), {}).findings() == []


def test_overrides_of_a_run_whose_settings_cannot_be_read_are_words() -> None:
    findings = [replay(rows(change), (), {}).findings() for _, change, _ in STEPS]
    overrides: set[Any] = {finding.override for one in findings for finding in one}
    assert {"another optimizer.lr", "a larger max_new_tokens", "beta=strong"} <= overrides


@pytest.mark.parametrize(
    ("beta", "override"),
    [({"value": 0.0}, "beta=moderate"), ({"value": 0.01}, "beta=0.04"), ({"start": 0.1, "end": 0.02}, "beta=strong")],
)
def test_more_beta(beta: dict[str, float], override: str) -> None:
    (finding,) = replay(rows(collapse), (), CONFIG | {"beta": beta}).findings()
    assert finding.override == override


def test_a_low_temperature_is_named_where_it_explains_the_entropy() -> None:
    cold = rows(lambda step: {"policy/entropy": 0.01, "temperature": 0.05})
    assert replay(cold, (), CONFIG).findings()[0].override == "temperature=1"
