"""run.json: the machine, versions, model, data and reward of a run, for a resume and for readers years later."""

import hashlib
import platform
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch

from rlhf_cli.data.split import fingerprint
from rlhf_cli.engine.allocator import keep_freed_memory, return_freed_memory
from rlhf_cli.engine.memory import peak
from rlhf_cli.errors import bad_run
from rlhf_cli.models.fingerprint import are_weights_of
from rlhf_cli.models.memory import MIB, processor_of
from rlhf_cli.models.policy import Policy
from rlhf_cli.prompts.rows import Rows
from rlhf_cli.reporter import Reporter
from rlhf_cli.rewards.execution.process import reward_environment
from rlhf_cli.rewards.execution.scorer import Scorer, SourceScorer
from rlhf_cli.runs.binding import CHANGED, CONFIGS, HELD_OUT, read_hash, read_record, with_changes, write_record
from rlhf_cli.runs.changes import judging_groups
from rlhf_cli.runs.checkpoint import step_of
from rlhf_cli.runs.folder import CONFIG, RECORD
from rlhf_cli.runs.json_files import read_object
from rlhf_cli.runs.resume import Origin
from rlhf_cli.schema import TrainingConfig
from rlhf_cli.settings import flatten

PACKAGES: Final = ("rlhf-cli", "torch", "transformers", "peft", "safetensors", "hydra-core", "pydantic")
REFERENCE: Final = "reference"
"""Key of run.json: a reference that is another model."""
GROUND: Final = ("device", "processor", "dtype", "threads", "engine", "packages")
"""Keys that have to stay the same for a run to repeat bit for bit; `threads` only where it is not invariant."""
BUILD: Final = "build"
"""Key of run.json: the hash of our code."""
CALCULATING: Final = (
    "algorithms", "data", "engine", "functional", "models", "pipeline", "prompts", "ranks", "rewards", "schedules",
    "supervised",
)  # fmt: skip
"""The rooms whose code decides the bytes of a run."""
_read_version: Final = cache(version)

RunRecord = dict[str, Any]
"""The content of run.json."""


