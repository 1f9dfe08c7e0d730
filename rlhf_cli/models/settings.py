"""The groups `model`, a pretrained or a tiny model with its adapter, and `reference` of the configuration."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from rlhf_cli.settings import IS_PROSE, FilePath, ModelPath, Names, Settings, as_tuple


class Lora(Settings):
    """The adapter (Hu et al. 2021, arXiv:2106.09685), by PEFT."""

    rank: int = Field(ge=1, le=8192)
    """Rank r of each update B A."""
    alpha: float = Field(gt=0, allow_inf_nan=False)
    """Scales the update by alpha / rank (rslora: by alpha / sqrt(rank))."""
    target_modules: Literal["auto", "all-linear"] | Annotated[Names, Field(min_length=1)]
    """Names of the linear layers to adapt; all-linear: all but the output layer; auto: attention's q_proj, k_proj,
    v_proj and o_proj, or PEFT's choice for an architecture that names its layers otherwise."""
    dropout: float = Field(ge=0, lt=1)
    """Share of the adapter's inputs that an update drops. Rollouts drop none, so above 0 the update's policy differs
    slightly from the policy that sampled."""
    rslora: bool
    """Rank-stabilised scaling (arXiv:2312.03732)."""
    dora: bool
    """Weight-decomposed adapter (arXiv:2402.09353)."""


Stop = Annotated[
    tuple[Annotated[int, Field(ge=0)] | Annotated[str, Field(min_length=1)], ...], BeforeValidator(as_tuple), IS_PROSE
]
"""A list of token ids, special tokens and texts in YAML."""

Engine = Literal["auto", "native", "transformers"]


class Pretrained(Settings):
    """A causal language model from a hub, a folder or a Python package."""

    kind: Literal["pretrained"]
    path: ModelPath
    """Hub id, local folder, or package:NAME/FILE.gguf."""
    revision: str | None
    """Branch, tag or commit of a hub model; null takes the default branch."""
    adapter: FilePath | None
    """A PEFT folder to start from, or a run's folder, which means the adapter that it exported. It is merged into the
    weights first, so it is part of the reference. The trained adapter then fits the merged weights, not the model at
    `path`."""
    prompt_format: Literal["auto", "chat", "raw"]
    """auto: the model's chat template if it has one, else raw text; chat demands a template; raw never uses it."""
    stop: Stop = ()
    """Token ids, special tokens or texts that end a completion, besides the model's own end tokens. A text ends it
    wherever it appears, and stays in it."""
    trust_remote_code: bool
    """Run the Python code that comes with a model, with your rights. Only on the command line, never in a file."""
    engine: Engine
    """The code that runs the model: native, our own decoder for the Llama family; transformers, any model's own forward
    pass, slower; auto, native where it supports the model."""
    gradient_checkpointing: bool
    """Keep less of the forward pass for the backward pass and compute the rest again: less memory, more time."""
    lora: Lora


class Tiny(Settings):
    """A random model with a byte tokenizer: it runs the whole pipeline in seconds and downloads nothing."""

    kind: Literal["tiny"]
    architecture: Literal["llama", "gpt2"]
    """llama has rotary positions, gpt2 absolute ones."""
    layers: int = Field(ge=1, le=100)
    """Transformer blocks."""
    width: int = Field(ge=8, le=1024, multiple_of=8)
    """Hidden size; there are four attention heads."""
    context: int = Field(ge=8, le=1_000_000)
    """Longest sequence, in tokens (bytes)."""
    seed: int = Field(ge=0)
    """Seed of the random weights."""
    stop: Stop = ()
    """Token ids, special tokens or texts that end a completion, besides the end token."""
    engine: Engine
    """The code that runs the model: native, our own decoder for the Llama family; transformers, any model's own forward
    pass, slower; auto, native where it supports the model."""
    gradient_checkpointing: bool
    """Keep less of the forward pass for the backward pass and compute the rest again: less memory, more time."""
    lora: Lora


Model = Annotated[Pretrained | Tiny, Field(discriminator="kind")]


class Initial(Settings):
    """The policy before training: the same weights with the adapter switched off."""

    kind: Literal["initial"]


class OtherModel(Settings):
    """Another model that reads the same tokens. It runs no code of its own."""

    kind: Literal["model"]
    path: ModelPath
    """Hub id, local folder (that of `rlhf merge`, for one), or package:NAME/FILE.gguf."""
    revision: str | None
    """Branch, tag or commit of a hub model; null takes the default branch."""
    adapter: FilePath | None
    """A PEFT folder, or a run's folder, whose adapter is merged into the model at `path`: the policy of that run."""

    def pretrained(self) -> Pretrained:
        """The settings to load it by; the adapter that every loaded model gets stays switched off."""
        lora = Lora(rank=1, alpha=1.0, target_modules="auto", dropout=0.0, rslora=False, dora=False)
        return Pretrained(
            kind="pretrained",
            path=self.path,
            revision=self.revision,
            adapter=self.adapter,
            prompt_format="raw",  # the policy's tokenizer and template write the prompts
            trust_remote_code=False,
            engine="auto",
            gradient_checkpointing=False,
            lora=lora,
        )


Reference = Annotated[Initial | OtherModel, Field(discriminator="kind")]
