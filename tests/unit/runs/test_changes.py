"""Which settings a resumed run may change."""

from __future__ import annotations

from typing import Any

import pytest

from rlhf_cli.errors import EXIT_RESUME, UserError
from rlhf_cli.runs.changes import ASKING, fingerprint, free_keys, is_free, judging_groups, resume_config
from tests.unit.supervised.support import SFT, settings_of
from tests.unit.support import config_fields, config_of, data_fields, tiny

FREE = {
    "steps", "checkpoint", "evaluate.every", "evaluate.human", "evaluate.human_against", "log_samples", "time_limit",
    "profile", "display", "run_dir", "sweep_dir", "resume", "resume_allow", "seeds", "jobs", "sinks", "on_no_signal",
    "on_alarm", "stop", "processes", "shard_model",
}  # fmt: skip


def test_the_schema_marks_these_keys_as_free() -> None:
    assert {*free_keys()} == FREE
    assert is_free("checkpoint.keep")
    assert not is_free("evaluate")
    assert not is_free("evaluate.prompts")
    assert not is_free("seed")


def test_the_fingerprint_is_of_what_is_bound_and_of_evaluate() -> None:
    own = fingerprint(config_of())
    assert fingerprint(config_of(steps=99, seeds=2, display="json")) == own
    assert fingerprint(config_of(seed=1)) != own
    assert fingerprint(config_of(evaluate=config_fields()["evaluate"] | {"every": 1})) != own
    a, b = ({"a": 1, "b": 2}, {"b": 2, "a": 1})
    assert fingerprint(config_of(data=data_fields(where=a))) == fingerprint(config_of(data=data_fields(where=b)))


def test_the_settings_by_which_evaluations_judge() -> None:
    asking = [f"reward.{name}" for name in ASKING]
    assert judging_groups(["seed", "data.path", "data.max_rows", "model.path", "reference.path", *asking]) == set()
    judging = ["objective", "max_new_tokens", "reward.clip", "reward.parts.a.weight", "reference.kind"]
    found = judging_groups([*asking, *judging, "data.too_long", "data.max_prompt_tokens"])
    assert found == {"objective", "max_new_tokens", "reward", "reference", "data"}
    assert judging_groups(["reward.parts.a.url", "objective.margin"]) == {"objective"}
    assert judging_groups(["data.max_prompt_tokens"]) == judging_groups(["data.too_long"]) == {"data"}


