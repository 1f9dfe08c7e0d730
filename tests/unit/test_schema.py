"""RunConfig: what fits together, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rlhf_cli.algorithms.placement import REFUSED
from rlhf_cli.schema import RunConfig
from rlhf_cli.settings import read_meanings
from tests.unit.pipeline.runs import ppo_fields
from tests.unit.support import SHAPING, config_fields, config_of, tiny


def problem(**changes: Any) -> str:
    """The message of the one thing that is wrong."""
    with pytest.raises(ValidationError) as caught:
        config_of(**changes)
    (error,) = caught.value.errors()
    return error["msg"]


def test_the_small_run_of_the_tests_is_valid() -> None:
    assert config_of().samples_per_prompt == 2


def test_rloo_refuses_groups_of_one() -> None:
    assert problem(samples_per_prompt=1) == (
        "Value error, samples_per_prompt: algorithm=rloo compares the completions of a prompt and needs at least 2 "
        "(got 1)"
    )


@pytest.mark.parametrize("baseline", ["none", "mean", "running"])
def test_reinforce_takes_groups_of_one(baseline: str) -> None:
    algorithm = {"kind": "reinforce", "baseline": baseline}
    assert config_of(samples_per_prompt=1, algorithm=algorithm).samples_per_prompt == 1


@pytest.mark.parametrize(
    "temperature",
    [
        {"kind": "constant", "value": 0.0},
        {"kind": "linear", "start": 1.0, "end": 0.0},
        {"kind": "cosine", "start": 0.0, "end": 1.0},
    ],
)
def test_a_temperature_that_touches_zero_cannot_train(temperature: dict[str, Any]) -> None:
    assert problem(temperature=temperature) == (
        "Value error, temperature: must stay above 0: greedy decoding cannot explore, so it cannot train"
    )


def test_beta_may_be_zero() -> None:
    assert config_of(beta={"kind": "constant", "value": 0}).beta.at(0, 1) == 0


def test_a_config_is_frozen_down_to_its_leaves() -> None:
    config = config_of()
    for owner, name in (
        (config, "steps"),
        (config.evaluate, "every"),
        (config.model.lora, "rank"),
        (config.optimizer, "lr"),
    ):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(owner, name, 1)


@pytest.mark.parametrize(
    "group", [None, "model", "data", "reward", "algorithm", "beta", "optimizer", "evaluate", "checkpoint"]
)
def test_unknown_keys_are_refused_everywhere(group: str | None) -> None:
    fields = config_fields()
    (fields if group is None else fields[group])["stpes"] = 1
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        RunConfig.model_validate(fields)


@pytest.mark.parametrize("key", list(config_fields()))
def test_no_value_lives_in_python(key: str) -> None:
    fields = config_fields()
    del fields[key]
    with pytest.raises(ValidationError, match=rf"{key}\n  Field required"):
        RunConfig.model_validate(fields)


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 0},
        {"steps": 2.0},
        {"steps": "3"},
        {"steps": True},
        {"prompts_per_step": 0},
        {"max_new_tokens": 0},
        {"microbatch_size": 0},
        {"microbatch_size": "large"},
        {"seed": -1},
        {"threads": 0},
        {"log_samples": -1},
        {"device": "gpu"},
        {"device": "cuda:"},
        {"dtype": "float16"},
        {"run_dir": ""},
        {"display": "loud"},
        {"checkpoint": {"every": 0, "keep": 1}},
        {"checkpoint": {"every": 1, "keep": 0}},
        {"evaluate": {"every": -1, "prompts": 2, "samples": 1}},
        {"evaluate": {"every": 1, "prompts": 1, "samples": 1}},
        {"evaluate": {"every": 1, "prompts": 10**6 + 1, "samples": 1}},
        {"algorithm": ppo_fields(epochs=1001)},
        {"beta": {"kind": "constant", "value": math.nan}},
        {"reward": {"kind": "characters", "characters": ""}},
    ],
    ids=str,
)
def test_values_out_of_range_and_of_the_wrong_type_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        config_of(**change)


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:1"])
def test_devices(device: str) -> None:
    assert config_of(device=device).device == device


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "v_proj"]])
def test_target_modules_are_all_linear_or_names(targets: Any) -> None:
    fields = config_fields()
    fields["model"]["lora"]["target_modules"] = targets
    found = RunConfig.model_validate(fields).model.lora.target_modules
    assert found == (targets if isinstance(targets, str) else tuple(targets))


@pytest.mark.parametrize("targets", [[], "q_proj", [1]])
def test_other_target_modules_are_refused(targets: Any) -> None:
    fields = config_fields()
    fields["model"]["lora"]["target_modules"] = targets
    with pytest.raises(ValidationError):
        RunConfig.model_validate(fields)


def test_plain_data_and_back_is_the_same_config() -> None:
    config = config_of(beta={"kind": "linear", "start": 0.1, "end": 0.02}, resume_allow=["beta"], threads=2)
    assert RunConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    "owner",
    [
        RunConfig,
        *(
            f.annotation
            for n, f in RunConfig.model_fields.items()
            if n in ("evaluate", "checkpoint", "optimizer", "reward")
        ),
    ],
)
def test_every_setting_of_a_class_has_a_meaning(owner: Any) -> None:
    groups = {"model", "data", "reward", "algorithm", "optimizer", "evaluate", "checkpoint", "kind"}
    meanings = read_meanings(owner)
    missing = [name for name in owner.model_fields if name not in meanings and name not in groups]
    assert missing == []


def test_the_mean_of_one_completion_is_refused() -> None:
    alone = {"prompts_per_step": 1, "samples_per_prompt": 1, "algorithm": {"kind": "reinforce", "baseline": "mean"}}
    with pytest.raises(ValidationError, match="would cancel its score"):
        config_of(**alone)


@pytest.mark.parametrize(("kl", "source"), [(kl, reason) for kl, reason in REFUSED.items()])
def test_an_unsound_place_for_the_kl_is_refused_with_the_reason(kl: str, source: str) -> None:
    assert problem(kl=kl) == f"Value error, {source}; use reward, exact, loss_k2 or loss_k2_sequence"


def test_an_unknown_place_for_the_kl_is_a_plain_mistake() -> None:
    assert problem(kl="loss") == "Input should be 'reward', 'exact', 'loss_k2' or 'loss_k2_sequence'"


def test_masked_completions_have_no_kl_of_their_own() -> None:
    masked = config_fields()["reward"] | {"truncated": "mask"}
    assert "not the KL of completions that ended" in problem(kl="loss_k2_sequence", reward=masked)


def test_what_an_algorithm_refuses_is_said_in_its_own_words() -> None:
    ppo = {"kind": "ppo", "clip_range": 0.2, "vf_coef": 0.1, "value_clip_range": None, "gamma": 1.0}
    ppo |= {
        "gae_lambda": 1.0,
        "shared_trunk": False,
        "whiten": False,
        "aggregation": "token_mean",
        "epochs": 4,
        "minibatch_size": None,
    }
    assert config_of(algorithm=ppo).algorithm.kind == "ppo"
    assert problem(algorithm=ppo, kl="exact") == (
        "Value error, kl: algorithm=ppo refuses kl=exact: its KL loss is exact only for the policy that wrote the "
        "completions: algorithm.epochs=1 algorithm.minibatch_size=null, or kl=reward"
    )
    assert config_of(algorithm=ppo | {"epochs": 1}, kl="exact").kl == "exact"


def test_the_exact_kl_as_a_loss_needs_it_at_every_step() -> None:
    assert problem(kl="exact", exact_kl_every=2) == (
        "Value error, exact_kl_every: kl=exact needs the exact KL at every step: exact_kl_every=1"
    )


@pytest.mark.parametrize(
    "change",
    [{"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.1}, {"min_p": -0.1}, {"min_p": 1.1}, {"exact_kl_every": 0}],
    ids=str,
)
def test_sampling_out_of_range_is_refused(change: dict[str, Any]) -> None:
    problem(**change)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (90, 90.0), (1.5, 1.5), ("90s", 90.0), ("2m", 120.0), ("1h30m", 5400.0), ("1d1h1m1s", 90061.0),
        ("0.5h", 1800.0), ("1.5h0.1s", 5400.1),
        ("1:30:00", 5400.0), ("00:00:20", 20.0), ("1-12:00:00", 129600.0), (None, None),
    ],
)  # fmt: skip
def test_a_time_limit_is_written_as_people_and_schedulers_do(given: Any, seconds: float | None) -> None:
    assert config_of(time_limit=given).time_limit == seconds


HUGE = [pytest.param(10**400, id="400 digits"), pytest.param(f"{'9' * 400}:00:00", id="400 digits of hours")]


@pytest.mark.parametrize(
    "given", ["", "h", "1.h", ".5h", "1.5.5h", "0.0s", "30", "1:30", "1h 30m", 0, -5, True, "0s", float("inf"), *HUGE]
)
def test_other_time_limits_are_refused(given: Any) -> None:
    with pytest.raises(ValidationError):
        config_of(time_limit=given)


@pytest.mark.parametrize("key", ["seed", "steps", "prompts_per_step", "max_new_tokens", "top_k", "log_samples"])
def test_a_whole_number_fits_into_64_bits(key: str) -> None:
    config_of(**{key: 2**62})
    assert problem(**{key: 2**63}) == "Value error, must fit into 64 bits"


@given(st.text(max_size=5), st.text(max_size=5))
def test_a_text_holds_no_nul(before: str, after: str) -> None:
    assert problem(run_dir=f"{before}\0{after}") == "Value error, must hold no NUL character"


@pytest.mark.parametrize(("every", "human"), [(0, 4), (3, 4), (4, 2)])
def test_pairs_for_people_come_with_evaluations(every: int, human: int) -> None:
    groups = config_fields()["evaluate"]
    assert problem(evaluate=groups | {"every": every, "human": human}) == (
        "Value error, evaluate.human: pairs are made of held-out completions, so it must be a multiple of "
        f"evaluate.every={every} (got {human})"
    )
    config_of(evaluate=groups | {"every": 2, "human": 4})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"shards": 5}, "shards: a shard has whole prompts, and a step has 4"),
        (
            {"shards": 2, "processes": 3},
            "processes: 3 processes need as many shards, and there are 2: take up to 2, or shards=3",
        ),
        (
            {"shards": "auto", "processes": 5},
            "processes: 5 processes need as many shards, and there are 4 prompts a step",
        ),
    ],
    ids=str,
)
def test_a_step_has_no_more_shards_than_prompts_and_no_fewer_than_processes(
    settings: dict[str, Any], said: str
) -> None:
    assert problem(prompts_per_step=4, **settings) == f"Value error, {said}"
    assert config_of(prompts_per_step=4, shards=4, processes=3).processes == 3


@pytest.mark.parametrize(
    ("changes", "makes_room"),
    [
        ({}, True),
        ({"invariant": True}, True),
        ({"invariant": False}, False),
        ({"threads": 2}, False),
        ({"shards": 2, "processes": 2}, False),
    ],
)
def test_a_run_makes_room_where_its_threads_are_left_open_and_part_of_no_result(
    changes: dict[str, Any], makes_room: bool
) -> None:
    assert config_of(**{"threads": None, "invariant": "auto", **changes}).makes_room is makes_room


def test_only_a_model_that_the_library_runs_can_be_sharded() -> None:
    assert problem(shard_model=True, model=tiny(engine="native").model_dump(mode="json")) == (
        "Value error, shard_model: the native engine needs the whole weights: model.engine=auto"
    )
    other = {"kind": "model", "path": "other", "revision": None, "adapter": None}
    assert problem(shard_model=True, reference=other) == (
        "Value error, shard_model: the reference must be the initial policy: reference=initial"
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"samples_per_prompt": 1, "algorithm": {"kind": "reinforce", "baseline": "none"}},
            "headroom compares the completions of a prompt: samples_per_prompt=2 or more",
        ),
        ({"algorithm": ppo_fields()}, "headroom would whiten by the prompts that it draws: algorithm.whiten=false"),
        (
            {"reward": {"normalise": True}},
            "headroom would normalise by the prompts that it draws: reward.normalise=false",
        ),
        (
            {"reward": {"truncated": "mask"}},
            "headroom needs all completions of a prompt: reward.truncated=penalty",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_headroom_would_bend_is_refused(changes: dict[str, Any], said: str) -> None:
    if "reward" in changes:
        changes = {"reward": config_fields()["reward"] | changes["reward"]}
    config_of(**changes)
    assert problem(prompts="headroom", **changes) == f"Value error, prompts: {said}"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"algorithm": {"kind": "reinforce", "baseline": "mean"}},
            "leaves out groups with one score, and algorithm=reinforce learns from those: algorithm=rloo or grpo",
        ),
        (
            {"algorithm": ppo_fields(whiten=False)},
            "leaves out groups with one score, and algorithm=ppo learns from those: algorithm=rloo or grpo",
        ),
        (
            {"reward": {"kind": "none"} | SHAPING},
            "compares scores, and without a reward all are the same: prompts=uniform",
        ),
        (
            {"reward": {"kind": "characters", "characters": "abc"} | SHAPING | {"normalise": True}},
            "would normalise by the prompts that it keeps: reward.normalise=false",
        ),
        (
            {"reward": {"kind": "characters", "characters": "abc"} | SHAPING | {"truncated": "mask"}},
            "needs all completions of a prompt: reward.truncated=penalty",
        ),
    ],
    ids=["reinforce", "ppo", "none", "normalise", "mask"],
)
def test_where_dynamic_sampling_has_no_meaning_it_is_refused(changes: dict[str, Any], said: str) -> None:
    config_of(**changes)
    assert problem(prompts="dynamic", **changes) == f"Value error, prompts: dynamic {said}"
