"""The verdict on every algorithm, placement and temperature is what the documentation says; a mutant changes it."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pydantic import ValidationError
from torch import Tensor

import rlhf_cli
from rlhf_cli.algorithms import rloo
from rlhf_cli.engine import reading
from rlhf_cli.errors import UserError
from rlhf_cli.functional.logprobs import token_logprobs
from rlhf_cli.functional.returns import token_rewards
from rlhf_cli.pipeline import scoring
from rlhf_cli.ranks import gradient as of_shards
from rlhf_cli.rewards.shaping import Spread
from rlhf_cli.schema import RunConfig
from rlhf_cli.verify import expected, gradient
from rlhf_cli.verify.causes import LATER, change, find_causes, several_updates
from rlhf_cli.verify.exact import Tables, Target, group_weights
from rlhf_cli.verify.gradient import EXACT, Comparison, compare, compared, small_problem, target_of, verify_gradient
from tests.unit.support import SHAPING, config_of

DOCS = Path(rlhf_cli.__file__).parents[1]
REFUSED = "refused"
EVERYWHERE = {"reward", "exact", "loss_k2", "loss_k2_sequence"}
VERDICTS = {
    "reinforce": ({"reward"}, set()),  # the preset has baseline: mean
    "rloo": (EVERYWHERE - {"loss_k2"}, set()),
    "dr_grpo": ({"reward"}, set()),
    "grpo": (set(), {"algorithm.scale_by_std", "algorithm.aggregation"}),
    "dapo": (set(), {"algorithm.scale_by_std", "algorithm.aggregation", "algorithm.epochs"}),
    "ppo": (set(), {"algorithm.whiten", "algorithm.gae_lambda", "algorithm.aggregation", "algorithm.epochs"}),
}
"""By preset: the placements with which it is unbiased, and what biases it with any of them."""


@cache
def preset(name: str) -> dict[str, Any]:
    fields: dict[str, Any] = yaml.safe_load(
        (DOCS / "configs" / "algorithm" / f"{name}.yaml").read_text(encoding="utf-8")
    )
    bases = [base for base in fields.pop("defaults", []) if base != "_self_"]
    return {key: value for base in bases for key, value in preset(base).items()} | fields


def run_of(algorithm: dict[str, Any] | str = "rloo", **changes: Any) -> RunConfig:
    """A run with beta 0.3 and steps of 8 x 4 completions."""
    fields = preset(algorithm) if isinstance(algorithm, str) else algorithm
    beta = {"kind": "constant", "value": 0.3}
    return config_of(algorithm=fields, **{"beta": beta, "prompts_per_step": 8, "samples_per_prompt": 4} | changes)


def shaped(**changes: Any) -> dict[str, Any]:
    return {"kind": "characters", "characters": "abc"} | SHAPING | changes


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of two completions: a third of the time."""
    monkeypatch.setattr(gradient, "GROUP", 2)


def refused(name: str, kl: str) -> bool:
    return kl in ("exact", "loss_k2_sequence") and name != "rloo"


CASES = [
    (name, kl, *sampling)
    for name in VERDICTS
    for kl in sorted(EVERYWHERE)
    for sampling in ((1.0, None), (0.7, 2))
    # the truncated problem has fewer steps, and every algorithm and placement is the same code with the whole one
    if not refused(name, kl) and (sampling == (0.7, 2) or (kl == "reward" and name in ("rloo", "grpo")))
]


@pytest.mark.parametrize(("name", "kl", "temperature", "top_k"), CASES)
@pytest.mark.usefixtures("pairs")
def test_the_verdict_is_what_the_documentation_says(name: str, kl: str, temperature: float, top_k: int | None) -> None:
    constant = {"kind": "constant", "value": temperature}
    found = verify_gradient(run_of(name, kl=kl, top_k=top_k, temperature=constant))
    unbiased, keys = VERDICTS[name]
    keys = keys | ({"kl"} if kl == "loss_k2" else set())
    assert found.verdict == ("unbiased" if kl in unbiased else "biased by design")
    assert {bias.key for bias in found.biases} == keys
    for bias in found.biases:
        assert bias.relative_error > 0.01, bias  # each bends it, so that none is named for nothing
    exact = found.first if found.without is None else found.without
    assert exact.relative_error < 1e-6
    assert exact.norm_ratio == pytest.approx(found.size, rel=1e-6)
    if keys - {LATER.key}:
        assert found.first.relative_error > 0.01


