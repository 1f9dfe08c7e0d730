"""`rlhf eval RUN --harness TASKS`: lm-eval's table of a run's policy against that of its reference."""

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from rlhf_cli.commands.parts.exporting import consent_of, open_exactly, read_writer
from rlhf_cli.display.printing import print_result
from rlhf_cli.display.verbs.harness import show_scores
from rlhf_cli.display.watchers import progress
from rlhf_cli.errors import UserError, visible
from rlhf_cli.evaluation.harness import Score, compare_tables
from rlhf_cli.models.libraries import import_libraries
from rlhf_cli.paths import relative_to_here
from rlhf_cli.runs.folder import HARNESS
from rlhf_cli.runs.json_files import append_json
from rlhf_cli.runs.resume import find_adapter
from rlhf_cli.schema import RunConfig

FREE: Final = ("device", "dtype", "threads", "microbatch_size")
"""Settings that have a meaning here; the others are those of lm-eval's tasks."""
BATCH: Final = 8
"""Requests at a time where microbatch_size is automatic."""


@dataclass(frozen=True, slots=True)
class Harnessed:
    """One table of lm-eval, as it is printed and kept."""

    adapter: str
    """The folder of the adapter."""
    time: str
    lm_eval: str
    """Its version."""
    tasks: Sequence[str]
    limit: int | None
    chat_template: bool
    scores: Sequence[Score]


def ask_harness(options: argparse.Namespace, path: Path, overrides: Sequence[str]) -> None:
    """Merge, ask lm-eval for both sides, print the table, and add it to the run's harness.jsonl."""
    _check(overrides)
    adapter, run = find_adapter(path)
    tasks = [name.strip() for name in options.harness.split(",") if name.strip()]
    if not tasks:
        raise UserError("no task is named", where="--harness", fix="rlhf eval RUN --harness arc_easy,./mine.yaml")
    consent = consent_of(options)
    config = read_writer(run, [*consent, *overrides])
    watch = progress(config.display)
    if isinstance(config, RunConfig) and config.reference.kind == "model":
        watch.note("the reference here is the policy before training, not the run's reference.path")
    with watch.phase("loading torch, transformers and the tasks of lm-eval", 0):
        import_libraries()
        from rlhf_cli.engine.opening import place_of
        from rlhf_cli.models.exports.harness import evaluate_merged, load_tasks

        loaded, (device, dtype) = load_tasks(tasks), place_of(config)
    policy, _ = open_exactly(path, consent)
    size = config.microbatch_size if isinstance(config.microbatch_size, int) else BATCH
    ask = partial(
        evaluate_merged, policy, loaded, device, dtype, batch_size=size, limit=options.limit, chat=options.chat_template
    )
    tables: list[dict[str, Any]] = []
    for side, with_adapter in (("policy", True), ("reference", False)):
        with watch.phase(f"lm-eval asks the {side}", 0):
            tables.append(ask(adapter=with_adapter))
    scores = compare_tables(*tables)
    now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    table = Harnessed(str(adapter), now, version("lm_eval"), tasks, options.limit, options.chat_template, scores)
    print_result(asdict(table), partial(show_scores, scores), as_json=options.json, indent=None)
    append_json(run / HARNESS, asdict(table))  # last: a disk that refuses takes no result away
    if not options.json:
        print(visible(f"Added to {relative_to_here(run / HARNESS)}"))


def _check(overrides: Sequence[str]) -> None:
    """Raise UserError for a setting that has no meaning here."""
    for override in overrides:
        key = override.partition("=")[0]
        if key not in FREE:
            raise UserError(f"{key} has no meaning for lm-eval", where=override, fix=f"change only {', '.join(FREE)}")
