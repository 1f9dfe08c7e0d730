"""Open a policy: on its device, in its dtype, with a fresh adapter."""

from collections.abc import Callable
from functools import partial
from typing import Final

import torch

from rlhf_cli.engine.allocator import keep_freed_memory
from rlhf_cli.errors import UserError
from rlhf_cli.models.building import build_policy
from rlhf_cli.models.memory import choose_device, multiplies_bfloat16
from rlhf_cli.models.policy import Policy
from rlhf_cli.models.specials import NONE_KEPT, SpecialTokens
from rlhf_cli.models.value_head import ValueHead
from rlhf_cli.schema import RunConfig, TrainingConfig
from rlhf_cli.seeding import seed_for

WHY_HIDDEN: Final = "it ends a completion, or reward.special_tokens drops it"
"""The reason for which a special token that is looked for is in no completion's text."""
THREADS: Final = torch.get_num_threads()


def load_policy(config: RunConfig, note: Callable[[str], None]) -> Policy:
    """Load the policy of `rlhf train`: with the head and the special tokens that algorithm and reward ask for.

    `note` gets a line for each harmless difference between the model and its files, and for a text that the reward
    looks for in vain.
    """
    strings, algorithm = config.reward.source.strings, config.algorithm
    special = SpecialTokens(config.reward.special_tokens, (*strings, *map(str, config.model.stop)))
    head = partial(ValueHead, shared_trunk=algorithm.shared_trunk) if algorithm.needs_value else None
    policy = open_policy(config, note, head=head, special=special)
    if hidden := policy.hidden_from_texts(strings):
        note(f"the reward looks for {', '.join(hidden)}, which no text of a completion has: {WHY_HIDDEN}")
    return policy


def open_policy(
    config: TrainingConfig,
    note: Callable[[str], None],
    *,
    head: Callable[[int], ValueHead] | None = None,
    special: SpecialTokens = NONE_KEPT,
) -> Policy:
    """Load the policy on its device, in its dtype; its fresh adapter follows from the run's seed.

    `note` gets a line for each harmless difference between the model and its files. The rest is as in `build_policy`.
    """
    torch.set_num_threads(config.threads or THREADS)  # always: an earlier run may have set another number
    keep_freed_memory()
    device, dtype = place_of(config)
    policy = build_policy(config.model, device, dtype, seed_for(config.seed, "init"), head=head, special=special)
    for line in policy.notes:
        note(line)
    if device.type == "cpu" and policy.causal.dtype == torch.bfloat16 and not multiplies_bfloat16():
        note("this CPU has neither AVX-512 BF16 nor AMX: with dtype=float32 products may be several times as quick")
    return policy


def place_of(config: TrainingConfig) -> tuple[torch.device, torch.dtype | None]:
    """The device and the dtype of the weights, None where the model decides.

    Raises UserError where this machine has no such device.
    """
    device, dtype = choose_device(config.device, config.dtype)
    reference = config.reference if isinstance(config, RunConfig) else None
    if dtype is None and reference and reference.kind == "model" and reference.adapter:
        dtype = torch.float32  # the adapter is merged into the reference's weights: bfloat16 would lose most of it
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"no {config.device} on this machine", where="device", fix="use device=auto or device=cpu")
    return device, dtype
