"""RunConfig and prompts -> Run: load the model and fit everything together; fresh, or from a checkpoint."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch

from rlhf_cli.allocator import keep_freed_memory
from rlhf_cli.checkpoint import CHECKPOINTS, abandon
from rlhf_cli.data.jsonl import fingerprint
from rlhf_cli.disk import replace_file
from rlhf_cli.engine.choice import build_engine
from rlhf_cli.engine.memory import microbatch_size, predicted_peak
from rlhf_cli.errors import EXIT_DATA, EXIT_RESUME, UserError
from rlhf_cli.metrics import Mark, cut_back
from rlhf_cli.models.policy import Policy, build_policy
from rlhf_cli.pipeline.logbook import LOGS, Logbook
from rlhf_cli.pipeline.profiling import Profiler
from rlhf_cli.pipeline.reporter import Reporter
from rlhf_cli.pipeline.result import RESULT
from rlhf_cli.pipeline.resume import CONFIG, Origin
from rlhf_cli.pipeline.rows import Rows, check_enough
from rlhf_cli.pipeline.run import Run
from rlhf_cli.pipeline.saving import Saver
from rlhf_cli.pipeline.signals import StopSignals
from rlhf_cli.pipeline.state import TrainState, load
from rlhf_cli.rewards.judge import Judge
from rlhf_cli.schema import RunConfig
from rlhf_cli.seeding import seed_for
from rlhf_cli.types import Prompt, PromptRow

RUN: Final = "run.json"
PROFILE: Final = "profile"
THREADS: Final = torch.get_num_threads()
PACKAGES: Final = ("rlhf-cli", "torch", "transformers", "peft", "safetensors", "hydra-core", "pydantic")


def assemble(
    config: RunConfig,
    rows: Rows,
    folder: Path,
    judge: Judge,
    reporter: Reporter,
    signals: StopSignals,
    origin: Origin | None,
) -> Run:
    """Everything a run needs, in `folder`, at step 0 or at the origin's checkpoint.

    Raises UserError for prompts, models and settings that do not fit together.
    """
    with reporter.phase("loading the model", 0):
        policy = load_policy(config)
        engine = build_engine(policy, config.model, reporter.note)
    prompts = encode(rows.train, policy, config, reporter)
    held_out = encode(rows.held_out, policy, config, reporter)
    if config.evaluate.every and len(held_out) < 2:
        raise UserError(
            f"{len(held_out)} held-out prompts are left; two are the least to say anything about",
            where=config.data.eval_path or config.data.path,
            fix="raise data.max_prompt_tokens, or switch evaluation off (evaluate.every=0)",
            exit_code=EXIT_DATA,
        )
    check_enough(len(prompts), config)
    longest = max(len(prompt.tokens) for prompt in (*prompts, *held_out)) + config.max_new_tokens
    completions = config.prompts_per_step * max(config.samples_per_prompt, config.evaluate.samples)
    recompute = config.model.gradient_checkpointing
    if config.microbatch_size == "auto":
        size = microbatch_size(policy, longest, completions, config.samples_per_prompt, recompute=recompute)
        config = config.model_copy(update={"microbatch_size": size})
    assert isinstance(config.microbatch_size, int)
    predicted = predicted_peak(
        policy, longest, config.max_new_tokens, completions, config.microbatch_size, recompute=recompute
    )
    saver = Saver(folder, config.checkpoint, reporter.note)
    saver.check_room(policy)

    optimizer = torch.optim.AdamW(
        policy.parameters().values(),
        lr=config.optimizer.lr,
        betas=config.optimizer.betas,
        eps=config.optimizer.eps,
        weight_decay=config.optimizer.weight_decay,
    )
    record = _record(config, policy, engine.name, rows, judge) | {"memory": {"predicted_mib": predicted >> 20}}
    if origin is None:
        state = TrainState()
        replace_file(folder / RUN, _as_text(record))
    else:
        same = _same_ground(origin.folder, record, reporter, config.resume_allow)
        state = load(origin.checkpoint, policy, optimizer)
        if not same:
            state = replace(state, sampler_gap=None)  # other ground rounds differently: compare again
        abandon(folder / CHECKPOINTS, state.step)
        for name in LOGS:
            orphan = cut_back(folder / f"{name}.jsonl", state.logs.get(name, Mark()))
            if orphan is not None:
                reporter.note(f"{name}.jsonl is not what the checkpoint saw; kept as {orphan.name}")
        (folder / RESULT).unlink(missing_ok=True)  # of another end than the one this run will come to
    # what was allowed to change was allowed once
    saved = config.model_copy(update={"resume_allow": ()}).model_dump(mode="json")
    replace_file(folder / CONFIG, json.dumps(saved, indent=2) + "\n")
    return Run(
        config=config,
        folder=folder,
        policy=policy,
        engine=engine,
        optimizer=optimizer,
        prompts=prompts,
        held_out=held_out,
        saver=saver,
        judge=judge,
        reporter=reporter,
        logbook=Logbook(folder, state.step, reporter.note),
        signals=signals,
        state=state,
        profiler=Profiler(folder / PROFILE, policy.device, reporter) if config.profile else None,
    )


def load_policy(config: RunConfig) -> Policy:
    """The policy on its device, in its dtype, with a fresh adapter that depends on the run's seed."""
    torch.set_num_threads(config.threads or THREADS)  # always: the trial before this one may have set another number
    keep_freed_memory()
    device = _device(config.device)
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    dtype = dtypes.get(config.dtype) or (torch.bfloat16 if device.type == "cuda" else torch.float32)
    seed = seed_for(config.seed, "init")
    return build_policy(config.model, device, dtype, seed, value_head=config.algorithm.needs_value)


