"""Check a model's files: refuse those that must not be opened, and find the broken one that made a library fail."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from rlhf_cli.errors import UserError
from rlhf_cli.json_text import from_json
from rlhf_cli.paths import quoted

ADAPTER_CONFIG: Final = "adapter_config.json"
ADAPTER_WEIGHTS: Final = "adapter_model.safetensors"
_LFS_POINTER: Final = b"version https://git-lfs"
_SAFE: Final = (".safetensors", ".safetensors.index.json")
_WHOLE: Final = "model.safetensors"
_INDEX: Final = "model.safetensors.index.json"
_READABLE: Final = ("F64", "F32", "F16", "BF16")


def check_files(source: str, revision: str | None, where: str, *, adapter_expected: bool = False) -> None:
    """Raise UserError where loading the model's files would do more than read its weights; `where` is the setting.

    Refused are an adapter beside the weights, which transformers would add unasked (unless `adapter_expected`), pickled
    weights in any file, quantised weights, which cannot be cast or merged, and files outside of the model that its
    tokenizer would read. A folder with two sets of weights, or a revision of a folder, is refused too: one of the two
    would be ignored. So is a config that contradicts itself about positions.
    """
    if Path(source).is_dir() and revision is not None:
        raise UserError(
            f"{source} is a folder, which has no revisions: {revision} would be ignored",
            where=where.replace("path", "revision"),
            fix="leave it out, or give the model's name on the hub",
        )
    for what, fix in _find_dangers(source, revision, adapter_expected=adapter_expected):
        raise UserError(what, where=where, fix=fix)


def _find_dangers(source: str, revision: str | None, *, adapter_expected: bool) -> Iterator[tuple[str, str]]:
    """Yield each reason not to load a model, and the fix."""
    if (Path(source) / _WHOLE).exists() and (Path(source) / _INDEX).exists():
        twice = f"{source} holds the weights twice, in {_WHOLE} and in the files of {_INDEX}"
        yield twice, "remove those that are not meant"
    if not adapter_expected and _cached(source, ADAPTER_CONFIG, revision) is not None:
        beside = f"{source} holds an adapter beside its weights, which would become part of the model unasked"
        both = f"model.adapter={quoted(Path(source))}"
        yield beside, f"start from both by {both}, or give a folder without {ADAPTER_CONFIG}"
    config = _read(source, "config.json", revision)
    index = _read(source, _INDEX, revision).get("weight_map")
    names = [config.get("transformers_weights"), *(index.values() if isinstance(index, dict) else ())]
    if pickled := [name for name in names if name is not None and not str(name).endswith(_SAFE)]:
        code = f"its files name pickled weights, {pickled[0]}, and a pickle can run any code"
        yield code, "give a model saved as safetensors"
    of_torch = sorted(file.name for file in Path(source).glob("pytorch_model*.bin"))
    if of_torch and not any(Path(source).glob("*.safetensors")):
        alone = f"{source} holds pickled weights alone, {of_torch[0]}, and a pickle can run any code"
        yield alone, "give a model saved as safetensors, as save_pretrained of transformers does it"
    quantised = config.get("quantization_config")
    if quantised is not None:
        method = quantised.get("quant_method") if isinstance(quantised, dict) else None
        coarse = f"its weights are quantised ({method or 'by an unnamed method'})"
        yield coarse, "give the model in bfloat16 or float32, which the adapter is trained on"
    for part in (config, config.get("text_config")):
        if isinstance(part, dict) and (fault := _find_position_fault(part)) is not None:
            yield f"config.json of {source} {fault}", "write there what the model was made with"
    if (file := _find_file_outside(source, revision)) is not None:
        yield file, "take a model from a source you trust, or remove the key"


def _find_position_fault(config: Mapping[str, Any]) -> str | None:
    """Say what is wrong with a config's positions, to continue a sentence; None where nothing is.

    transformers takes the older rope_scaling before rope_parameters, and rope_parameters before the older rope_theta.
    """
    longest = config.get("max_position_embeddings")
    if isinstance(longest, int) and longest < 1:
        return f"has max_position_embeddings={longest}, so that the model could read nothing"
    new, scaling, theta = _rope(config, "rope_parameters"), _rope(config, "rope_scaling"), config.get("rope_theta")
    old = ({} if theta is None else {"rope_theta": theta}) | scaling
    names = {*new, *old} if new and scaling else {*new} & {*old}
    for name in sorted(name for name in names if new.get(name) != old.get(name)):
        return f"gives {name} twice: {old.get(name)} in the older keys, and {new.get(name)} in rope_parameters"
    return None


def _rope(config: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The rotation in one of a config's keys; empty without it, and where each kind of layer has its own."""
    values = config.get(key)
    if not isinstance(values, dict) or not values or any(isinstance(value, dict) for value in values.values()):
        return {}
    kind = values.get("rope_type", values.get("type", "default"))
    return {name: value for name, value in values.items() if name != "type"} | {"rope_type": kind}


def check_types(source: str, revision: str | None, where: str) -> None:
    """Raise UserError for weights stored as whole numbers, or as floats of 8 bits: read as they are, without the scale
    that belongs to them, they are other weights. Refused too are weights that stand in two files: which counts is open.
    """
    from safetensors import safe_open

    index = _read(source, _INDEX, revision).get("weight_map")
    names = sorted(set(map(str, index.values()))) if isinstance(index, dict) else [_WHOLE]
    places = dict[str, str]()
    for file in (_cached(source, name, revision) for name in names):
        if file is None:
            continue
        with safe_open(file, framework="pt") as opened:
            for key in opened.keys():  # noqa: SIM118 - it is no dict
                if (first := places.setdefault(key, file.name)) != file.name:
                    raise UserError(
                        f"{key} of {source} stands in two files, {first} and {file.name}",
                        where=where,
                        fix="remove it from the one that is not meant",
                    )
                kind = opened.get_slice(key).get_dtype()
                if key.endswith("weight") and kind not in _READABLE:
                    raise UserError(
                        f"{key} of {source} is stored as {kind}, which means nothing without a scale",
                        where=where,
                        fix="give the model in bfloat16 or float32",
                    )


