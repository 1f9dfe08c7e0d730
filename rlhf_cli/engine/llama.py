"""The Llama family's decoder, written for speed: fused frozen weights, the adapter beside them, one block for all uses.

    x = x + o(attention(rotated q, rotated k, v))       q, k, v = qkv(norm(x))
    x = x + down(silu(gate) * up)                       gate, up = gate_up(norm(x))

A block is given its four products and a function that says what a token sees; rollout, reference pass and update
differ in nothing else. Llama, SmolLM2, Mistral, Qwen2 (biases on q, k and v) and Qwen3 (norms on q and k).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rlhf_cli.engine.kernels import Product, product, rms_norm, rotate, swiglu

if TYPE_CHECKING:
    from rlhf_cli.models.policy import Policy

FAMILY: Final = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
ROTATIONS: Final = ("default", "linear", "llama3", "yarn")
"""Kinds of rotary embedding whose angles depend on the position alone."""
ADAPTER: Final = "default"

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(layer, query [n, h, d], key [n, g, d], value [n, g, d]) -> [n, h d]."""

Which = Literal["reference", "policy", "merged"]
"""The base weights; with the adapter beside them, differentiable; with the adapter folded in, for sampling."""


class Products(NamedTuple):
    """The four linear layers of a block."""

    qkv: Product
    o: Product
    gate_up: Product
    down: Product


class Linear:
    """Linear layers that read the same input, as one: [n, in] -> [n, out_1 + out_2 + ...]."""

    def __init__(self, layers: Sequence[Any]) -> None:
        self._layers = layers
        bases = [_base(layer) for layer in layers]
        self._weight = torch.cat([base.weight.detach() for base in bases])
        for base, part in zip(bases, self._weight.split([base.out_features for base in bases]), strict=True):
            base.weight.data = part  # the library's own layers read the same memory: one copy of the model
        biases = [base.weight.new_zeros(base.out_features) if base.bias is None else base.bias for base in bases]
        self._bias = torch.cat(biases).detach() if any(base.bias is not None for base in bases) else None
        self._reference = product(self._weight, self._bias)

    def product(self, which: Which) -> Product:
        """What the layers compute now; a changed adapter needs a new one."""
        if which == "reference" or not any(map(_adapted, self._layers)):
            return self._reference
        return self._merged() if which == "merged" else self._beside()

    def _beside(self) -> Product:
        """x W^T + (x A^T) B^T: the adapters' A below each other, their B in the blocks of a diagonal matrix."""
        dtype, frozen = self._weight.dtype, self._reference
        adapted = [layer for layer in self._layers if _adapted(layer)]
        a = torch.cat([layer.lora_A[ADAPTER].weight for layer in adapted]).to(dtype)
        b = torch.block_diag(*(_scaled_b(layer) for layer in self._layers)).to(dtype).t()
        return lambda x: torch.addmm(frozen(x), nn.functional.linear(x, a), b)

    @torch.no_grad()
    def _merged(self) -> Product:
        """x (W + B A)^T, one product instead of three; the sum is rounded to the weights' dtype."""
        parts = self._weight.split([_base(layer).out_features for layer in self._layers])
        merged = [
            torch.addmm(part.float(), _scaled_b(layer), layer.lora_A[ADAPTER].weight) if _adapted(layer) else part
            for part, layer in zip(parts, self._layers, strict=True)
        ]
        return product(torch.cat([part.to(self._weight.dtype) for part in merged]), self._bias, backward=False)


def _base(layer: Any) -> Any:
    return layer.base_layer if _adapted(layer) else layer


def _adapted(layer: Any) -> bool:
    return hasattr(layer, "lora_A")


def _scaled_b(layer: Any) -> Tensor:
    """B [out, rank] with the adapter's scale in it; [out, 0] without an adapter."""
    scaled: Tensor = (
        layer.lora_B[ADAPTER].weight * layer.scaling[ADAPTER]
        if _adapted(layer)
        else layer.weight.new_zeros(layer.out_features, 0, dtype=torch.float32)
    )
    return scaled


@dataclass(frozen=True, slots=True)
class Block:
    """One transformer block: its products and its norms."""

    linears: tuple[Linear, Linear, Linear, Linear]
    before_attention: Tensor
    before_mlp: Tensor
    query_norm: Tensor | None
    key_norm: Tensor | None

    @classmethod
    def of(cls, layer: Any) -> Block:
        """From the library's own."""
        attention, mlp = layer.self_attn, layer.mlp
        return cls(
            linears=(
                Linear([attention.q_proj, attention.k_proj, attention.v_proj]),
                Linear([attention.o_proj]),
                Linear([mlp.gate_proj, mlp.up_proj]),
                Linear([mlp.down_proj]),
            ),
            before_attention=layer.input_layernorm.weight.detach(),
            before_mlp=layer.post_attention_layernorm.weight.detach(),
            query_norm=attention.q_norm.weight.detach() if hasattr(attention, "q_norm") else None,
            key_norm=attention.k_norm.weight.detach() if hasattr(attention, "k_norm") else None,
        )

    def products(self, which: Which) -> Products:
        """The four products of the reference or the policy."""
        return Products(*(linear.product(which) for linear in self.linears))


