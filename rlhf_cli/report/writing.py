"""Choose the page for some folders, and write a page whole: a reader sees the old one or the new one."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from rlhf_cli.errors import UserError, bad_disk
from rlhf_cli.report import comparison_page, losses_page, rounds_page, run_page, supervised_page, sweep_page
from rlhf_cli.report.page import GENERATOR
from rlhf_cli.rounds.folder import FeedbackSettings
from rlhf_cli.runs.disk import check_parent
from rlhf_cli.runs.reading import read_run
from rlhf_cli.sweep.answer import answer
from rlhf_cli.sweep.record import SweepRecord

_HEAD: Final = 2**10
"""Characters at the beginning of a page that hold its generator."""


def page_of(folders: Sequence[Path], compare_at: float | None = None) -> str:
    """The page of a sweep, of rounds of feedback, of a run, or of several runs.

    `compare_at` is another beta for the points of a sweep. Raises UserError where there is such a beta and no sweep.
    """
    if len(folders) == 1 and (sweep := SweepRecord.read(folders[0])) is not None:
        sweep = sweep if compare_at is None else replace(sweep, compare_at=compare_at)
        return sweep_page.html(sweep, answer(sweep))
    if compare_at is not None:
        raise UserError("--compare-at is for the folder of a sweep", where=str(folders[0]))
    if len(folders) == 1 and (settings := FeedbackSettings.read(folders[0])) is not None:
        return rounds_page.html(folders[0], settings)
    runs = [read_run(folder) for folder in folders]
    if len(runs) == 1:
        return run_page.html(runs[0]) if runs[0].status.verb == "train" else supervised_page.html(runs[0])
    of_rl = [run.status.verb == "train" for run in runs]
    if any(of_rl) and not all(of_rl):
        what = "a page compares runs of rlhf train, or runs of rlhf sft, dpo and reward train, and these are of both"
        raise UserError(what, where=str(runs[of_rl.index(False)].status.folder), fix="give the ones or the others")
    return comparison_page.html(runs) if all(of_rl) else losses_page.html(runs)


def check_page(file: Path, *, overwrite: bool, fix: str = "rlhf report ... --output FILE") -> None:
    """Raise UserError where a page cannot be written, before the work for it; `fix` is the option that names another.

    With `overwrite`, it also replaces a file that is no page of ours.
    """
    check_parent(file)
    if file.is_dir():
        raise bad_disk("a folder, and no file for a page", file, fix)
    if not overwrite and file.exists() and not _is_page(file):
        raise UserError("there is a file of this name that is no page of rlhf", where=str(file), fix=fix)


def write_page(file: Path, text: str, *, overwrite: bool) -> None:
    """Write the page; raises UserError as `check_page` does, and OSError about the page where the disk refuses."""
    check_page(file, overwrite=overwrite)
    if file.exists() and not file.is_file():  # /dev/stdout
        file.write_text(text, encoding="utf-8")
        return
    scratch = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        scratch.write_text(text, encoding="utf-8")
        scratch.replace(file)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(file)) from error


def _is_page(file: Path) -> bool:
    if not file.is_file():  # reading a pipe would never end
        return False
    try:
        with file.open(encoding="utf-8") as handle:
            return GENERATOR in handle.read(_HEAD)
    except (OSError, ValueError):
        return False