@pytest.mark.parametrize("name", VERDICTS)
def test_what_is_refused_is_not_verified(name: str) -> None:
    for kl in ("exact", "loss_k2_sequence"):
        if refused(name, kl):
            with pytest.raises(ValidationError, match=f"refuses kl={kl}"):
                run_of(name, kl=kl)


@pytest.mark.parametrize(
    ("algorithm", "changes", "size"),
    [
        ({"kind": "reinforce", "baseline": "none"}, {}, 1.0),
        ({"kind": "reinforce", "baseline": "running"}, {"kl": "exact"}, 1.0),
        ({"kind": "reinforce", "baseline": "mean"}, {"samples_per_prompt": 1}, 1 / 2),  # (n - 1) / n of n = 2
        ("rloo", {"samples_per_prompt": 2}, 1.0),
        ("dr_grpo", {"samples_per_prompt": 2}, 1 / 2 / 2),
        ("rloo", {"reward": shaped(clip=[-1.0, 0.5], length_penalty=0.2)}, 1.0),
        ("rloo", {"reward": shaped(truncated="penalty", truncated_penalty=0.7), "kl": "exact"}, 1.0),
        ("rloo", {"reward": shaped(normalise=True, length_penalty=0.2)}, 1.0),
        ("rloo", {"reward": shaped(truncated="mask")}, 1.0),
        ("rloo", {"reward": shaped(truncated="mask", normalise=True), "min_p": 0.2}, 1.0),
        ("rloo", {"prompts": "headroom"}, 1.0),
        ("dr_grpo", {"prompts": "headroom", "samples_per_prompt": 2}, 1 / 2 / 2),
        ({"kind": "reinforce", "baseline": "mean"}, {"prompts": "headroom"}, 1 / 2),
        ("rloo", {"prompts": "headroom", "kl": "loss_k2_sequence"}, 1.0),
        ("rloo", {"top_p": 0.8, "temperature": {"kind": "linear", "start": 1.4, "end": 0.6}}, 1.0),
        ("rloo", {"beta": {"kind": "constant", "value": 0.0}, "kl": "loss_k2", "microbatch_size": 2}, 1.0),
    ],
    ids=str,
)
@pytest.mark.usefixtures("pairs")
def test_shaping_truncation_and_schedules_leave_it_exact(
    algorithm: dict[str, Any] | str, changes: dict[str, Any], size: float
) -> None:
    found = verify_gradient(run_of(algorithm, **changes))
    assert (found.verdict, found.biases, found.without) == ("unbiased", (), None)
    assert found.size == pytest.approx(size)


@pytest.mark.parametrize("algorithm", ["rloo", "dr_grpo"])
@pytest.mark.parametrize("group", [2, 3])
def test_without_a_kl_dynamic_sampling_keeps_the_direction_and_each_group_counts_for_those_that_are_left_out(
    algorithm: str, group: int
) -> None:
    """Groups with one score have no gradient: of every 1 / Z groups one is kept, with the gradient of all."""
    free = {"kind": "constant", "value": 0.0}
    config = run_of(algorithm, prompts="dynamic", samples_per_prompt=group, beta=free)
    found = verify_gradient(config)
    assert (found.verdict, found.biases) == ("unbiased", ())
    tables = small_problem(gradient.shrink(config))
    kept = []
    for prompt in range(2):
        chances = Counter[float]()
        policy = torch.log_softmax(tables.policy[prompt], -1)
        for text, score in zip(tables.texts, tables.scores[prompt].tolist(), strict=True):
            logprob = policy[0, text[0]] + (policy[1 + text[0], text[1]] if len(text) == 2 else 0.0)
            chances[score] += math.exp(float(logprob))
        assert len(chances) > 2
        assert chances.total() == pytest.approx(1)
        kept.append(1 - sum(chance**group for chance in chances.values()))
    assert abs(kept[0] - kept[1]) > 0.02  # the prompts are not alike
    plain = {"rloo": 1.0, "dr_grpo": (group - 1) / group / 2}[algorithm]
    assert found.size == pytest.approx(plain / (sum(kept) / 2))
    assert found.steps < verify_gradient(run_of(algorithm, samples_per_prompt=group, beta=free)).steps


