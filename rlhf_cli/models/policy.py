"""The policy: a causal language model with a LoRA adapter. The reference is the same weights with the adapter off."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn

from rlhf_cli.errors import EXIT_RESUME, UserError
from rlhf_cli.models.encoder import Encoder, context_of, wants_template
from rlhf_cli.models.loading import quiet_peft
from rlhf_cli.models.settings import Lora, Model
from rlhf_cli.models.value_head import ValueHead
from rlhf_cli.types import Prompt, PromptRow

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ADAPTER_WEIGHTS: Final = "adapter_model.safetensors"
ADAPTER_CONFIG: Final = "adapter_config.json"


@dataclass(frozen=True, slots=True)
class Policy:
    """A model and what belongs to it. The weights change during a run; everything else here does not."""

    peft: PeftModel
    tokenizer: PreTrainedTokenizerBase
    use_chat_template: bool
    end_tokens: tuple[int, ...]
    """Every token id that ends a completion."""
    pad_token: int
    """Fills unused positions; masks come from lengths, so it may equal an end token."""
    context: int
    """Longest sequence the model can read."""
    value_head: ValueHead | None = None
    """What a state is worth; only for algorithms that ask."""

    @property
    def causal(self) -> PreTrainedModel:
        """The transformers model, its linear layers wrapped by the adapter."""
        model: PreTrainedModel = self.peft.get_base_model()
        return model

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        device: torch.device = self.causal.device
        return device

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Inside, the model is the reference: adapter off, the very weights of the base model."""
        with self.peft.disable_adapter():
            yield

    @contextmanager
    def dropout(self, seed: int) -> Iterator[None]:
        """Inside, the adapter's dropout is on, from a stream that begins at `seed`; the base model's own stays off."""
        layers = [m for name, m in self.peft.named_modules() if isinstance(m, nn.Dropout) and "lora_dropout" in name]
        if not layers:
            yield
            return
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
        """What is trained, by name, sorted: the adapter's weights and the value head's."""
        adapter = {name: p for name, p in self.peft.named_parameters() if p.requires_grad}
        head = {} if self.value_head is None else dict(self.value_head.named_parameters(prefix="value_head"))
        return dict(sorted((adapter | head).items()))

    def values(self, hidden: Tensor) -> Tensor:
        """What the value head expects from the states [N, H] on: float32 [N]; raises ValueError without a head."""
        if self.value_head is None:
            raise ValueError("the policy has no value head")
        values: Tensor = self.value_head(hidden)
        return values

    @property
    def encoder(self) -> Encoder:
        """What makes tokens of prompts."""
        return Encoder(self.tokenizer, self.use_chat_template)

    def encode(self, row: PromptRow) -> Prompt:
        """The prompt as the policy reads it; raises UserError (exit 3) as `Encoder.encode` does."""
        return self.encoder.encode([row])[0]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of a completion, end tokens left out."""
        text: str = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return text

    def adapter_files(self) -> dict[str, bytes]:
        """A plain PEFT folder, name -> content: float32 safetensors, and a config that depends on nothing else."""
        from safetensors.torch import save

        weights = {k: v.detach().cpu().contiguous() for k, v in self._adapter_weights().items()}
        # PEFT keeps target_modules in a set, whose order changes from process to process.
        config = {
            k: sorted(v) if isinstance(v, set) else v for k, v in self.peft.peft_config["default"].to_dict().items()
        }
        config["inference_mode"] = True
        return {
            ADAPTER_WEIGHTS: save(dict(sorted(weights.items())), metadata={"format": "pt"}),
            ADAPTER_CONFIG: (json.dumps(config, indent=2, sort_keys=True, default=str) + "\n").encode(),
        }

    def load_adapter(self, folder: Path) -> None:
        """Take the adapter's weights from a PEFT folder; raises UserError (exit 5) where names or shapes differ."""
        from peft import set_peft_model_state_dict
        from safetensors.torch import load_file

        weights = load_file(folder / ADAPTER_WEIGHTS)
        expected = _shapes(self._adapter_weights())
        if _shapes(weights) != expected:
            odd = sorted(set(_shapes(weights).items()) ^ set(expected.items()))[0][0]
            raise UserError(
                f"the adapter does not fit the model: {odd}",
                where=str(folder),
                fix="use the model and the model.lora settings it was trained with",
                exit_code=EXIT_RESUME,
            )
        set_peft_model_state_dict(self.peft, weights)

    def _adapter_weights(self) -> dict[str, Tensor]:
        from peft import get_peft_model_state_dict

        # By default PEFT asks the hub whether the embeddings were resized; they never are.
        weights: dict[str, Tensor] = get_peft_model_state_dict(self.peft, save_embedding_layers=False)
        return weights


