"""Load a pretrained causal language model and its tokenizer from a hub, a folder or a Python package."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from rlhf_cli.errors import UserError, first_line
from rlhf_cli.json_text import from_json
from rlhf_cli.models.files import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    check_adapter,
    check_files,
    check_types,
    class_notes,
    find_config,
    refuse_broken_file,
)
from rlhf_cli.models.fingerprint import is_trained_on, rounded
from rlhf_cli.models.gguf import convert
from rlhf_cli.models.libraries import silence_transformers
from rlhf_cli.models.location import EMBEDDED, adapter_notes, adapter_path, local_path
from rlhf_cli.models.memory import check_room, dtype_on_cpu, is_out_of_memory
from rlhf_cli.models.settings import Pretrained
from rlhf_cli.models.specials import special_ids
from rlhf_cli.plural import plural, some

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Loaded:
    """A loaded model."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    notes: tuple[str, ...]
    """One line for each harmless difference between the files and the model."""
    dtype: torch.dtype
    """The one that the weights are to have: a model that took in an adapter is float32 as yet."""


def load(settings: Pretrained, dtype: torch.dtype | None, device: torch.device) -> Loaded:
    """Load the model in `dtype`, and its tokenizer, from safetensors only; the model's own code runs only if trusted.

    Where `dtype` is None it is float32 with an adapter, and else that of `dtype_on_cpu`. The model is on the CPU as
    yet, to be moved to the `device`. Every weight comes from the files; transformers alone would make up missing ones
    at random. Raises UserError where the model or its adapter is missing, cannot be read, or does not fit.
    """
    from transformers import AutoModelForCausalLM

    with _locate(settings) as source:
        config = _load_config(source, settings.revision, settings.trust_remote_code)
        known = settings.trust_remote_code or type(config) in AutoModelForCausalLM._model_mapping
        if config.is_encoder_decoder or not known:
            other = "transformers has no causal language model of kind "
            raise UserError(
                f"{config.model_type} models have an encoder" if known else f"{other}{config.model_type}",
                where="model.path",
                fix="use a causal language model, such as a Llama, Qwen, Mistral or Gemma",
            )
        tokenizer = _load_tokenizer(source, settings)
        dtype = dtype or (torch.float32 if settings.adapter else dtype_on_cpu(config))
        model, notes = load_weights(
            AutoModelForCausalLM,
            source,
            settings.revision,
            torch.float32 if settings.adapter else dtype,  # merged in float32: bfloat16 would lose most of it
            device,
            "model.path",
            trust_remote_code=settings.trust_remote_code,
        )
        model.name_or_path = settings.path  # exported adapters name it, and not a folder of this machine's cache
        if broken := [name for name, weight in model.named_parameters() if not bool(weight.isfinite().all())]:
            raise UserError(
                f"{source} holds weights that are not finite: {some(broken)}",
                where="model.path",
                fix="take an earlier checkpoint of its training",
            )
    if settings.adapter is None:
        return Loaded(model, tokenizer, notes, dtype)
    adapter = adapter_path(settings.adapter, settings.path)
    about = adapter_notes(Path(adapter), settings.path, tokenizer.chat_template)
    merged, on_others = _merge_adapter(model, adapter)
    return Loaded(merged, tokenizer, (*notes, *about, *on_others), dtype)


def load_weights(
    kind: Any,
    source: str,
    revision: str | None,
    dtype: torch.dtype,
    device: torch.device,
    where: str,
    *,
    trust_remote_code: bool = False,
) -> tuple[PreTrainedModel, tuple[str, ...]]:
    """Load a model by one of transformers' classes; return it with a note on each harmless difference of its files.

    Raises UserError about the setting `where` for weights that are missing, do not fit, mean nothing as they stand, or
    take more memory than the `device` has.
    """
    config = _load_config(source, revision, trust_remote_code)
    check_room(kind, config, dtype, device, where, trusts=trust_remote_code)
    model, report = kind.from_pretrained(
        source,
        config=config,
        revision=revision,
        dtype=dtype,
        trust_remote_code=trust_remote_code,
        use_safetensors=True,
        adapter_kwargs={"subfolder": "no adapter"},  # transformers looks there for one to add unasked, and finds none
        ignore_mismatched_sizes=True,  # the report lists them
        output_loading_info=True,
    )
    notes = _check_weights(report, source, len(model.state_dict()), where)
    if not trust_remote_code:
        notes += class_notes(source, revision, type(model).__name__)
    check_types(source, revision, where)
    return model, notes


def _check_weights(report: Mapping[str, Any], source: str, tensors: int, where: str) -> tuple[str, ...]:
    """Check by transformers' loading report that the files have every weight; return notes about unused ones.

    Raises UserError where the files lack some of the model's `tensors` weights, or have them in another shape. Tied
    weights are no fault: transformers does not report them as missing.
    """
    missing, unexpected = sorted(report["missing_keys"]), sorted(report["unexpected_keys"])
    fix = "give the whole model, as save_pretrained writes it"
    if missing:
        prefixes = {u.removesuffix(m) for u, m in zip(unexpected, missing, strict=False) if u.endswith(f".{m}")}
        if len(prefixes) == 1 and len(unexpected) == len(missing):
            fix = f"every name in them begins with {prefixes.pop()}: rename them without it, or {fix}"
        raise UserError(
            f"the files of {source} lack {len(missing)} of {tensors} weights: {some(missing)}", where=where, fix=fix
        )
    if mismatched := sorted(report["mismatched_keys"]):
        name, stored, expected = mismatched[0]
        raise UserError(
            f"{name} is {list(stored)} in the files of {source}, but {list(expected)} by its config.json",
            where=where,
            fix=fix,
        )
    if unexpected:
        return (f"{source} holds {plural(len(unexpected), 'weight')} that the model does not use: {some(unexpected)}",)
    return ()