@pytest.mark.parametrize("kl", ["reward", "exact", "loss_k2_sequence"])
@pytest.mark.usefixtures("pairs")
def test_with_a_kl_dynamic_sampling_bends_the_gradient(kl: str) -> None:
    found = verify_gradient(run_of("rloo", prompts="dynamic", kl=kl))
    assert (found.verdict, [bias.key for bias in found.biases]) == ("biased by design", ["prompts"])
    assert found.first.relative_error > 0.01
    assert found.biases[0].relative_error == pytest.approx(found.first.relative_error)


@pytest.mark.usefixtures("pairs")
def test_groups_with_one_score_that_are_kept_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    free = {"kind": "constant", "value": 0.0}
    monkeypatch.setattr(scoring, "choose", lambda scores, samples, count: torch.ones_like(scores, dtype=torch.bool))
    assert verify_gradient(run_of("rloo", prompts="dynamic", beta=free)).verdict == "wrong"


def test_each_of_these_is_another_gradient() -> None:
    """So that to be exact means something."""

    def true(**changes: Any) -> Tensor:
        config = run_of(**changes)
        tables = small_problem(config)
        target, _ = target_of(config, tables, 0.3, 1.0)
        return gradient.gradient(tables, tables.policy, target)

    plain = true()
    for reward in ({"length_penalty": 0.2}, {"truncated": "penalty"}, {"truncated": "mask"}, {"normalise": True}):
        assert compared(true(reward=shaped(**reward)), plain).relative_error > 0.005, reward
    assert compared(true(top_k=2), plain).relative_error > 0.02


def test_the_schedules_are_read_half_way() -> None:
    beta = {"kind": "linear", "start": 0.1, "end": 0.3}
    found = verify_gradient(run_of(beta=beta, steps=5, samples_per_prompt=2))
    assert found.beta == pytest.approx(0.2)


def flipped(scores: Tensor, penalty: Tensor, beta: float, mask: Tensor) -> Tensor:
    return token_rewards(scores, penalty, -beta, mask)


def self_inclusive(values: Tensor, samples: int, counts: Tensor) -> Tensor:
    return values.view(-1, samples).mean(1, keepdim=True).expand(-1, samples).reshape(-1)


def untempered(
    hidden: Tensor, tokens: Tensor, head: Callable[[Tensor], Tensor], temperature: float, kept: Any
) -> Tensor:
    return token_logprobs(hidden, tokens, head, 1.0, kept)


@pytest.mark.parametrize(
    ("name", "module", "function", "mutant"),
    [
        ("rloo", scoring, "token_rewards", flipped),
        ("grpo", scoring, "token_rewards", flipped),
        ("rloo", reading, "token_logprobs", untempered),
    ],
    ids=["sign of beta", "sign of beta in GRPO", "temperature"],
)
@pytest.mark.usefixtures("pairs")
def test_a_mutant_of_the_training_code_is_found_also_below_a_known_bias(
    name: str, module: Any, function: str, mutant: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = run_of(name, temperature={"kind": "constant", "value": 0.7})
    monkeypatch.setattr(module, function, mutant)
    assert verify_gradient(config).verdict == "wrong"


@pytest.mark.usefixtures("pairs")
def test_prompts_that_are_not_weighed_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_shards, "row_weights", lambda batch: None)
    assert verify_gradient(run_of("rloo")).verdict == "unbiased"
    assert verify_gradient(run_of("rloo", prompts="headroom")).verdict == "wrong"


def test_a_baseline_that_is_not_left_out_is_found_by_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rloo, "leave_one_out", self_inclusive)
    found = verify_gradient(run_of("rloo"))
    assert found.verdict == "wrong"
    assert found.first.relative_error < EXACT
    assert (found.first.norm_ratio, found.size) == (pytest.approx(2 / 3), 1.0)