def record_of(
    config: TrainingConfig,
    policy: Policy,
    engine: str,
    rows: Rows,
    scorer: Scorer | None,
    *,
    predicted_peak: int,
    command: Sequence[str],
) -> RunRecord:
    """The record at the start of a run, which has a `scorer` where it has a reward; `predicted_peak` in bytes."""
    reward = None if scorer is None else scorer.sha256
    return {
        "command": list(command),
        "seed": config.seed,
        "device": str(policy.device),
        "processor": processor_of(policy.device),
        "dtype": str(policy.causal.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "engine": engine,
        "allocator": return_freed_memory() if config.divides_model else keep_freed_memory(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: _read_version(name) for name in PACKAGES},
        BUILD: hash_code(),
        "model": {
            "loaded_from": policy.causal.config.name_or_path or config.model.kind,
            "sha256_sampled": policy.fingerprint,
            "sha256_text": policy.text_fingerprint,
            "parameters": sum(p.numel() for p in policy.causal.parameters()),
            "trained": sum(p.numel() for p in policy.parameters().values()),
        },
        "data": {
            "sha256": fingerprint([*rows.train, *rows.held_out]),
            "train": len(rows.train),
            "held_out": len(rows.held_out),
        },
        "reward": {"sha256": reward, "environment": reward_environment() if reward else None},
        "memory": {"predicted_mib": predicted_peak // MIB, "measured_mib": None},
        CONFIGS: [],
    }


@cache
def hash_code() -> str:
    """Hash the code of the rooms that calculate (SHA-256): two builds of one version may have other bytes."""
    digest, root = hashlib.sha256(), Path(__file__).parents[1]
    for file in (root / "seeding.py", *sorted(file for room in CALCULATING for file in (root / room).rglob("*.py"))):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def write_end(folder: Path, device: torch.device, held_out: Sequence[str]) -> None:
    """Add the peak memory of this process up to now to run.json, and the held-out prompts: evaluations number them."""
    if record := read_record(folder):
        memory = record.get("memory", {}) | {"measured_mib": peak(device) // MIB}
        write_record(folder, record | {"memory": memory, HELD_OUT: list(held_out)})


def note_model(folder: Path, policy: Policy, note: Callable[[str], None]) -> None:
    """Note where the model is another one than the run in `folder` was trained on: its adapter fits only that one."""
    path = policy.causal.name_or_path
    if not are_weights_of(read_record(folder), policy.causal, policy.frozen()):
        note(f"the weights of {path} changed since {folder.name} began: its adapter was trained on others")
    if read_hash(folder, "model", "sha256_text") not in (None, policy.text_fingerprint):
        note(f"the tokenizer, chat template or end tokens of {path} changed since {folder.name} began")


def note_reward(folder: Path, scorer: SourceScorer, note: Callable[[str], None]) -> None:
    """Note where the reward is another one than the run in `folder` was trained from."""
    if read_hash(folder, "reward") not in (None, scorer.sha256):
        note(f"the reward changed since {folder.name} began: the scores are those of the new one")


def check_ground(
    origin: Origin, now: RunRecord, reporter: Reporter, allowed: Sequence[str]
) -> tuple[bool, dict[str, Any]]:
    """Refuse a changed model, data or source of the reward, unless `allowed` names it.

    Notes the other changes that keep the run from repeating bit for bit; returns whether there are none, and the record
    to go on with, which the caller writes once nothing refuses it any more.
    """
    folder, step = origin.folder, step_of(origin.checkpoint)
    before = read_record(folder)
    try:
        before["data"]["sha256"], before["model"]["sha256_sampled"], before["reward"]["sha256"]
    except (KeyError, TypeError) as error:
        raise bad_run(
            f"{RECORD} does not say what the run began with", folder, "bring it back, or start a new run"
        ) from error
    for name, key in (
        ("data", "sha256"),
        ("model", "sha256_sampled"),
        ("model", "sha256_text"),
        (REFERENCE, "sha256_sampled"),
        ("reward", "sha256"),
    ):
        was, is_now = before.get(name, {}).get(key), now.get(name, {}).get(key)
        if was in (None, is_now):  # None: an earlier version's record, or the reference is the initial policy
            continue
        if not any(one == name or one.startswith(f"{name}.") for one in allowed):
            what = "model's tokenizer, chat template or end tokens" if key == "sha256_text" else name
            raise bad_run(
                f"the {what} changed since the run began",
                folder,
                f"bring the {name} back, start a new run, or allow it: resume_allow=[{name}]",
            )
        reporter.note(f"the {name} changed, as allowed: the run continues with the new one")
        before = with_changes(before | {name: now.get(name, {})}, (name,), step)
    if now.get(REFERENCE) and not before.get(REFERENCE):  # reference=model now, as resume_allow or a fork allows
        before = before | {REFERENCE: now[REFERENCE]}
    invariant = before.get("invariant") is True and now.get("invariant") is True
    ground = [key for key in GROUND if not (invariant and key == "threads")]
    changed = [(key, before.get(key), now[key]) for key in ground if before.get(key) != now[key]]
    if before.get("packages") == now["packages"] and before.get(BUILD, now[BUILD]) != now[BUILD]:
        build = f"another build of rlhf-cli {_read_version('rlhf-cli')} began this run"
        reporter.note(f"{build}: it continues, but its bytes may be others")
    old, new = before["reward"].get("environment"), now["reward"]["environment"]
    if old and new:  # the user's function, and no record of an earlier version
        names = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
        changed += [(f"{name} of the reward's process", old.get(name), new.get(name)) for name in names]
    for key, former, present in changed:
        reporter.note(f"{key} changed ({former} -> {present}): the run continues, but not bit for bit")
    return not changed, before


def note_changes(origin: Origin, folder: Path, settings: Mapping[str, Any], reporter: Reporter) -> int:
    """Note settings by which evaluations judge that changed, in run.json too; return the step after which any did.

    `settings` are those to go on with, in `folder`. It is -1 where none changed, now or before.
    """
    old, new = (dict(flatten(each)) for each in (read_object(origin.folder / CONFIG), settings))
    groups = judging_groups(key for key in old.keys() & new.keys() if old[key] != new[key])
    before, step = read_record(origin.folder), step_of(origin.checkpoint)
    if (after := with_changes(before, groups, step)) != before:
        write_record(folder, after)
    changes: dict[str, int] = after.get(CHANGED, {})
    if step in changes.values():
        names = " and ".join(name for name, at in changes.items() if at == step)
        reporter.note(f"{names} changed: evaluations up to step {step} are not compared with later ones")
    return max(changes.values(), default=-1)
