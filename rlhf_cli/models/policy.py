"""The policy: a causal language model with a LoRA adapter. The reference is the same weights with the adapter off."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from rlhf_cli.errors import bad_run
from rlhf_cli.models.chat import find_end_of_turn
from rlhf_cli.models.encoder import Encoder
from rlhf_cli.models.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from rlhf_cli.models.fingerprint import text_fingerprint, weights_fingerprint
from rlhf_cli.models.specials import is_named, special_ids
from rlhf_cli.models.value_head import ValueHead
from rlhf_cli.types import Prompt, PromptRow

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Policy:
    """A model with its tokenizer, adapter and value head. During a run only the weights change."""

    peft: PeftModel
    tokenizer: PreTrainedTokenizerBase
    use_chat_template: bool
    end_tokens: tuple[int, ...]
    """Every token id that ends a completion."""
    pad_token: int
    """Fills unused positions; it may equal an end token, since masks come from lengths."""
    context: int
    """Longest sequence that the model can read, in tokens."""
    stop_texts: tuple[str, ...] = ()
    """Every text that ends a completion in which it appears."""
    notes: tuple[str, ...] = ()
    """One line for each harmless difference between the model's files and the model."""
    anchor: tuple[int, ...] = ()
    """A token to put before a completion when decoding it, if the tokenizer drops a text's first space; else none."""
    kept_tokens: frozenset[int] = frozenset()
    """Special tokens that stay in the texts of completions."""
    value_head: ValueHead | None = None
    """Estimates the return that follows a state, or scores a text; None for training that does not need it."""
    whole_fingerprint: str | None = None
    """The fingerprint of the frozen weights where this process holds a part of them; None where it holds them all."""
    _trained: dict[str, nn.Parameter] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Find the trained weights once: an update asks for them several times, and a model has a thousand modules."""
        adapter = {name: p for name, p in self.peft.named_parameters() if p.requires_grad}
        head = {} if self.value_head is None else dict(self.value_head.named_parameters(prefix="value_head"))
        object.__setattr__(self, "_trained", dict(sorted((adapter | head).items())))

    @property
    def causal(self) -> PreTrainedModel:
        """The transformers model, its linear layers wrapped by the adapter."""
        model: PreTrainedModel = self.peft.get_base_model()
        return model

    @property
    def end_token(self) -> int:
        """The token that ends a completion to learn from: the end of the template's turn, or the tokenizer's own."""
        turn = find_end_of_turn(self.tokenizer) if self.use_chat_template else None
        candidates = (turn, self.tokenizer.eos_token_id, *self.end_tokens)
        return next(int(token) for token in candidates if token in self.end_tokens)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        device: torch.device = self.causal.device
        return device

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Switch the adapter off during the block: the model is the reference."""
        with self.peft.disable_adapter():
            yield

    @contextmanager
    def dropout(self, seed: int) -> Iterator[None]:
        """Switch the adapter's dropout on during the block, seeded by `seed`; the base model's stays off."""
        if not self.peft.peft_config["default"].lora_dropout:
            yield
            return
        layers = [m for name, m in self.peft.named_modules() if isinstance(m, nn.Dropout) and "lora_dropout" in name]
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(seed)
            try:
                for layer in layers:
                    layer.train()
                yield
            finally:
                for layer in layers:
                    layer.eval()

    def parameters(self) -> dict[str, nn.Parameter]:
        """The trained weights by name, sorted: the adapter's and the value head's."""
        return dict(self._trained)

    def frozen(self) -> dict[str, nn.Parameter]:
        """All other weights of the model by name: those that it was loaded with."""
        return {name: p for name, p in self.peft.named_parameters() if name not in self._trained}

    @property
    def fingerprint(self) -> str:
        """The hash of the frozen weights, by `weights_fingerprint`."""
        return self.whole_fingerprint or weights_fingerprint(self.frozen().items())

    @property
    def text_fingerprint(self) -> str:
        """The hash of how the policy reads and writes text, by `text_fingerprint`."""
        return text_fingerprint(self.tokenizer, self.end_tokens, use_chat_template=self.use_chat_template)

    def values(self, hidden: Tensor, *, by_row: bool = False) -> Tensor:
        """The value head's estimates for states [N, H]: float32 [N]; raises ValueError without a head.

        `by_row`: as for `ValueHead.forward`.
        """
        if self.value_head is None:
            raise ValueError("the policy has no value head")
        values: Tensor = self.value_head(hidden, by_row=by_row)
        return values

    @property
    def encoder(self) -> Encoder:
        """The encoder of prompts."""
        return Encoder(self.tokenizer, self.use_chat_template, self.causal.get_input_embeddings().num_embeddings)

    def encode(self, row: PromptRow) -> Prompt:
        """Render and tokenize one row; raises UserError (exit 3) as `Encoder.encode` does."""
        return self.encoder.encode([row])[0]

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the text of a completion, without special tokens other than `kept_tokens`.

        Some tokenizers drop the first space of a text. A completion follows a prompt, so it keeps its space.
        """
        return self._text([*self.anchor, *tokens]).removeprefix(self._text(self.anchor))

    def _text(self, tokens: Sequence[int]) -> str:
        if self.kept_tokens.isdisjoint(tokens):
            return str(self.tokenizer.decode(tokens, skip_special_tokens=True))
        dropped = set(special_ids(self.tokenizer).values()) - self.kept_tokens
        return str(self.tokenizer.decode([token for token in tokens if token not in dropped]))

    def hidden_from_texts(self, strings: Iterable[str]) -> list[str]:
        """Find the special tokens that the strings name although the texts of completions never have them."""
        hidden = (token for token, number in special_ids(self.tokenizer).items() if number not in self.kept_tokens)
        strings = tuple(strings)
        return [token for token in hidden if is_named(token, strings)]

    def adapter_files(self) -> dict[str, bytes]:
        """Make the files of a PEFT folder, name -> content: float32 safetensors and a config, both reproducible."""
        from safetensors.torch import save

        weights = {k: v.detach().cpu().contiguous() for k, v in self._adapter_weights().items()}
        # PEFT keeps target_modules in a set, whose order changes between processes.
        config = {
            k: sorted(v) if isinstance(v, set) else v for k, v in self.peft.peft_config["default"].to_dict().items()
        }
        config["inference_mode"] = True
        return {
            ADAPTER_WEIGHTS: save(dict(sorted(weights.items())), metadata={"format": "pt"}),
            ADAPTER_CONFIG: (json.dumps(config, indent=2, sort_keys=True, default=str) + "\n").encode(),
        }

    def load_adapter(self, folder: Path) -> None:
        """Load the adapter's weights from a PEFT folder; raises UserError (exit 5) where names or shapes differ."""
        from peft import set_peft_model_state_dict
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            weights = load_file(folder / ADAPTER_WEIGHTS)
        except (OSError, SafetensorError) as error:
            what, fix = f"{ADAPTER_WEIGHTS} cannot be read: {error}", "name a checkpoint of the run"
            raise bad_run(what, folder, fix) from error
        if different := sorted(_shapes(weights) ^ _shapes(self._adapter_weights())):
            raise bad_run(
                f"the adapter does not fit the model: {different[0][0]}",
                folder,
                "use the model and the model.lora settings it was trained with",
            )
        set_peft_model_state_dict(self.peft, weights)

    def _adapter_weights(self) -> dict[str, Tensor]:
        from peft import get_peft_model_state_dict

        # By default PEFT asks the hub whether the embeddings were resized; they never are.
        weights: dict[str, Tensor] = get_peft_model_state_dict(self.peft, save_embedding_layers=False)
        return weights


def _shapes(weights: Mapping[str, Tensor]) -> set[tuple[str, tuple[int, ...]]]:
    return {(name, tuple(weight.shape)) for name, weight in weights.items()}