def check_adapter(config: Any) -> None:
    """Raise ValueError for a config that is not LoRA's, or that would make PEFT import a module of its choice.

    PEFT passes over what it does not know, and takes its own values for what is missing: another adapter.
    """
    from peft import LoraConfig

    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise ValueError("adapter_config.json is not of a LoRA adapter")
    known = {option.name: option.default for option in fields(LoraConfig)}
    if unknown := [name for name, value in config.items() if name not in known and value not in (None, False, [], {})]:
        raise ValueError(f"adapter_config.json sets {', '.join(unknown)}, which this version of PEFT does not know")
    for name in ("r", "lora_alpha"):
        if isinstance(value := config.get(name), bool) or not isinstance(value, int | float):
            raise ValueError(f"adapter_config.json has no number for {name}")
    switches = [name for name, default in known.items() if isinstance(default, bool) and name != "init_lora_weights"]
    if odd := [name for name in switches if not isinstance(config.get(name, False), bool | None)]:
        raise ValueError(f"adapter_config.json has neither true nor false for {', '.join(odd)}")
    if config.get("megatron_config"):  # PEFT would import the module that megatron_core names
        raise ValueError("adapter_config.json wants megatron_core, a module of its own choice")


def class_notes(source: str, revision: str | None, loaded: str) -> tuple[str, ...]:
    """Note where config.json names another class than the one that was `loaded`, or code of the model's own.

    Such code does not run, and the class of transformers may calculate something else from the same weights.
    """
    config = _read(source, "config.json", revision)
    named, own = config.get("architectures"), config.get("auto_map")
    if isinstance(named, list) and named and loaded not in named:
        return (f"config.json of {source} is that of a {named[0]}, which is loaded as a {loaded}",)
    if own:
        return (f"{source} brings code of its own, which does not run: it is loaded as transformers' {loaded}",)
    return ()


def _find_file_outside(source: str, revision: str | None) -> str | None:
    """Say that tokenizer_config.json names an existing file outside of the model; None where it does not.

    It would be read as its vocabulary. Names are looked up in the working directory, so `vocab_file: .env` would read
    a secret (transformers#46279). Names of missing files, left over from another machine, are harmless.
    """
    for key, value in _read(source, "tokenizer_config.json", revision).items():
        if not (key.endswith("_file") and isinstance(value, str)):
            continue
        if os.path.lexists(value) and not Path(value).resolve().is_relative_to(Path(source).resolve()):
            return f"its tokenizer_config.json would have {key} read from {value}, outside of the model"
    return None


def refuse_broken_file(folder: Path, where: str) -> None:
    """Raise UserError for the first file in the folder that is broken; do nothing where none is, or for a hub id."""
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        if file.is_file() and (fault := _find_fault(file)) is not None:
            what, fix = fault
            raise UserError(f"{file} {what}", where=where, fix=fix)


def _find_fault(file: Path) -> tuple[str, str] | None:
    """Say why a file cannot be read, and the fix; None for a sound file."""
    from safetensors import SafetensorError, safe_open

    again = "download it again"
    try:
        with file.open("rb") as opened:
            if opened.read(len(_LFS_POINTER)) == _LFS_POINTER:
                return "is a pointer of Git LFS, not the file itself", f"run `git lfs pull` in {file.parent}"
        if file.suffix in (".safetensors", ".json") and file.stat().st_size == 0:
            return "is empty", again
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt"):
                return None
        if file.suffix == ".json":
            from_json(file.read_bytes())
    except SafetensorError as error:
        return f"is cut or damaged: {error}", again
    except ValueError as error:
        return f"is {error}", again
    except OSError as error:
        return f"cannot be read: {error.strerror or error}", "check its rights and the disk"
    return None


def _read(source: str, name: str, revision: str | None) -> dict[str, Any]:
    """Read one of the model's JSON files; empty where it is missing or broken: loading reports that better."""
    return read_json(_cached(source, name, revision))


def read_json(file: Path | None) -> dict[str, Any]:
    """The JSON object in a file, read as the libraries read it; empty where it is missing or broken.

    `runs.json_files.read_object` refuses more, such as a number of 31 digits, which many tokenizers' files hold.
    """
    try:
        if file is None or not file.is_file():  # reading a pipe would never end
            return {}
        value = from_json(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def find_config(source: str, revision: str | None) -> None:
    """Raise OSError where a hub id has no config.json that can be found.

    Without a network each file costs half a minute of tries: this is the first, and it ends the search.
    """
    from transformers.utils import cached_file

    if not Path(source).is_dir():
        cached_file(source, "config.json", revision=revision)


def _cached(source: str, name: str, revision: str | None) -> Path | None:
    """Find one of the model's files, and download it for a hub id; None where there is no such file."""
    from transformers.utils import cached_file

    try:
        file = cached_file(source, name, revision=revision, _raise_exceptions_for_missing_entries=False)
    except (OSError, ValueError):  # no such model: loading it gives the better message
        return None
    return None if file is None else Path(file)
