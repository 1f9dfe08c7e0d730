"""The names of other tools are answered with ours, and a choice that needs two keys with both."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from itertools import chain, zip_longest
from pathlib import Path

import pytest

from rlhf_cli.config.foreign import OURS, ours_for, unknown_setting
from rlhf_cli.config.jobs import compose_config
from rlhf_cli.config.keys import fields
from rlhf_cli.errors import UserError
from rlhf_cli.schema import TrainingConfig
from rlhf_cli.verbs import DPO, REWARD_TRAIN, SFT, TRAIN, VERBS, Verb, composing

from .conftest import write

Refused = Callable[..., str]
TINY = "model: tiny\ndata: tiny\nreward: characters\n"


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.words)
def test_every_answer_is_a_setting_of_the_verb_and_every_question_is_none(verb: Verb[TrainingConfig]) -> None:
    names = list(chain.from_iterable(OURS.values()))
    assert len(names) == len(set(names))
    with composing(verb):
        assert not set(names) & fields().keys()
        assert {ours for name in names if (ours := ours_for(name))} <= fields().keys()


def test_every_row_of_the_table_is_a_setting_of_some_verb() -> None:
    known = set[str]()
    for verb in VERBS:
        with composing(verb):
            known |= fields().keys()
    assert OURS.keys() <= known


@pytest.mark.parametrize(
    ("verb", "typed", "answer"),
    [
        (DPO, "kl_coef", "here it is objective.beta"),
        (DPO, "beta", "did you mean objective.beta?"),
        (DPO, "loss_type", "rlhf dpo --help lists the settings"),  # no algorithm.aggregation there
        (SFT, "reward.path", "it belongs to rlhf train"),
        (SFT, "packing", "rlhf sft --help lists the settings"),
        (REWARD_TRAIN, "center_rewards_coefficient", "here it is objective.centre"),
        (REWARD_TRAIN, "learning_rate", "here it is optimizer.lr"),
        (TRAIN, "patience", "it belongs to rlhf sft, dpo, reward train"),
        (TRAIN, "early_stopping_patience", "rlhf train --help lists the settings"),
    ],
)
def test_the_answer_is_for_the_verb_that_was_typed(verb: Verb[TrainingConfig], typed: str, answer: str) -> None:
    with composing(verb):
        assert unknown_setting(typed) == f"unknown setting '{typed}'; {answer}"


NAMES = dict(
    [
        # TRL
        ("learning_rate", "optimizer.lr"), ("num_generations", "samples_per_prompt"), ("output_dir", "run_dir"),
        ("max_completion_length", "max_new_tokens"), ("max_prompt_length", "data.max_prompt_tokens"),
        ("per_device_train_batch_size", "prompts_per_step"), ("num_train_epochs", "steps"), ("max_steps", "steps"),
        ("epochs", "steps"),
        ("init_kl_coef", "beta"), ("kl_coef", "beta"), ("reward_funcs", "reward.function"), ("report_to", "sinks"),
        ("gradient_accumulation_steps", "microbatch_size"), ("save_steps", "checkpoint.every"),
        ("eval_steps", "evaluate.every"), ("model_name_or_path", "model.path"), ("bf16", "dtype"),
        ("num_ppo_epochs", "algorithm.epochs"), ("cliprange", "algorithm.clip_range"), ("dataset_name", "data.id"),
        ("resume_from_checkpoint", "resume"), ("lr_scheduler_type", "optimizer.schedule"),
        ("epsilon", "algorithm.clip_range"),
        # verl
        ("actor_rollout_ref.actor.optim.lr", "optimizer.lr"), ("actor_rollout_ref.rollout.n", "samples_per_prompt"),
        ("actor_rollout_ref.model.path", "model.path"), ("actor_rollout_ref.actor.kl_loss_coef", "beta"),
        ("data.train_files", "data.path"), ("trainer.total_epochs", "steps"),
        ("data.train_batch_size", "prompts_per_step"),
        ("data.max_response_length", "max_new_tokens"), ("algorithm.adv_estimator", "algorithm"),
        ("algorithm.kl_ctrl.kl_coef", "beta"), ("trainer.default_local_dir", "run_dir"),
        ("custom_reward_function.path", "reward.function"), ("actor_rollout_ref.rollout.temperature", "temperature"),
        # OpenRLHF
        ("pretrain", "model.path"), ("actor_learning_rate", "optimizer.lr"),
        ("n_samples_per_prompt", "samples_per_prompt"), ("lora_target", "model.lora.target_modules"),
        ("rollout_batch_size", "prompts_per_step"), ("generate_max_len", "max_new_tokens"),
        ("remote_rm_url", "reward.url"),
        ("prompt_data", "data.path"), ("input_key", "data.prompt"), ("eps_clip", "algorithm.clip_range"),
        # LLaMA-Factory
        ("cutoff_len", "data.max_prompt_tokens"), ("lora_rank", "model.lora.rank"),
        ("adapter_name_or_path", "model.adapter"), ("ppo_target", "beta.target"), ("max_samples", "data.max_rows"),
    ],
)  # fmt: skip


def test_names_of_other_tools() -> None:
    assert {theirs: ours_for(theirs) for theirs in NAMES} == NAMES
    with pytest.raises(UserError) as caught:
        compose_config(["config=tiny", *(f"{theirs}=1" for theirs in NAMES)])
    told = caught.value.line()
    for theirs, ours in NAMES.items():
        assert f"unknown setting '{theirs}'; here it is {ours}" in told


def test_the_settings_of_a_mapping_are_named_one_by_one() -> None:
    write(
        Path("r.yaml"), "model: tiny\ndata: tiny\nreward: characters\nactor: {optim: {lr: 1}, x: 2, rollout: {n: 3}}\n"
    )
    with pytest.raises(UserError) as caught:
        compose_config(["config=r.yaml"])
    assert caught.value.line() == (
        "r.yaml:4: unknown setting 'actor.optim.lr'; here it is optimizer.lr; "
        "unknown setting 'actor.rollout.n'; here it is samples_per_prompt"
    )


@pytest.mark.parametrize("key", ["reward.secure", "reward.insecur", "model.trust_remote_cod"])
def test_what_lowers_a_guard_is_never_offered(key: str) -> None:
    assert not re.search("insecure|trust_remote_code'?$", unknown_setting(key).partition(";")[2])


@pytest.mark.parametrize("option", ["--dry-run", "--dryrun", "--no-train", "--check-only", "--validate"])
def test_who_wants_to_run_nothing_is_not_told_to_run(refused: Refused, option: str) -> None:
    assert (
        refused("config=tiny", option)
        == f"unknown option {option}; nothing runs with --cfg job, which shows the settings"
    )


@pytest.mark.parametrize("option", ["--runs", "--rum", "-n", "--multirnu", "-M"])
def test_no_option_that_starts_runs_is_offered(refused: Refused, option: str) -> None:
    assert not re.search(r"mean (--run|-r|--multirun|-m)\?", refused("config=tiny", option))


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (("--learning_rate", "1e-5"), "unknown option --learning_rate; here it is optimizer.lr=..."),
        (("--output-dir=x",), "unknown option --output-dir; here it is run_dir=..."),
        (("--num_generations", "8"), "unknown option --num_generations; here it is samples_per_prompt=..."),
        (("--max-new-tokens", "8"), "unknown option --max-new-tokens; did you mean max_new_tokens=...?"),
        (("--json",), "unknown option --json; did you mean display=json?"),
        (("--jsno",), "unknown option --jsno; did you mean display=json?"),
        (("--quiet",), "unknown option --quiet; did you mean display=quiet?"),
    ],
)
def test_options_of_other_tools(refused: Refused, argv: tuple[str, ...], line: str) -> None:
    assert refused("config=tiny", *argv) == line


TWO_KEYS = [
    ("model=gpt2", "model=pretrained model.path=gpt2", "{kind: pretrained, path: gpt2}"),
    ("model=org/name", "model=pretrained model.path=org/name", "{kind: pretrained, path: org/name}"),
    ("model=./my model", "model=pretrained 'model.path=./my model'", '{kind: pretrained, path: "./my model"}'),
    ("data=prompts.jsonl", "data=jsonl data.path=prompts.jsonl", "{kind: jsonl, path: prompts.jsonl}"),
    ("data=a/b.csv", "data=csv data.path=a/b.csv", "{kind: csv, path: a/b.csv}"),
    ("data=all/*.parquet", "data=parquet 'data.path=all/*.parquet'", '{kind: parquet, path: "all/*.parquet"}'),
    ("data=prompts.txt", "data=text data.path=prompts.txt", "{kind: text, path: prompts.txt}"),
    ("data=openai/gsm8k", "data=hub data.id=openai/gsm8k", "{kind: hub, id: openai/gsm8k}"),
    ("reward=rewards.py:f", "reward=python reward.function=rewards.py:f", "{kind: python, function: rewards.py:f}"),
    ("reward=rewards.py", "reward=python reward.function=rewards.py:FUNCTION",
     "{kind: python, function: rewards.py:FUNCTION}"),
    ("reward=my.rewards:f", "reward=python reward.function=my.rewards:f", "{kind: python, function: my.rewards:f}"),
    ("reward=https://x.example/s", "reward=http reward.url=https://x.example/s",
     "{kind: http, url: https://x.example/s}"),
    ("reward=org/scorer", "reward=model reward.path=org/scorer", "{kind: model, path: org/scorer}"),
]  # fmt: skip


def tiny_but_for(*groups: str) -> str:
    """A file's choices of the tiny run, without those of these groups."""
    tiny = {"model": "tiny", "data": "tiny", "reward": "characters"}
    return "".join(f"{name}: {option}\n" for name, option in tiny.items() if name not in groups)