def build_policy(
    settings: Model, device: torch.device, dtype: torch.dtype, adapter_seed: int, *, value_head: bool = False
) -> Policy:
    """Load the model, freeze it, add the adapter: A random by `adapter_seed`, B zero; and a value head of zeros.

    So the policy starts as the reference.
    Raises UserError for a model that cannot be found and for target modules it does not have.
    """
    if settings.kind == "tiny":
        from rlhf_cli.models.tiny import build

        model, tokenizer = build(settings)
        use_chat_template = False
    else:
        from rlhf_cli.models.loading import load

        model, tokenizer = load(settings, dtype)
        use_chat_template = wants_template(settings.prompt_format, tokenizer, settings.path)
    model.to(device=device).eval()
    for parameter in model.parameters():  # not the buffers: the angles of rotary positions stay float32
        parameter.data = parameter.data.to(dtype)
    ends = _end_tokens(model, tokenizer)
    text = model.config.get_text_config()
    return Policy(
        peft=_with_adapter(model, settings.lora, adapter_seed),
        tokenizer=tokenizer,
        use_chat_template=use_chat_template,
        end_tokens=ends,
        pad_token=ends[0],
        context=context_of(model.config),
        value_head=ValueHead(text.hidden_size).to(device) if value_head else None,
    )


def _with_adapter(model: PreTrainedModel, lora: Lora, seed: int) -> PeftModel:
    from peft import LoraConfig, get_peft_model

    targets = lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules)
    there = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    if absent := sorted(set(lora.target_modules) - there) if isinstance(targets, list) else []:
        raise UserError(
            f"the model has no layer {', '.join(absent)}",
            where="model.lora.target_modules",
            fix=f"use all-linear, or some of {', '.join(_linear_layers(model))}",
        )
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules=targets,
        use_rslora=lora.rslora,
        use_dora=lora.dora,
        lora_dropout=lora.dropout,
        task_type="CAUSAL_LM",
        fan_in_fan_out=model.config.model_type == "gpt2",  # GPT-2 keeps its linear layers transposed
    )
    with torch.random.fork_rng(devices=[]), quiet_peft():
        torch.manual_seed(seed)
        try:
            peft = get_peft_model(model, config)
        except ValueError as error:  # a layer of a kind that PEFT cannot adapt
            raise UserError(
                f"the adapter does not fit: {str(error).splitlines()[0]}",
                where="model.lora.target_modules",
                fix=f"use all-linear, or some of {', '.join(_linear_layers(model))}",
            ) from error
    return peft.eval()


def _linear_layers(model: PreTrainedModel) -> list[str]:
    """The names an adapter can stand on: linear layers (GPT-2's are Conv1D) except the output layer."""
    output = model.get_output_embeddings()
    linear = (n for n, m in model.named_modules() if type(m).__name__ in ("Linear", "Conv1D") and m is not output)
    return sorted({name.rpartition(".")[2] for name in linear})


def _end_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Every id of generation_config.eos_token_id, and the tokenizer's own: a completion has to be able to end."""
    configured = model.generation_config.eos_token_id if model.generation_config else None
    ids = configured if isinstance(configured, list) else [configured]
    ends = sorted({i for i in [*ids, tokenizer.eos_token_id] if i is not None})
    if not ends:
        raise UserError(
            "the model names no end-of-text token",
            where="model.path",
            fix="set eos_token_id in its generation_config.json",
        )
    return tuple(ends)


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in weights.items()}
