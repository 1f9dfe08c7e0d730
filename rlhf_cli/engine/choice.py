"""Choose the engine of a policy, and check its logits against the library's."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Literal

import torch

from rlhf_cli.engine import Engine
from rlhf_cli.engine.aligned import may_be_invariant
from rlhf_cli.engine.llama import ADAPTER, why_unsupported
from rlhf_cli.engine.native import NativeEngine
from rlhf_cli.engine.transformers import TransformersEngine, blocks
from rlhf_cli.errors import UserError
from rlhf_cli.functional.sampling import Sampling
from rlhf_cli.models.memory import is_out_of_memory
from rlhf_cli.models.policy import Policy
from rlhf_cli.models.settings import Model
from rlhf_cli.types import Prompt, PromptBatch, PromptRow

TOLERANCE: Final = {torch.float32: 1e-3, torch.bfloat16: 5e-2}
"""Largest `logit_difference` of a correct engine: sums in another order round differently; bfloat16 rounds at 4e-3."""

RANDOM_B: Final = 0.02
"""Standard deviation of B while an engine is checked, for alpha <= rank: outputs then change by about a tenth."""


def build_engine(
    policy: Policy, settings: Model, note: Callable[[str], None], invariant: Literal["auto"] | bool = False
) -> NativeEngine | TransformersEngine:
    """Build the engine that `settings.engine` asks for; auto prefers the native one, and notes why where it cannot.

    `invariant`: whether a completion's bits may depend on no other text and no thread; auto: where that costs little.

    Raises UserError where the native engine is asked for and cannot run the model, where neither can, and where
    invariance is asked for and this machine or engine does not have it.
    """
    if any(parameter.requires_grad for parameter in policy.causal.get_output_embeddings().parameters()):
        raise UserError(
            "the adapter covers the output layer, which must stay frozen",
            where="model.lora.target_modules",
            fix="leave lm_head out, or use all-linear",
        )
    tries = invariant is not False and may_be_invariant(policy, packed=invariant is True)
    with _random_adapter(policy):
        engine = _build_checked(policy, settings, note, invariant=tries)
    if invariant is True and not engine.invariant:
        what = "completions cannot be independent of each other here: that takes the native engine and a CPU"
        raise UserError(f"{what} whose products allow it", where="invariant", fix="invariant=false")
    return engine


def _build_checked(
    policy: Policy, settings: Model, note: Callable[[str], None], *, invariant: bool
) -> NativeEngine | TransformersEngine:
    tolerance = TOLERANCE[policy.causal.dtype]
    if settings.engine != "transformers":
        reason = why_unsupported(policy)
        if reason is None:
            try:
                native = NativeEngine(policy, recompute=settings.gradient_checkpointing, invariant=invariant)
                if invariant and not native.is_invariant():
                    native = NativeEngine(policy, recompute=settings.gradient_checkpointing)
                if logit_difference(policy, native) <= tolerance:
                    return native
                reason = "its logits differ from the library's"
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                reason = "a packed copy of its weights does not fit into memory"
        if settings.engine == "native":
            raise UserError(
                f"the native engine cannot run this model: {reason}", where="model.engine", fix="model.engine=auto"
            )
        note(f"the model runs on transformers' own forward pass, which is slower: {reason}")
    if settings.gradient_checkpointing and not blocks(policy):
        what = f"{policy.causal.config.model_type} models have no layers that can be computed again"
        raise UserError(what, where="model.gradient_checkpointing", fix="model.gradient_checkpointing=false")
    try:
        plain = TransformersEngine(policy, recompute=settings.gradient_checkpointing)
        difference = logit_difference(policy, plain)
    except Exception as error:  # a family whose cache or layers are not those of a transformer can raise anything
        if is_out_of_memory(error):
            raise
        raise _unsupported(policy, f"cannot be run here ({type(error).__name__}: {error})") from error
    if not difference <= tolerance:  # false for NaN too
        raise _unsupported(policy, "change their logits in a way that is not supported")
    return plain


def _unsupported(policy: Policy, what: str) -> UserError:
    return UserError(
        f"{policy.causal.config.model_type} models {what.splitlines()[0]}",
        where="model.path",
        fix="use a model of another family, such as Llama, Qwen, Mistral or Gemma",
    )


@contextmanager
def _random_adapter(policy: Policy) -> Iterator[None]:
    """Inside, the adapter's B are small random numbers: with zeros, an engine without adapter would pass the check.

    Afterwards B is restored, to the bit.
    """
    parameters = {name: parameter for name, parameter in policy.parameters().items() if "lora_B" in name}
    saved = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    lora, generator = policy.peft.peft_config[ADAPTER], torch.Generator().manual_seed(0)
    size = RANDOM_B / max(1.0, lora.lora_alpha / lora.r)  # a large alpha must not make a large change
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.copy_(size * torch.randn(parameter.shape, generator=generator))
    try:
        yield
    finally:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(saved[name])


@torch.no_grad()
def logit_difference(policy: Policy, engine: Engine) -> float:
    """Largest difference of the engine's logits from the library's on two texts, divided by the library's largest.

    Checks the engine's sampling and reading, on prompts of two lengths and so with padding, and of two completions
    each. Some architectures change their logits behind the output layer, let padding into their state, or keep a state
    that is not copied to the completions; training on wrong logits would go unnoticed.
    """
    prompts = tuple(Prompt(PromptRow("", {}, "check"), "", tokens) for tokens in ((0, 1, 2), (1,)))
    rollout = engine.sample(PromptBatch(prompts, 2, (0, 0, 0, 0)), Sampling(3, 0.0), lambda: None)
    rows = torch.tensor([1, 2])  # one of each prompt
    read = engine.hidden(rollout, rows).split(rollout.lengths[rows].tolist())
    errors, largest = [], []
    for row, prompt, states in zip(rows, prompts, read, strict=True):
        mask = rollout.completion_mask[row]
        ids = torch.cat([torch.tensor(prompt.tokens, device=policy.device), rollout.tokens[row][mask]])[None]
        expected = policy.causal(input_ids=ids, use_cache=False).logits[0, len(prompt.tokens) - 1 : -1].float()
        errors += [
            (engine.head(hidden).float() - expected).abs().max() for hidden in (rollout.hidden[row][mask], states)
        ]
        largest.append(expected.abs().max())
    return float(torch.stack(errors).max() / torch.stack(largest).max())
