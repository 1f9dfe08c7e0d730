"""The Llama family's decoder, written for speed: fused frozen weights, and one block for all uses.

    x = x + o(attention(rotated q, rotated k, v))       q, k, v = qkv(norm(x))
    x = x + down(silu(gate) * up)                       gate, up = gate_up(norm(x))

A block receives its four products and an attention function; rollout, reference pass and update differ only in these.
The family is Llama, SmolLM2, Mistral, Qwen2 (biases on q, k and v) and Qwen3 (norms on q and k).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from rlhf_cli.engine.invariance import Adapted, adapt
from rlhf_cli.engine.kernels import Frozen, Known, Product, rms_norm, rotate, swiglu
from rlhf_cli.functional.logprobs import apply_autograd

if TYPE_CHECKING:
    from rlhf_cli.models.policy import Policy

FAMILY: Final = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
ROTATIONS: Final = ("default", "linear", "llama3", "yarn")
"""Kinds of rotary embedding whose angles depend only on the position."""
ADAPTER: Final = "default"

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(layer, query [n, h, d], key [n, g, d], value [n, g, d]) -> [n, h d]."""

Which = Literal["reference", "policy", "merged"]
"""reference: the base weights; policy: the adapter beside them, differentiable; merged: the adapter folded in."""


class Products(NamedTuple):
    """The four linear layers of a block."""

    qkv: Product
    o: Product
    gate_up: Product
    down: Product


class Linear:
    """Linear layers of the same input, fused into one: [n, in] -> [n, out_1 + out_2 + ...]."""

    def __init__(self, layers: Sequence[Any], *, invariant: bool) -> None:
        self._layers, self._invariant = layers, invariant
        bases = [_base(layer) for layer in layers]
        self._weight = torch.cat([base.weight.detach() for base in bases])
        for base, weight in zip(bases, self._weight.split([base.out_features for base in bases]), strict=True):
            base.weight.data = weight  # the library's own layers share the memory: one copy of the model
        biases = [base.weight.new_zeros(base.out_features) if base.bias is None else base.bias for base in bases]
        self._bias = torch.cat(biases).detach() if any(base.bias is not None for base in bases) else None
        self.frozen = Frozen(self._weight, self._bias, invariant=invariant)

    def product(self, which: Which) -> Product:
        """The product of the layers with the adapter as it is now; a changed adapter needs a new product."""
        if which == "reference" or not any(map(_has_adapter, self._layers)):
            return self.frozen
        # in bfloat16 the folded weights would lose a small adapter to rounding, and the sampler's bits the trainer's
        folds = which == "merged" and not (self._invariant and self._weight.dtype != torch.float32)
        return self._merge() if folds else self._add_adapter()

    def _add_adapter(self) -> Product:
        """x W^T + (x A^T) B^T."""
        frozen = self.frozen
        a, b = self._stacked()
        if self._invariant:
            if not torch.is_grad_enabled():  # autograd's bookkeeping costs a decoding step more than the adapter
                return lambda x: adapt(x, frozen, a, b)
            return lambda x: apply_autograd(Adapted, x, None, frozen, a, b)
        return lambda x: torch.addmm(frozen(x), nn.functional.linear(x, a), b)

    def reuse(self, known: Known) -> Product:
        """The product of the policy where its output is known already: only its gradient is computed."""
        a, b = self._stacked() if any(map(_has_adapter, self._layers)) else (None, None)
        return lambda x: apply_autograd(Adapted, x, known.take(), self.frozen, a, b)

    def _stacked(self) -> tuple[Tensor, Tensor]:
        """The adapters' A stacked [r, in], their B in a block-diagonal matrix [r, out]."""
        dtype = self._weight.dtype
        a = torch.cat([layer.lora_A[ADAPTER].weight for layer in self._layers if _has_adapter(layer)]).to(dtype)
        return a, torch.block_diag(*(_scaled_b(layer) for layer in self._layers)).to(dtype).t()

    @torch.no_grad()
    def _merge(self) -> Product:
        """x (W + B A)^T: one product instead of three; the sum is rounded to the weights' dtype."""
        weights = self._weight.split([_base(layer).out_features for layer in self._layers])
        merged = [
            torch.addmm(weight.float(), _scaled_b(layer), layer.lora_A[ADAPTER].weight)
            if _has_adapter(layer)
            else weight
            for weight, layer in zip(weights, self._layers, strict=True)
        ]
        weight = torch.cat([w.to(self._weight.dtype) for w in merged])
        return Frozen(weight, self._bias, backward=False, invariant=self._invariant)


def _leave_file(model: Any) -> None:
    """Copy what will not be fused: one tensor that still lies in the model's file would keep all of it in memory."""
    head = model.get_output_embeddings()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if name != "weight" or not isinstance(module, nn.Linear) or module is head:
                parameter.data = parameter.data.clone()


def _base(layer: Any) -> Any:
    return layer.base_layer if _has_adapter(layer) else layer


def _has_adapter(layer: Any) -> bool:
    return hasattr(layer, "lora_A")


def _scaled_b(layer: Any) -> Tensor:
    """B [out, rank] times the adapter's scale; [out, 0] without an adapter."""
    scaled: Tensor = (
        layer.lora_B[ADAPTER].weight * layer.scaling[ADAPTER]
        if _has_adapter(layer)
        else layer.weight.new_zeros(layer.out_features, 0, dtype=torch.float32)
    )
    return scaled