class TestChanges:
    """The config to resume with, or the refusal."""

    @pytest.mark.parametrize(
        "change",
        [
            {},
            {"steps": 99},
            {"checkpoint": {"every": 7, "keep": 9, "keep_best": False, "max_failures": 1}},
            {"time_limit": 60.0},
            {"profile": True},
            {"evaluate": {"every": 1, "prompts": 2, "samples": 1}},
            {"log_samples": 5},
            {"display": "json"},
            {"run_dir": "/x"},
            {"sweep_dir": "/y"},
            {"resume": "auto"},
            {"resume_allow": ["seed"]},
        ],
        ids=str,
    )
    def test_these_are_free(self, change: dict[str, Any]) -> None:
        resume_config(config_of(), config_of(**change))

    def test_shards_stay_as_they_were_dealt_and_processes_may_change(self) -> None:
        saved = config_of(prompts_per_step=4, shards=4, processes=4)
        for processes in (2, 4):
            assert resume_config(saved, config_of(prompts_per_step=4, shards="auto", processes=processes)).shards == 4
        with pytest.raises(UserError, match="shards: 4 -> 2"):
            resume_config(saved, config_of(prompts_per_step=4, shards=2))

    def test_of_supervised_training_as_well(self) -> None:
        saved = settings_of(SFT, prompts_per_step=4, shards=4, processes=4)
        assert resume_config(saved, settings_of(SFT, prompts_per_step=4, shards="auto", processes=2)).shards == 4
        with pytest.raises(UserError, match="processes=2 is more than the run's shards=1"):
            resume_config(settings_of(SFT), settings_of(SFT, prompts_per_step=4, shards="auto", processes=2))

    def test_a_resumed_run_has_no_more_processes_than_shards(self) -> None:
        with pytest.raises(UserError) as caught:
            resume_config(config_of(prompts_per_step=4), config_of(prompts_per_step=4, shards="auto", processes=2))
        assert caught.value.what == "processes=2 is more than the run's shards=1"
        assert caught.value.exit_code == 5

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"seed": 3}, "seed: 0 -> 3"),
            ({"max_new_tokens": 9}, "max_new_tokens: 8 -> 9"),
            ({"threads": 2}, "threads: None -> 2"),
            ({"evaluate": {"every": 2, "prompts": 3, "samples": 1}}, "evaluate.prompts: 2 -> 3"),
            ({"beta": {"kind": "constant", "value": 0.1}}, "beta.value: 0.05 -> 0.1"),
            ({"model": tiny(rank=3).model_dump(mode="json")}, "model.lora.rank: 2 -> 3"),
            (
                {"beta": {"kind": "linear", "start": 0.1, "end": 0.2}},
                "beta.end: None -> 0.2; beta.kind: constant -> linear; beta.start: None -> 0.1; "
                "beta.value: 0.05 -> None",
            ),
            ({"seed": 1, "samples_per_prompt": 4}, "samples_per_prompt: 2 -> 4; seed: 0 -> 1"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_anything_else_is_refused_with_its_difference(self, change: dict[str, Any], said: str) -> None:
        with pytest.raises(UserError) as caught:
            resume_config(config_of(), config_of(**change))
        assert caught.value.exit_code == EXIT_RESUME
        assert caught.value.line() == (
            f"the resumed run would not be the same: {said} (resume); "
            "fix: leave these as they were, start a new run or a fork (rlhf fork RUN), or name them in "
            "resume_allow=[...]"
        )

    @pytest.mark.parametrize("allowed", [["beta"], ["beta.value"], ["beta.value", "seed"]])
    def test_what_is_allowed_by_name_is_allowed(self, allowed: list[str]) -> None:
        resume_config(config_of(), config_of(beta={"kind": "constant", "value": 0.1}, resume_allow=allowed))

    @pytest.mark.parametrize("allowed", [["beta.kind"], ["temperature"], ["optimizer.lr", "seed"]])
    def test_a_name_allows_itself_and_what_is_below_it_only(self, allowed: list[str]) -> None:
        with pytest.raises(UserError, match=r"beta\.value: 0\.05 -> 0\.1"):
            resume_config(config_of(), config_of(beta={"kind": "constant", "value": 0.1}, resume_allow=allowed))

    def test_what_the_old_run_allowed_counts_for_nothing(self) -> None:
        with pytest.raises(UserError, match="seed"):
            resume_config(config_of(resume_allow=["seed"]), config_of(seed=1))

    @pytest.mark.parametrize(
        ("name", "said"),
        [("bta", "mean beta?"), ("data.pth", "mean data.path?"), ("value", "did you mean")],
    )
    def test_what_there_is_not_cannot_be_allowed(self, name: str, said: str) -> None:
        with pytest.raises(UserError, match=f"^unknown setting '{name}'; ") as caught:
            resume_config(config_of(), config_of(resume_allow=[name]))
        assert caught.value.exit_code == 2
        assert said in caught.value.what

    def test_an_automatic_microbatch_keeps_the_size_it_was_given(self) -> None:
        assert resume_config(config_of(microbatch_size=4), config_of(microbatch_size="auto")).microbatch_size == 4
        with pytest.raises(UserError, match="microbatch_size: 4 -> 8"):
            resume_config(config_of(microbatch_size=4), config_of(microbatch_size=8))


def test_evaluating_is_free_unless_it_sets_prompts_aside() -> None:
    never, sometimes = ({"every": every, "prompts": 2, "samples": 1} for every in (0, 3))
    shared = config_of().data.model_copy(update={"eval_path": None})
    saved, wanted = (config_of(evaluate=e, data=shared.model_dump()) for e in (never, sometimes))
    with pytest.raises(UserError, match=r"evaluate\.every: 0 -> 3"):
        resume_config(saved, wanted)
    apart = shared.model_copy(update={"eval_path": "/held-out.jsonl"}).model_dump()
    resume_config(config_of(evaluate=never, data=apart), config_of(evaluate=sometimes, data=apart))