class PerfectValues(expected.SmallPolicy):
    """Values that are the mean return of the completions that end, from each state on."""

    def __init__(self, tables: Tables, *, shared_trunk: bool) -> None:
        super().__init__(tables, shared_trunk=shared_trunk)
        ours, theirs = torch.log_softmax(tables.policy, -1), torch.log_softmax(tables.reference, -1)
        k1 = ours - theirs
        for prompt in range(2):
            sums, masses = [0.0] * 4, [0.0] * 4
            for score, text in zip(tables.scores[prompt].tolist(), tables.texts, strict=True):
                path = [(0, text[0])] + [(1 + text[0], token) for token in text[1:]]
                chance = math.exp(sum(float(ours[prompt, state, token]) for state, token in path))
                for start, (state, _) in enumerate(path):
                    cost = sum(float(k1[prompt, later, token]) for later, token in path[start:])
                    ends = chance * (text[-1] == 2)
                    sums[state], masses[state] = sums[state] + ends * (score - 0.3 * cost), masses[state] + ends
            means = [total / mass if mass else 0.0 for total, mass in zip(sums, masses, strict=True)]
            self.state_values.data[prompt] = torch.tensor(means, dtype=torch.float64)

    def values(self, hidden: Tensor) -> Tensor:
        """The table's."""
        return hidden[..., -1].detach()


