"""The policy and its reference: its weights without the adapter, or another model of the same tokenizer."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from torch import Tensor

from rlhf_cli.engine import Engine
from rlhf_cli.engine.choice import build_engine
from rlhf_cli.engine.decoding import Reader
from rlhf_cli.engine.native import NativeEngine
from rlhf_cli.engine.opening import load_policy
from rlhf_cli.engine.transformers import TransformersEngine
from rlhf_cli.errors import UserError
from rlhf_cli.functional.sampling import Sampling
from rlhf_cli.models.building import build_policy
from rlhf_cli.models.location import errors_of_reference
from rlhf_cli.models.memory import MIB
from rlhf_cli.models.policy import Policy
from rlhf_cli.schema import RunConfig
from rlhf_cli.types import PromptBatch, Rollout, Tick, Watch

OneEngine = NativeEngine | TransformersEngine


@dataclass(frozen=True, slots=True)
class TwoModels:
    """The `Engine` of a policy whose reference is another model."""

    own: OneEngine
    other: OneEngine
    """Runs the reference: the other model with its adapter switched off, and the policy's tokenizer and end tokens."""

    @property
    def name(self) -> str:
        """The name of the policy's engine."""
        return self.own.name

    @property
    def invariant(self) -> bool:
        return self.own.invariant and self.other.invariant

    @property
    def policy(self) -> Policy:
        return self.own.policy

    def head(self, hidden: Tensor) -> Tensor:
        return self.own.head(hidden)

    def reference_head(self, hidden: Tensor) -> Tensor:
        return self.other.head(hidden)

    def values(self, hidden: Tensor) -> Tensor:
        return self.own.values(hidden)

    def sample(
        self,
        batch: PromptBatch,
        sampling: Sampling,
        tick: Tick,
        *,
        reference: bool = False,
        watch: Watch | None = None,
    ) -> Rollout:
        engine = self.other if reference else self.own
        return engine.sample(batch, sampling, tick, reference=reference, watch=watch)

    def begin(self, batch: PromptBatch, sampling: Sampling, *, reference: bool) -> tuple[Reader, Tensor]:
        return (self.other if reference else self.own).begin(batch, sampling, reference=reference)

    def hidden(self, rollout: Rollout, rows: Tensor, *, reference: bool = False) -> Tensor:
        return (self.other if reference else self.own).hidden(rollout, rows, reference=reference)


AnyEngine = OneEngine | TwoModels


def native_engine(engine: Engine) -> NativeEngine | None:
    """The native engine, where it runs the policy; only that one can reuse a forward pass."""
    own = engine.own if isinstance(engine, TwoModels) else engine
    return own if isinstance(own, NativeEngine) else None


def load_models(config: RunConfig, note: Callable[[str], None]) -> tuple[Policy, AnyEngine]:
    """Load the policy of `rlhf train`, and the engine that runs it and its reference.

    The policy's context is then the shorter of both. `note` gets what `load_policy` says, and the memory of a second
    model. Raises UserError for models that do not fit together.
    """
    policy = load_policy(config, note)
    own = build_engine(policy, config.model, note, config.invariant)
    if config.reference.kind == "initial":
        return policy, own
    settings = config.reference.pretrained()
    with errors_of_reference():
        found = build_policy(settings, policy.device, policy.causal.dtype, 0)
        if (why := first_difference(policy.tokenizer, found.tokenizer)) is not None:
            raise UserError(
                f"policy and reference read other tokens: {why}",
                where="reference.path",
                fix="give a model with the tokenizer of model.path",
            )
        _cut_vocabulary(found, _vocabulary(policy))
        reading = replace(policy, peft=found.peft, context=found.context, notes=found.notes, value_head=None)
        other = build_engine(reading, settings, lambda line: note(f"reference: {line}"), config.invariant)
    size = sum(p.numel() * p.element_size() for p in found.causal.parameters()) / MIB
    for line in found.notes:
        note(f"reference: {line}")
    note(
        f"the reference is {settings.path}: {size:,.1f} MiB beside the policy, and a pass over the completions of each "
        "step"
    )
    return replace(policy, context=min(policy.context, found.context)), TwoModels(own, other)


class Vocabulary(Protocol):
    """The part of a tokenizer that is compared."""

    def get_vocab(self) -> dict[str, int]:
        """Text -> number of every token."""


def first_difference(own: Vocabulary, other: Vocabulary) -> str | None:
    """The first token, by its number, that two tokenizers read differently; None where all are the same."""
    ours, theirs = ({number: text for text, number in each.get_vocab().items()} for each in (own, other))
    for number in sorted({*ours, *theirs}):
        if ours.get(number) != theirs.get(number):
            texts = (repr(each[number]) if number in each else "missing" for each in (ours, theirs))
            return "token {} is {} in the policy's tokenizer and {} in the reference's".format(number, *texts)
    return None


def _vocabulary(policy: Policy) -> int:
    return int(policy.causal.get_output_embeddings().weight.shape[0])


def _cut_vocabulary(reference: Policy, tokens: int) -> None:
    """Cut off outputs that stand for no token; raises UserError where the reference has too few."""
    width = _vocabulary(reference)
    if width < tokens:
        what = f"the policy's output layer has {tokens} tokens, and the reference's {width}"
        raise UserError(what, where="reference.path", fix="give a model with as many")
    if width > tokens:
        reference.causal.resize_token_embeddings(tokens, mean_resizing=False)