def load_tokenizer(settings: Pretrained) -> tuple[PreTrainedTokenizerBase, PretrainedConfig]:
    """Load the model's tokenizer and config, without the weights; raises UserError as `load` does."""
    with _locate(settings) as source:
        config = _load_config(source, settings.revision, settings.trust_remote_code)
        return _load_tokenizer(source, settings), config


def _load_config(source: str, revision: str | None, trust_remote_code: bool) -> PretrainedConfig:
    """Read a model's config.json without its choice of kernels, which could name code to fetch from a hub and run."""
    from transformers import AutoConfig

    config: PretrainedConfig = AutoConfig.from_pretrained(
        source, revision=revision, trust_remote_code=trust_remote_code
    )
    config._attn_implementation = config._experts_implementation = None  # transformers chooses
    return config


@contextmanager
def _locate(settings: Pretrained) -> Iterator[str]:
    """Check the files and give the hub id or folder to load from; a library's error inside becomes a UserError."""
    silence_transformers()
    source = resolve(settings)
    try:
        find_config(source, settings.revision)
        check_files(source, settings.revision, "model.path", adapter_expected=settings.adapter is not None)
        yield source
    except UserError:
        raise
    except Exception as error:  # a model's files can make the libraries raise anything
        if is_out_of_memory(error):
            raise
        refuse_broken_file(Path(source), "model.path")
        fix = f"check the name and the network, give a folder, or use the embedded model: {EMBEDDED}"
        if Path(source).is_dir():
            fix = "give the model as save_pretrained writes it, or install the version of transformers that knows it"
        what = f"cannot load the model {settings.path}: {first_line(error).rstrip('.')}"
        raise UserError(what, where="model.path", fix=fix) from error


def _load_tokenizer(source: str, settings: Pretrained) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        source, revision=settings.revision, trust_remote_code=settings.trust_remote_code
    )
    if {*tokenizer.get_vocab().values()} <= {*special_ids(tokenizer).values()}:  # transformers makes one up
        what, fix = f"{source} holds no vocabulary of a tokenizer", "add the tokenizer's files, as save_pretrained does"
        raise UserError(what, where="model.path", fix=fix)
    return tokenizer


def resolve(settings: Pretrained) -> str:
    """Return the hub id or folder that transformers can load; a packaged GGUF file is converted on first use."""
    file = local_path(settings)
    return str(convert(file)) if file is not None and file.is_file() else settings.path


def _merge_adapter(model: PreTrainedModel, adapter: str) -> tuple[PreTrainedModel, list[str]]:
    """Merge an adapter into the model's weights; note where a run trained it on other weights.

    Raises UserError unless each of its tensors has a place there.
    """
    from peft import LoraConfig, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors.torch import load_file

    folder = Path(adapter)
    try:
        check_adapter(from_json((folder / ADAPTER_CONFIG).read_bytes()))
        weights = load_file(folder / ADAPTER_WEIGHTS)
        with quiet_peft():
            peft = PeftModel(model, LoraConfig.from_pretrained(adapter))
            report = set_peft_model_state_dict(peft, weights)
            lacking = sorted(set(get_peft_model_state_dict(peft, save_embedding_layers=False)) - set(weights))
            if report.unexpected_keys:
                raise ValueError(f"the model has no place for {some(sorted(report.unexpected_keys))}")
            if lacking:
                raise ValueError(f"it lacks {some(lacking)}")
            others = f"the adapter {adapter} was trained on other weights than those of {model.name_or_path}"
            notes = [] if is_trained_on(folder, peft) else [others]
            before = _logits(peft.eval())
            merged: PreTrainedModel = peft.merge_and_unload()
            if not torch.allclose(before, after := _logits(merged), atol=1e-3 * float(after.abs().max())):
                raise ValueError("merged into the weights it has another effect")
    except Exception as error:  # an adapter's files can make PEFT raise anything
        refuse_broken_file(folder, "model.adapter")
        raise UserError(
            f"the adapter {adapter} does not fit the model: {first_line(error).rstrip('.')}",
            where="model.adapter",
            fix="give the model that it was trained on, and the adapter as PEFT saved it",
        ) from error
    return merged, notes


def round_weights(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Give the weights this dtype, but for those that `rounded` leaves.

    The buffers stay as they are: the angles of rotary positions are float32.
    """
    for parameter, (_, weight) in zip(model.parameters(), rounded(model, model.named_parameters(), dtype), strict=True):
        parameter.data = weight.data


@torch.no_grad()
def _logits(model: torch.nn.Module) -> torch.Tensor:
    """The model's logits of a short text."""
    logits: torch.Tensor = model(input_ids=torch.arange(4)[None]).logits
    return logits


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Silence warnings of PEFT that no user need mend: about an attribute, the ranks of experts, and shared weights."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True`", category=UserWarning)
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        warnings.filterwarnings("ignore", message="The following (rank|alpha)_pattern keys", category=RuntimeWarning)
        yield