class Llama:
    """The decoder of a policy whose model is of the family; raises nothing, `unsupported` has been asked."""

    def __init__(self, policy: Policy, *, recompute: bool) -> None:
        """`recompute`: keep only the blocks' inputs for the backward pass and work out the rest again."""
        decoder, config = policy.causal.base_model, policy.causal.config
        self.heads: int = config.num_attention_heads
        self.groups: int = config.num_key_value_heads
        self.head_size: int = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.shared_by = self.heads // self.groups
        self.dtype = policy.causal.dtype
        self._eps: float = config.rms_norm_eps
        self._recompute = recompute
        self._embedding = decoder.embed_tokens.weight.detach()
        self._angles = decoder.rotary_emb
        self._last_norm = decoder.norm.weight.detach()
        self._blocks = [Block.of(layer) for layer in decoder.layers]
        self.head = product(policy.causal.get_output_embeddings().weight.detach())

    @property
    def layers(self) -> int:
        """How many blocks."""
        return len(self._blocks)

    def products(self, which: Which) -> list[Products]:
        """Of every block."""
        return [block.products(which) for block in self._blocks]

    def read(self, tokens: Tensor, positions: Tensor, products: Sequence[Products], attend: Attend) -> Tensor:
        """The states [n, H] behind the last block of tokens [n] at positions [n]; their sum is kept in float32."""
        x: Tensor = self._embedding[tokens].float()
        cos, sin = (
            angle[0, :, None, : self.head_size // 2].to(self.dtype) for angle in self._angles(x, positions[None])
        )
        for layer, (block, four) in enumerate(zip(self._blocks, products, strict=True)):
            step = partial(self._block, block, four, cos, sin, partial(attend, layer))
            x = checkpoint(step, x, use_reentrant=False) if self._recompute and torch.is_grad_enabled() else step(x)
        return x

    def norm(self, states: Tensor) -> Tensor:
        """What the output layer reads: [n, H] in the weights' dtype."""
        return rms_norm(states, self._last_norm, self._eps)

    def _block(
        self,
        block: Block,
        four: Products,
        cos: Tensor,
        sin: Tensor,
        attend: Callable[[Tensor, Tensor, Tensor], Tensor],
        x: Tensor,
    ) -> Tensor:
        qkv = four.qkv(rms_norm(x, block.before_attention, self._eps)).unflatten(-1, (-1, self.head_size))
        query_key, value = qkv.split([self.heads + self.groups, self.groups], 1)
        if block.query_norm is not None and block.key_norm is not None:
            query, key = query_key.split([self.heads, self.groups], 1)
            normed = rms_norm(query, block.query_norm, self._eps), rms_norm(key, block.key_norm, self._eps)
            query_key = torch.cat(normed, 1)
        query, key = rotate(query_key, cos, sin).split([self.heads, self.groups], 1)
        x = x + four.o(attend(query, key, value))
        return x + four.down(swiglu(four.gate_up(rms_norm(x, block.before_mlp, self._eps))))


def unsupported(policy: Policy) -> str:
    """Why the policy's model has to go through the library's own forward pass; empty where it has not."""
    model, config = policy.causal, policy.causal.config
    name = type(model).__name__
    if name not in FAMILY or not type(model).__module__.startswith("transformers.models."):
        return f"{config.model_type} is not of the Llama family"
    if config.hidden_act != "silu":
        return f"its activation is {config.hidden_act}"
    if getattr(config, "sliding_window", None) and getattr(config, "use_sliding_window", True):
        return "its attention sees a sliding window"
    if config.rope_parameters.get("rope_type") not in ROTATIONS:
        return f"its positions are of the kind {config.rope_parameters.get('rope_type')}"
    lora = policy.peft.peft_config[ADAPTER]
    if lora.use_dora:
        return "its adapter is a DoRA"
    if lora.lora_dropout:
        return "its adapter has dropout"
    for layer in model.base_model.layers:
        linears = [*layer.self_attn.children(), *layer.mlp.children()]
        if any(type(_base(one)) is not nn.Linear for one in linears if hasattr(_base(one), "out_features")):
            return "its linear layers are of another kind"
    if any("layers." not in name for name in policy.parameters() if "lora_" in name):
        return "its adapter covers more than the blocks"
    return ""
