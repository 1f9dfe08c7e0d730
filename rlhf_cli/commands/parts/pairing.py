"""Find the pairs that a command line means: those of a file, of a run, or of two runs."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rlhf_cli.errors import UserError, bad_data, bad_run
from rlhf_cli.feedback.from_runs import labelled_files, pairs_file, rows_of_run, rows_of_two, titles, titles_of
from rlhf_cli.feedback.pairs import write_rows
from rlhf_cli.feedback.readings import odd_readings, queued_files, undone_files
from rlhf_cli.paths import relative_to_here
from rlhf_cli.runs.binding import read_hash
from rlhf_cli.runs.folder import RECORD
from rlhf_cli.runs.kind import check_verb
from rlhf_cli.runs.listing import read_last_metrics
from rlhf_cli.runs.lock import is_locked
from rlhf_cli.runs.resume import find_named, has_run, missing_folder, read_config
from rlhf_cli.types import PromptRow

OTHERS: Final = "only runs of rlhf train leave completions; give pairs in a file: pairs.jsonl"
"""The answer for a run of supervised training, which has no completions to compare."""


@dataclass(frozen=True, slots=True)
class Found:
    """The files of pairs that are meant: one, or those of a run that leaves pairs while it trains."""

    files: Callable[[], list[Path]]
    """By step; more may come."""
    titles: Callable[[Path], tuple[str, str]]
    """Names of the two sides of a file."""
    waiting: Callable[[], str | None] | None = None
    """Says what may still come; None for a file that is whole."""
    undone: Sequence[Path] = ()
    """Files whose pairs are not asked any more."""
    odd: Sequence[str] = ()
    """Lines of queue.jsonl that are no reading."""


def find_pairs(what: Sequence[str]) -> Found:
    """Find the pairs; those of a finished run, or of two runs, are made where they are missing."""
    paths = _find(what)
    if not paths[0].is_dir():
        return Found(lambda: paths, lambda file: ("a", "b"))
    if len(paths) == 1 and (queue := _queue_of(paths[0])) is not None:
        return queue
    file = pairs_file(paths)
    if not file.exists():
        prompts = [held_out_rows(path) for path in paths]
        write_rows(file, rows_of_run(paths[0], prompts[0]) if len(paths) == 1 else rows_of_two(paths, prompts))
    return Found(lambda: [file], lambda file: titles(paths))


def find_voted(what: Sequence[str]) -> list[Path]:
    """The files of pairs that exist: all that were made of a run, that of two runs, or the one that is named."""
    paths = _find(what)
    if not paths[0].is_dir():
        return paths
    return labelled_files(paths[0]) if len(paths) == 1 else [file for file in [pairs_file(paths)] if file.exists()]


def _find(what: Sequence[str]) -> list[Path]:
    """The paths: one file, or runs."""
    paths = [find_named(word) for word in what]
    if len(paths) == 1 and not paths[0].is_dir():
        if not paths[0].suffix and not paths[0].exists():  # the name of a run, rather than that of a file
            raise missing_folder(paths[0], what[0])
        return paths
    for path in paths:
        if not path.is_dir() or not has_run(path):
            found = "no run here" if path.is_dir() else "a file, beside another" if path.is_file() else "no such folder"
            fix = "name one file alone, or runs: rlhf runs lists them"
            if is_locked(path):
                found, fix = "the run has not begun yet", "try again in a moment"
            raise bad_run(found, path, fix)
        check_verb(read_config(path), "train", path, OTHERS)
    if len(set(map(Path.resolve, paths))) < len(paths):
        raise UserError("both runs are the same", where="rlhf label", fix="name two")
    return paths


def _queue_of(run: Path) -> Found | None:
    """The pairs that a run leaves while it trains; None where it leaves none, or has ended before the first."""
    human = read_config(run).get("evaluate", {}).get("human", 0)

    def waiting() -> str | None:
        if not is_locked(run):
            return None
        step, _ = read_last_metrics(run)
        often = "at every step" if human == 1 else f"every {human} steps"
        return f"no pair waits; the run has done step {step or 0}, and leaves pairs {often}"

    if not human or not (queued_files(run) or waiting()):
        return None
    return Found(lambda: queued_files(run), titles_of, waiting, undone_files(run), odd_readings(run))


def held_out_rows(run: Path) -> list[PromptRow]:
    """The held-out prompts of a run, by their numbers in its evaluations; raises UserError where they changed."""
    print(f"reading the prompts of {relative_to_here(run)} ...", file=sys.stderr)
    from rlhf_cli.config.compose import amend
    from rlhf_cli.config.security import TRUST
    from rlhf_cli.data.split import fingerprint
    from rlhf_cli.prompts.rows import read_rows

    config = amend(read_config(run), ())
    rows = read_rows(config)
    known = read_hash(run, "data")
    if known != fingerprint([*rows.train, *rows.held_out]):
        what, fix = "the prompts are no longer those of the run", "bring its data back"
        if not known:
            what, fix = f"{RECORD} does not say which prompts the run had", "bring it back as it was"
        raise bad_data(what, run, fix)
    if not any(part.data.too_long == "drop" for part in rows.parts):
        return rows.held_out
    from rlhf_cli.display.watchers import progress
    from rlhf_cli.models.encoder import load_encoder
    from rlhf_cli.prompts.encoding import encode_held_out

    trustless = config.model.model_copy(update={TRUST: False}) if config.model.kind == "pretrained" else config.model
    encoder, context = load_encoder(trustless)  # prompts that are too long have no number
    return [prompt.row for prompt in encode_held_out(rows, encoder, context, config, progress(config.display))]
