"""The names that other tools give to settings, with ours: TRL, verl, OpenRLHF and LLaMA-Factory.

Where two tools use a name for different things, it stands for the one that most of their users look for.
"""

from collections.abc import Mapping
from typing import Any, Final

from rlhf_cli.config.keys import fields, find_nearest
from rlhf_cli.schema import TrainingConfig
from rlhf_cli.settings import flatten
from rlhf_cli.verbs import VERBS, Verb, composing, current

OURS: Final[Mapping[str, tuple[str, ...]]] = {
    "model": ("actor_rollout_ref", "actor"),
    "model.path": (
        "model_name_or_path", "model_name", "pretrain", "sft_model_path", "model_id", "base_model",
        "actor_rollout_ref.model.path", "actor.model_name_or_path",
    ),
    "model.revision": ("model_revision",),
    "model.adapter": ("adapter_name_or_path", "adapter_path", "lora_path", "peft_model_id", "lora_adapter_path"),
    "model.engine": ("use_vllm", "vllm_mode", "vllm_num_engines", "infer_backend", "rollout.name", "backend"),
    "model.gradient_checkpointing": ("enable_gradient_checkpointing",),
    "model.lora.rank": ("lora_r", "lora_rank", "peft_r"),
    "model.lora.alpha": ("lora_alpha", "peft_lora_alpha"),
    "model.lora.dropout": ("lora_dropout",),
    "model.lora.target_modules": ("lora_target_modules", "lora_target",),
    "model.lora.rslora": ("use_rslora",),
    "model.lora.dora": ("use_dora",),
    "model.stop": ("stop_token", "stop_token_id", "stop_strings", "stop_sequences", "eos_token_id", "eos_token"),
    "model.prompt_format": ("apply_chat_template", "chat_template"),
    "reference.path": ("ref_model", "ref_model_path", "ref_model_name_or_path", "reference_model"),
    "data.path": (
        "train_files", "train_file", "prompt_data", "dataset_path", "dataset_dir", "data_path", "train_data",
    ),
    "data.eval_path": ("val_files", "validation_file", "eval_dataset", "eval_file", "valid_data"),
    "data.id": ("dataset_name", "dataset", "dataset_id"),
    "data.name": ("dataset_config", "dataset_config_name", "dataset_subset"),
    "data.split": ("dataset_train_split", "prompt_split", "dataset_split"),
    "data.eval_split": ("dataset_test_split",),
    "data.prompt": ("prompt_key", "input_key", "prompt_column", "query_column", "text_column", "dataset_text_field"),
    "data.template": ("input_template", "prompt_template"),
    "data.system": ("system_prompt", "default_system"),
    "data.max_rows": ("max_samples", "train_max_samples", "max_train_samples"),
    "data.max_prompt_tokens": ("max_prompt_length", "prompt_max_len", "cutoff_len", "max_prompt_len"),
    "data.too_long": ("truncation", "filter_overlong_prompts", "truncation_mode"),
    "reward.function": ("reward_funcs", "reward_func", "reward_fn", "custom_reward_function.path", "reward_function"),
    "reward.path": (
        "reward_model", "reward_model_path", "reward_pretrain", "reward_model_name_or_path", "reward_model.model.path",
    ),
    "reward.url": ("remote_rm_url", "reward_api"),
    "reward.column": ("label_key", "answer_key", "solution_column"),
    "reward.weights": ("reward_weights",),
    "reward.clip": ("reward_clip_range", "clip_reward", "reward_clip", "cliprange_reward"),
    "reward.normalise": ("whiten_rewards", "ppo_score_norm", "use_score_norm", "normalize_reward", "reward_normalize"),
    "reward.truncated": ("mask_truncated_completions", "overlong_buffer"),
    "reward.truncated_penalty": ("missing_eos_penalty", "non_eos_penalty"),
    "algorithm": ("adv_estimator", "advantage_estimator", "stage", "finetuning_stage", "trainer_type", "algo"),
    "algorithm.clip_range": ("epsilon", "cliprange", "clip_ratio", "eps_clip", "clip_ratio_low"),
    "algorithm.clip_range_high": ("epsilon_high", "clip_ratio_high", "eps_clip_high"),
    "algorithm.value_clip_range": ("cliprange_value", "value_clip"),
    "algorithm.vf_coef": ("vf_coeff", "value_loss_coef"),
    "algorithm.gamma": ("discount",),
    "algorithm.gae_lambda": ("lam", "lambd", "lambda_gae"),
    "algorithm.epochs": ("num_iterations", "num_ppo_epochs", "ppo_epochs", "max_epochs"),
    "algorithm.minibatch_size": ("ppo_mini_batch_size", "train_batch_size", "mini_batch_size", "num_mini_batches"),
    "algorithm.aggregation": ("loss_type", "loss_agg_mode"),
    "algorithm.scale_by_std": ("scale_rewards", "norm_adv_by_std_in_grpo"),
    "algorithm.whiten": ("whiten_advantages", "advantage_whiten", "normalize_advantages"),
    "kl": ("use_kl_in_reward", "use_kl_loss", "kl_loss_type", "kl_penalty", "kl_estimator"),
    "beta": ("kl_coef", "init_kl_coef", "kl_loss_coef", "kl_coeff", "kl_beta", "pref_beta", "kl_weight"),
    "beta.target": ("kl_target", "target_kl", "ppo_target",),
    "beta.horizon_steps": ("kl_horizon",),
    "temperature": ("sampling_temperature", "rollout_temperature", "rollout.temperature"),
    "top_p": ("sampling_top_p", "rollout.top_p"),
    "top_k": ("rollout.top_k",),
    "optimizer.lr": ("learning_rate", "actor_learning_rate", "actor_lr", "policy_lr", "optim.lr"),
    "optimizer.schedule": ("lr_scheduler_type", "lr_scheduler", "lr_warmup_style", "warmup_style"),
    "optimizer.warmup_steps": ("warmup_ratio", "lr_warmup_steps", "lr_warmup_ratio", "lr_warmup_steps_ratio"),
    "optimizer.betas": ("adam_beta1", "adam_beta2", "adam_betas"),
    "optimizer.eps": ("adam_epsilon", "adam_eps"),
    "optimizer.weight_decay": ("l2",),
    "optimizer.max_grad_norm": ("max_norm", "grad_clip", "gradient_clipping"),
    "steps": (
        "max_steps", "epochs", "num_train_epochs", "total_episodes", "num_episodes", "total_training_steps",
        "total_epochs", "num_steps", "train_steps", "total_steps", "iterations",
    ),
    "prompts_per_step": (
        "per_device_train_batch_size", "rollout_batch_size", "batch_size", "data.train_batch_size",
        "generation_batch_size", "prompts_per_batch",
    ),
    "samples_per_prompt": ("num_generations", "n_samples_per_prompt", "rollout.n", "rloo_k", "group_size"),
    "prompts": ("filter_groups", "filter_groups.enable", "dynamic_filtering", "dynamic_sampling"),
    "max_rollouts": ("max_num_gen_batches",),
    "max_new_tokens": (
        "max_completion_length", "response_length", "max_response_length", "generate_max_len", "max_tokens",
        "max_length", "max_new_token",
    ),
    "microbatch_size": (
        "gradient_accumulation_steps", "micro_train_batch_size", "micro_rollout_batch_size", "micro_batch_size",
        "ppo_micro_batch_size_per_gpu", "ppo_micro_batch_size", "log_prob_micro_batch_size_per_gpu",
    ),
    "evaluate.every": ("eval_steps", "test_freq", "eval_strategy", "evaluation_strategy", "eval_freq"),
    "evaluate.prompts": ("val_size", "max_eval_samples", "eval_samples"),
    "evaluate.samples": ("num_generations_eval", "val_kwargs.n"),
    "patience": ("early_stopping_patience",),
    "objective.centre": ("center_rewards_coefficient",),
    "objective.label_smoothing": ("label_smoothing_factor",),
    "checkpoint.every": ("save_steps", "save_freq", "save_strategy", "save_interval"),
    "checkpoint.keep": ("save_total_limit", "max_ckpt_num", "max_ckpt_to_keep", "max_actor_ckpt_to_keep"),
    "checkpoint.keep_best": ("load_best_model_at_end",),
    "sinks": ("report_to", "logger", "use_wandb", "use_tensorboard", "logging_backend"),
    "log_samples": ("log_completions", "num_sample_generations", "log_val_generations"),
    "run_dir": (
        "output_dir", "default_local_dir", "save_path", "ckpt_path", "logging_dir", "out_dir", "save_dir", "run_name",
    ),
    "resume": ("resume_from_checkpoint", "load_checkpoint", "resume_mode", "resume_from_path"),
    "seed": ("random_seed", "data_seed"),
    "dtype": ("bf16", "fp16", "torch_dtype", "precision", "mixed_precision"),
    "device": ("use_cpu", "no_cuda", "device_map"),
    "processes": ("nproc_per_node", "num_processes", "n_gpus_per_node"),
    "shard_model": ("fsdp", "deepspeed"),
    "profile": ("profiler", "torch_profiler"),
}  # fmt: skip
"""Our setting, of any verb -> its names in other tools. A dotted name is the end of one of verl's."""

