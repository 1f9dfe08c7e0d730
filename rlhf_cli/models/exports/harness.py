"""Ask lm-eval for its table of a merged policy, and of the reference.

lm-eval is an extra. It prints by logging, bars and warnings; here only its bars of requests stay, on a terminal.
"""

import contextlib
import copy
import difflib
import logging
import os
import random
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy
import torch

from rlhf_cli.errors import UserError, bad_data, first_line
from rlhf_cli.models.exports.merging import merge
from rlhf_cli.models.libraries import silence_transformers
from rlhf_cli.models.policy import Policy
from rlhf_cli.paths import expand

WHERE: Final = "--harness"
OFFLINE: Final = "fetch its data set once with a network, or name a YAML file of a task whose data are files"


def load_tasks(names: Sequence[str]) -> dict[str, Any]:
    """The tasks and groups by names or patterns of lm-eval, or by the paths of YAML files, with their data sets read.

    Raises UserError where lm-eval is missing (exit 2), and for a task that is unknown or cannot be read (exit 3).
    """
    silence_transformers()
    with _quiet():
        try:
            from lm_eval.tasks import TaskManager
        except ImportError as error:
            raise UserError("lm-eval is not installed", where=WHERE, fix="pip install 'rlhf-cli[harness]'") from error
        files = [Path(name).suffix in (".yaml", ".yml") or os.sep in name for name in names]
        manager = TaskManager(include_defaults=not all(files))
        loaded: dict[str, dict[str, Any]] = {"tasks": {}, "groups": {}, "group_map": {}}
        for name, is_file in zip(names, files, strict=True):
            known = [str(expand(name).absolute())] if is_file else manager.match_tasks([name])
            if not known:
                raise _unknown(name, manager.all_tasks)
            if is_file and not Path(known[0]).is_file():
                raise bad_data("no such task file", name, "name a YAML file, or a task of lm-eval")
            with _as_mistake(name):
                found = manager.load(known)
            for kind, those in loaded.items():
                those.update(found.get(kind, {}))
    return loaded


def evaluate_merged(
    policy: Policy,
    tasks: dict[str, Any],
    device: torch.device,
    dtype: torch.dtype | None,
    *,
    adapter: bool,
    batch_size: int,
    limit: int | None,
    chat: bool,
) -> dict[str, Any]:
    """The results of lm-eval for the policy, merged, or for the reference, without the adapter; with all documents.

    The policy's weights are float32 on the CPU; the merged ones move to the device, and to the `dtype` unless it is
    None. `limit`: documents of a task; `chat`: write prompts by the model's chat template. Raises UserError where there
    is none (exit 2), and where lm-eval fails (exit 3).
    """
    if chat and policy.tokenizer.chat_template is None:
        raise UserError("the model has no chat template", where="--chat-template", fix="leave it out")
    merged, _ = merge(policy, adapter=adapter)
    merged.generation_config.eos_token_id = list(policy.end_tokens)
    with _quiet():
        from lm_eval import evaluate
        from lm_eval.models.huggingface import HFLM

        model = HFLM(
            merged.to(device, dtype),
            backend="causal",
            tokenizer=copy.deepcopy(policy.tokenizer),  # it is given a token to pad by
            batch_size=batch_size,
        )
        try:
            _prepare(tasks["tasks"])
            results: dict[str, Any] = evaluate(
                model, tasks, limit=limit, apply_chat_template=chat, fewshot_as_multiturn=chat
            )
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # of any kind: the functions and templates of a task are its author's
            what = f"lm-eval failed: {type(error).__name__}: {first_line(error)}"
            fix = "mend the task; lm_eval itself shows more, with the folder of rlhf merge"
            raise bad_data(what, WHERE, fix) from error
    return results


def _prepare(tasks: Mapping[str, Any]) -> None:
    """Do what `simple_evaluate` does before it evaluates, but not its look at the machine: that prints, and is slow."""
    from lm_eval.defaults import DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED

    random.seed(DEFAULT_RANDOM_SEED)
    numpy.random.seed(DEFAULT_OTHER_SEED)
    torch.manual_seed(DEFAULT_OTHER_SEED)
    for task in tasks.values():
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)


@contextlib.contextmanager
def _as_mistake(name: str) -> Iterator[None]:
    """Turn an error of any kind into UserError (exit 3): a file that is no task, a data set that is not at hand."""
    try:
        yield
    except Exception as error:
        what = f"the task cannot be read: {first_line(error)}"
        fix = OFFLINE if isinstance(error, OSError) else "mend the task"
        raise bad_data(what, name, fix) from error


def _unknown(name: str, known: Sequence[str]) -> UserError:
    close = difflib.get_close_matches(name, known, n=1)
    fix = f"did you mean {close[0]}?" if close else "lm_eval ls tasks lists them; or name a YAML file"
    return bad_data(f"lm-eval has no task {name}", WHERE, fix)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep stdout clean, and of stderr what is no bar of a terminal."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    with contextlib.ExitStack() as stack:
        nowhere = stack.enter_context(open(os.devnull, "w"))
        stack.enter_context(contextlib.redirect_stdout(nowhere))
        if not sys.stderr.isatty():
            stack.enter_context(contextlib.redirect_stderr(nowhere))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        yield
