"""Which engine a policy runs on, and whether it computes what the library does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import torch

from rlhf_cli.engine import Engine
from rlhf_cli.engine.llama import ADAPTER, unsupported
from rlhf_cli.engine.memory import out_of_memory
from rlhf_cli.engine.native import NativeEngine
from rlhf_cli.engine.transformers import TransformersEngine
from rlhf_cli.errors import UserError
from rlhf_cli.models.policy import Policy
from rlhf_cli.models.settings import Model
from rlhf_cli.types import Prompt, PromptBatch, PromptRow

TOLERANCE: Final = {torch.float32: 1e-3, torch.bfloat16: 5e-2}
"""Of `deviation`: rounding, and what an engine that adds up in another order makes of it. bfloat16 rounds at 4e-3."""


STIR: Final = 0.02
"""Of B, for an alpha no larger than the rank, while an engine is checked: outputs then change by about a tenth."""


def build_engine(policy: Policy, settings: Model, note: Callable[[str], None]) -> NativeEngine | TransformersEngine:
    """The engine that `settings.engine` asks for; auto takes the native one where it can, and says why where not.

    Raises UserError where the native one is asked for and cannot be had, and for a model that neither can run.
    """
    if any(parameter.requires_grad for parameter in policy.causal.get_output_embeddings().parameters()):
        raise UserError(
            "the adapter covers the output layer, which must stay frozen",
            where="model.lora.target_modules",
            fix="leave lm_head out, or use all-linear",
        )
    with _away_from_the_reference(policy):
        return _checked(policy, settings, note)


def _checked(policy: Policy, settings: Model, note: Callable[[str], None]) -> NativeEngine | TransformersEngine:
    tolerance = TOLERANCE[policy.causal.dtype]
    if settings.engine != "transformers":
        reason = unsupported(policy)
        if not reason:
            try:
                native = NativeEngine(policy, recompute=settings.gradient_checkpointing)
                if deviation(policy, native) <= tolerance:
                    return native
                reason = "its logits differ from the library's"
            except Exception as error:
                if not out_of_memory(error):
                    raise
                reason = "a packed copy of its weights does not fit into memory"
        if settings.engine == "native":
            raise UserError(
                f"the native engine cannot run this model: {reason}", where="model.engine", fix="model.engine=auto"
            )
        note(f"the model runs on transformers' own forward pass, which is slower: {reason}")
    plain = TransformersEngine(policy, recompute=settings.gradient_checkpointing)
    if not deviation(policy, plain) <= tolerance:  # false for NaN too
        raise UserError(
            f"{policy.causal.config.model_type} models change their logits in a way that is not supported",
            where="model.path",
            fix="use a model of another family, such as Llama, Qwen, Mistral or Gemma",
        )
    return plain


@contextmanager
def _away_from_the_reference(policy: Policy) -> Iterator[None]:
    """Inside, the adapter's B are small numbers: while they are zero, as at first, nobody would miss an adapter.

    Afterwards they are what they were, to the bit.
    """
    parameters = {name: parameter for name, parameter in policy.parameters().items() if "lora_B" in name}
    kept = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    lora, generator = policy.peft.peft_config[ADAPTER], torch.Generator().manual_seed(0)
    size = STIR / max(1.0, lora.lora_alpha / lora.r)  # however large the user's alpha is, the change is not
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.copy_(size * torch.randn(parameter.shape, generator=generator))
    try:
        yield
    finally:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(kept[name])


@torch.no_grad()
def deviation(policy: Policy, engine: Engine) -> float:
    """Largest difference of the engine's logits from the library's own, over the largest of those, on a short text.

    Both as the engine samples and as it reads. Some architectures rescale their logits behind the output layer, and the
    wrong ones would train in silence.
    """
    batch = PromptBatch((Prompt(PromptRow("", {}, "check"), "", (0, 1, 2)),), 1, (0,))
    rollout = engine.sample(batch, 3, 0.0, lambda: None)
    completion = rollout.tokens[0][rollout.completion_mask[0]]
    ids = torch.cat([torch.tensor(batch.prompts[0].tokens, device=policy.device), completion])[None]
    own = policy.causal(input_ids=ids, use_cache=False).logits[0, 2:-1].float()
    ours = (rollout.hidden[0], engine.hidden(rollout, torch.tensor([0])))
    differences = torch.stack([(engine.head(hidden).float() - own).abs().max() for hidden in ours])
    return float(differences.max() / own.abs().max())