class Block:
    """One transformer block: its linear layers and its norms, from the library's layer."""

    def __init__(self, layer: Any, *, invariant: bool) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self._linears = tuple(
            Linear(layers, invariant=invariant)
            for layers in (
                [attention.q_proj, attention.k_proj, attention.v_proj],
                [attention.o_proj],
                [mlp.gate_proj, mlp.up_proj],
                [mlp.down_proj],
            )
        )
        self.before_attention: Tensor = layer.input_layernorm.weight.detach()
        self.before_mlp: Tensor = layer.post_attention_layernorm.weight.detach()
        self.query_norm: Tensor | None = attention.q_norm.weight.detach() if hasattr(attention, "q_norm") else None
        self.key_norm: Tensor | None = attention.k_norm.weight.detach() if hasattr(attention, "k_norm") else None

    @property
    def frozen(self) -> list[Frozen]:
        """The four layers without the adapter."""
        return [linear.frozen for linear in self._linears]

    def products(self, which: Which) -> Products:
        """The four products of the reference or the policy."""
        return Products(*(linear.product(which) for linear in self._linears))

    def reuse(self, known: Sequence[Known]) -> Products:
        """The four products of the policy, whose outputs are known already."""
        return Products(*(linear.reuse(output) for linear, output in zip(self._linears, known, strict=True)))


class Llama:
    """The decoder of a policy for which `why_unsupported` returns None."""

    def __init__(self, policy: Policy, *, recompute: bool, invariant: bool) -> None:
        """`recompute`: keep only the blocks' inputs for the backward pass and compute the rest again.

        `invariant`: calculate by the `invariance` module.
        """
        decoder, config = policy.causal.base_model, policy.causal.config
        self.heads: int = config.num_attention_heads
        self.groups: int = config.num_key_value_heads
        self.head_size: int = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.shared_by = self.heads // self.groups
        self.dtype = policy.causal.dtype
        self._eps: float = config.rms_norm_eps
        self._recompute = recompute
        _leave_file(policy.causal)
        self._embedding = decoder.embed_tokens.weight.detach()
        self._angles = decoder.rotary_emb
        self._last_norm = decoder.norm.weight.detach()
        self._blocks = [Block(layer, invariant=invariant) for layer in decoder.layers]
        self.head = Frozen(policy.causal.get_output_embeddings().weight.detach(), invariant=invariant)

    @property
    def frozen(self) -> list[Frozen]:
        """The layers of the first block without the adapter."""
        return self._blocks[0].frozen

    @property
    def layers(self) -> int:
        """Number of blocks."""
        return len(self._blocks)

    def products(self, which: Which) -> list[Products]:
        """The products of every block."""
        return [block.products(which) for block in self._blocks]

    def reuse(self, known: Sequence[Sequence[Known]]) -> list[Products]:
        """The products of every block, whose outputs are known already."""
        return [block.reuse(outputs) for block, outputs in zip(self._blocks, known, strict=True)]

    def read(self, tokens: Tensor, positions: Tensor, products: Sequence[Products], attend: Attend) -> Tensor:
        """The states [n, H] after the last block, of tokens [n] at positions [n]; the residual stream is float32."""
        x: Tensor = self._embedding[tokens].float()
        cos, sin = (
            angle[0, :, None, : self.head_size // 2].to(self.dtype) for angle in self._angles(x, positions[None])
        )
        for layer, (block, block_products) in enumerate(zip(self._blocks, products, strict=True)):
            step = partial(self._block, block, block_products, cos, sin, partial(attend, layer))
            x = checkpoint(step, x, use_reentrant=False) if self._recompute and torch.is_grad_enabled() else step(x)
        return x

    def norm(self, states: Tensor) -> Tensor:
        """The output layer's input: [n, H] in the weights' dtype."""
        return rms_norm(states, self._last_norm, self._eps)

    def _block(
        self,
        block: Block,
        products: Products,
        cos: Tensor,
        sin: Tensor,
        attend: Callable[[Tensor, Tensor, Tensor], Tensor],
        x: Tensor,
    ) -> Tensor:
        qkv = products.qkv(rms_norm(x, block.before_attention, self._eps)).unflatten(-1, (-1, self.head_size))
        query_key, value = qkv.split([self.heads + self.groups, self.groups], 1)
        if block.query_norm is not None and block.key_norm is not None:
            query, key = query_key.split([self.heads, self.groups], 1)
            normed = rms_norm(query, block.query_norm, self._eps), rms_norm(key, block.key_norm, self._eps)
            query_key = torch.cat(normed, 1)
        query, key = rotate(query_key, cos, sin).split([self.heads, self.groups], 1)
        x = x + products.o(attend(query, key, value))
        return x + products.down(swiglu(products.gate_up(rms_norm(x, block.before_mlp, self._eps))))


def why_unsupported(policy: Policy) -> str | None:
    """The reason for which a model needs the library's own forward pass; None where the native engine runs it."""
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
    for block in model.base_model.layers:
        linears = [*block.self_attn.children(), *block.mlp.children()]
        if any(type(_base(layer)) is not nn.Linear for layer in linears if hasattr(_base(layer), "out_features")):
            return "its linear layers are of another kind"
    if any("layers." not in name for name in policy.parameters() if "lora_" in name):
        return "its adapter covers more than the blocks"
    return None