@pytest.mark.parametrize(("typed", "keys", "yaml"), TWO_KEYS)
def test_a_choice_that_needs_two_keys_is_told_both(refused: Refused, typed: str, keys: str, yaml: str) -> None:
    line = refused("config=tiny", typed)
    assert line.endswith(f"; write {keys}")
    group, _, choice = typed.partition("=")
    write(Path("r.yaml"), f"{tiny_but_for(group)}{group}: '{choice}'\n")
    with pytest.raises(UserError) as caught:
        compose_config(["config=r.yaml"])
    assert caught.value.line().endswith(f"; write {group}: {yaml}")


@pytest.mark.parametrize("chosen", [*zip_longest(*([row[1:] for row in TWO_KEYS if row[0].startswith(f"{group}=")]
                                                   for group in ("model", "data", "reward")))])  # fmt: skip
def test_the_two_keys_that_are_told_are_taken(chosen: tuple[tuple[str, str] | None, ...]) -> None:
    told = [given for given in chosen if given]
    assert compose_config(["config=tiny", *(word for keys, _ in told for word in shlex.split(keys))])
    of_file = {keys.partition("=")[0]: yaml for keys, yaml in told}
    others = tiny_but_for(*of_file)
    write(Path("r.yaml"), others + "".join(f"{group}: {yaml}\n" for group, yaml in of_file.items()))
    assert compose_config(["config=r.yaml"])