_GUARDS: Final = ("insecure", "trust_remote_code")
_BY_NAME: Final = {name: ours for ours, names in OURS.items() for name in names}


def ours_for(name: str) -> str | None:
    """Find the verb's own setting for a name of another tool, by its longest end in the table; None without one."""
    parts = name.split(".")
    ends = (".".join(parts[start:]) for start in range(len(parts)))
    ours = next((_BY_NAME[end] for end in ends if end in _BY_NAME), "")
    return next((key for key in (ours, f"objective.{ours}") if key in fields()), None)


def unknown_setting(key: str, value: Any = None) -> str:
    """Say that there is no such setting, and name ours for it, the nearest one, or the verb that has it.

    `value` is the value of the unknown setting; if it is a mapping, the message names the settings in it.
    """
    names = [name for name, _ in flatten({key: value}, with_empty=True) if ours_for(name)] or [key]
    if ours_for(names[0]):
        return "; ".join(f"unknown setting '{name}'; here it is {ours_for(name)}" for name in names)
    near = find_nearest(key, list_suggestions())
    others = [verb.words for verb in VERBS if verb.schema is not current().schema and _has(verb, key)]
    fix = f"did you mean {near}?" if near else f"rlhf {current().words} --help lists the settings"
    if others and not (near and near.endswith(f".{key}")):
        fix = f"it belongs to rlhf {', '.join(others)}"
    if key == "config":  # of the command line alone
        fix = "a file names what it builds on by `defaults: [NAME]`"
    return f"unknown setting '{key}'; {fix}"


def _has(verb: Verb[TrainingConfig], key: str) -> bool:
    with composing(verb):
        return key in fields()


def list_suggestions() -> list[str]:
    """List the settings that a message may suggest; none of them lowers a guard."""
    return [key for key in fields() if key.rpartition(".")[2] not in _GUARDS]