@pytest.mark.parametrize(("whiten", "cosine"), [(False, 0.86), (True, 0.47)])
def test_ppo_does_not_follow_the_objective_of_those_that_end_even_with_perfect_values(
    whiten: bool, cosine: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Why it refuses truncated=mask; the figures stand in docs/algorithms/ppo.md."""
    plain = {"gae_lambda": 1.0, "aggregation": "sum", "epochs": 1, "minibatch_size": None, "whiten": whiten}
    config = run_of(preset("ppo") | plain, samples_per_prompt=3)
    with pytest.raises(ValidationError, match=r"algorithm=ppo refuses truncated=mask: .*algorithm=rloo"):
        change(config, {"reward.truncated": "mask"})
    config = config.model_copy(update={"reward": config.reward.model_copy(update={"truncated": "mask"})})
    monkeypatch.setattr(expected, "SmallPolicy", PerfectValues)
    tables = small_problem(config)
    target, _ = target_of(config, tables, 0.3, 1.0)
    weights = group_weights(tables, target, 3, 1, lambda _: 1.0)
    found = expected.expect(config, tables, 0.3, 1.0, Spread(), 3, None)
    true = gradient.gradient(tables, tables.policy, target, weights)
    assert compared(found.first, true).cosine == pytest.approx(cosine, abs=0.005)


def test_every_bias_is_on_the_page_that_it_names() -> None:
    everything = run_of(preset("ppo") | {"gamma": 0.9, "shared_trunk": True}, kl="loss_k2")
    causes = [*find_causes(everything, 0.3), *find_causes(run_of("grpo", prompts="dynamic"), 0.3), LATER]
    assert len({cause.key for cause in causes}) == 9
    for cause in causes:
        page, _, anchor = cause.page.partition("#")
        text = (DOCS / page).read_text(encoding="utf-8")
        titles = [
            re.sub(r"[^\w ]", "", title).lower().replace(" ", "-") for title in re.findall("^## (.+)$", text, re.M)
        ]
        assert not anchor or anchor in titles
        assert cause.key.removeprefix("algorithm.").split(".")[-1] in text or "spread" in text


@pytest.mark.parametrize(
    ("error", "ratio", "verdict"),
    [
        (2**-10, 3 * (1 + 2**-10), "unbiased"),
        (2**-10 + 2**-40, 3.0, "wrong"),
        (0.0, 3 * (1 - 2**-10 - 2**-40), "wrong"),
    ],
)
def test_the_errors_of_an_exact_one(error: float, ratio: float, verdict: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The documented length is three times that of the gradient."""
    monkeypatch.setattr(gradient, "EXACT", 2**-10)
    monkeypatch.setattr(gradient, "compare", lambda *_, **__: (Comparison(error, 1.0, ratio), None, 3.0, 1))
    assert verify_gradient(run_of("rloo")).verdict == verdict


@pytest.mark.parametrize(("algorithm", "group"), [("reinforce", 3), ("rloo", 2)])
def test_completions_of_other_prompts_count_where_they_are_not_compared(algorithm: str, group: int) -> None:
    samples = 1 if algorithm == "reinforce" else 2
    small = gradient.shrink(run_of(algorithm, prompts_per_step=3, samples_per_prompt=samples))
    assert (small.prompts_per_step, small.samples_per_prompt) == (1, group)


def test_a_run_that_can_write_one_text_alone_has_no_gradient() -> None:
    with pytest.raises(UserError, match="the gradient of J is zero"):
        verify_gradient(run_of("rloo", top_k=1))


def test_a_comparison_by_hand() -> None:
    found = compared(torch.tensor([3.0, 4.0]), torch.tensor([2.0, 0.0]))  # cosine 3/5, lengths 5 and 2
    assert (found.cosine, found.norm_ratio) == (pytest.approx(0.6), pytest.approx(2.5))
    assert found.relative_error == pytest.approx(math.sqrt(2 - 2 * 0.6))
    assert compared(torch.zeros(2), torch.tensor([2.0, 0.0])).norm_ratio == 0.0


def test_an_update_repeats() -> None:
    config = gradient.shrink(run_of("rloo", samples_per_prompt=2))
    assert compare(config, 0.3, 1.0, later=True) == compare(config, 0.3, 1.0, later=True)


def test_a_steps_weight_is_that_of_the_prompts_that_it_can_learn_from() -> None:
    config = run_of("rloo", reward=shaped(truncated="mask"))
    tables = small_problem(config)
    target, _ = target_of(config, tables, 0.3, 1.0)
    weights = group_weights(tables, target, 2, 2, lambda _: 1.0)
    policy = torch.softmax(tables.policy, -1)
    # both of two completions end: (2), (0, 2) or (1, 2)
    ends = policy[:, 0, 2] + policy[:, 0, 0] * policy[:, 1, 2] + policy[:, 0, 1] * policy[:, 2, 2]
    torch.testing.assert_close(weights, ends**2 / (ends**2).sum())


def test_targets_of_plain_runs_are_plain() -> None:
    config = run_of("rloo")
    target, spread = target_of(config, small_problem(config), 0.3, 0.9)
    assert (spread, target) == (Spread(), Target(0.3, 0.9, None, 1.0, 0.0, None, 0.0, 0.0, False))


def test_without_its_setting_a_cause_is_gone() -> None:
    everything = run_of(preset("ppo") | {"gamma": 0.9, "shared_trunk": True, "vf_coef": 0.5}, kl="loss_k2")
    for config in (everything, run_of("grpo", prompts="dynamic")):
        for cause in find_causes(config, 0.3):
            plain = change(config, {cause.key: cause.unbiased})
            assert cause.key not in {other.key for other in find_causes(plain, 0.3)}
    assert LATER.key == "algorithm.epochs"
    once = change(everything, {LATER.key: LATER.unbiased, "algorithm.minibatch_size": None})
    assert not several_updates(once)


def test_a_value_loss_that_weighs_nothing_biases_nothing() -> None:
    config = run_of(preset("ppo") | {"shared_trunk": True, "vf_coef": 0.0})
    assert "algorithm.shared_trunk" not in {cause.key for cause in find_causes(config, 0.3)}


@pytest.mark.parametrize(
    ("epochs", "minibatch_size", "several"),
    [(1, None, False), (1, 32, False), (1, 31, True), (2, None, True), (1, 8, True)],  # of 8 prompts x 4 completions
)
def test_a_rollout_is_used_for_several_updates(epochs: int, minibatch_size: int | None, several: bool) -> None:
    config = run_of(preset("ppo") | {"epochs": epochs, "minibatch_size": minibatch_size})
    assert several_updates(config) == several