def encode(rows: Sequence[PromptRow], policy: Policy, config: RunConfig, reporter: Reporter) -> tuple[Prompt, ...]:
    """The prompts in the policy's tokens; too long ones are refused (exit 3), or dropped and counted."""
    room = policy.context - config.max_new_tokens
    if room < 1:
        raise UserError(
            f"max_new_tokens={config.max_new_tokens} leaves no room for a prompt: the model reads {policy.context}",
            where="max_new_tokens",
            fix="lower it",
        )
    limit = min(config.data.max_prompt_tokens, room)
    kept, dropped = [], 0
    for prompt in map(policy.encode, rows):
        if len(prompt.tokens) <= limit:
            kept.append(prompt)
        elif config.data.too_long == "drop":
            dropped += 1
        else:
            why = "data.max_prompt_tokens" if limit < room else f"the model's {policy.context} less max_new_tokens"
            raise UserError(
                f"the prompt has {len(prompt.tokens)} tokens, more than {limit} ({why})",
                where=prompt.row.where,
                fix="shorten it, raise the limit, or leave such prompts out: data.too_long=drop",
                exit_code=EXIT_DATA,
            )
    if dropped:
        reporter.note(f"{dropped} of {len(rows)} prompts are longer than {limit} tokens and were dropped")
    return tuple(kept)


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"no {name} on this machine", where="device", fix="use device=auto or device=cpu")
    return device


def _record(config: RunConfig, policy: Policy, engine: str, rows: Rows, judge: Judge) -> dict[str, Any]:
    """What run.json says: enough to know, years later, what ran where on what."""
    return {
        "command": sys.argv,
        "seed": config.seed,
        "device": str(policy.device),
        "dtype": str(policy.causal.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "engine": engine,
        "allocator": keep_freed_memory(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES},
        "model": {
            "loaded_from": policy.causal.config.name_or_path or config.model.kind,
            "sha256_sampled": _weights_fingerprint(policy),
            "parameters": sum(p.numel() for p in policy.causal.parameters()),
            "trained": sum(p.numel() for p in policy.parameters().values()),
        },
        "data": {
            "sha256": fingerprint([*rows.train, *rows.held_out]),
            "train": len(rows.train),
            "held_out": len(rows.held_out),
        },
        "reward": {"sha256": judge.sha256},
    }


def _as_text(record: dict[str, Any]) -> str:
    return json.dumps(record, indent=2, ensure_ascii=False) + "\n"


def _same_ground(folder: Path, now: dict[str, Any], reporter: Reporter, allowed: Sequence[str]) -> bool:
    """Refuse another model, other data or another reward's source than the run began with, unless it is allowed.

    Says what else keeps it from repeating bit for bit, and returns whether nothing does.
    """
    try:
        before = json.loads((folder / RUN).read_text(encoding="utf-8"))
        before["data"]["sha256"], before["model"]["sha256_sampled"], before["reward"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{RUN} does not say what the run began with",
            where=str(folder),
            fix="bring it back, or start a new run",
            exit_code=EXIT_RESUME,
        ) from error
    for name, key in (("data", "sha256"), ("model", "sha256_sampled"), ("reward", "sha256")):
        if before[name][key] == now[name][key]:
            continue
        if not any(one == name or one.startswith(f"{name}.") for one in allowed):
            raise UserError(
                f"the {name} changed since the run began",
                where=str(folder),
                fix=f"bring the {name} back, start a new run, or allow it: resume_allow=[{name}]",
                exit_code=EXIT_RESUME,
            )
        reporter.note(f"the {name} changed, as allowed: the run continues with the new one")
        replace_file(folder / RUN, _as_text(before := before | {name: now[name]}))
    changed = [key for key in ("device", "dtype", "threads", "engine", "packages") if before[key] != now[key]]
    for key in changed:
        reporter.note(f"{key} changed ({before[key]} -> {now[key]}): the run continues, but not bit for bit")
    return not changed


def _weights_fingerprint(policy: Policy) -> str:
    """SHA-256 over names, shapes and up to 1024 evenly spaced values of every frozen weight: quick on any size."""
    digest = hashlib.sha256()
    trained = policy.parameters().keys()
    for name, weight in _sorted(policy.peft.named_parameters()):
        if name not in trained:
            flat = weight.detach().flatten()
            values = flat[:: max(1, len(flat) // 1024)].float().cpu().contiguous()
            digest.update(f"{name} {tuple(weight.shape)}".encode() + values.numpy().tobytes())
    return digest.hexdigest()


def _sorted(named: Iterable[tuple[str, torch.Tensor]]) -> list[tuple[str, torch.Tensor]]:
    return sorted(named, key=lambda pair: pair[0])
