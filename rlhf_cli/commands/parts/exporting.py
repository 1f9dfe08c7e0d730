"""Open a run's policy to write it for other programs: what `merge` and `export` share."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rlhf_cli.config.compose import amend_for
from rlhf_cli.config.security import TRUST, refuse_unsaid_trust
from rlhf_cli.errors import EXIT_DISK, EXIT_RESUME, UserError, visible
from rlhf_cli.models.libraries import import_libraries
from rlhf_cli.paths import expand, relative_to_here
from rlhf_cli.runs.disk import DISK
from rlhf_cli.runs.kind import verb_of
from rlhf_cli.runs.resume import find_adapter, find_named, read_config
from rlhf_cli.schema import TrainingConfig
from rlhf_cli.verbs import REWARD_TRAIN, Verb, find_verb

if TYPE_CHECKING:
    from rlhf_cli.models.policy import Policy

EXACT: Final = ("device=cpu", "dtype=float32")
"""The device and the number format in which a merge is exact."""


def find_place(out: str) -> Path:
    """The path to write; raises UserError where something is there already, and where its folder is missing."""
    path = expand(out).absolute()
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UserError("there is something already", where=str(path), fix="name a path that does not exist")
    if not path.parent.is_dir():
        raise UserError("no such folder", where=str(path.parent), exit_code=EXIT_DISK)
    return path


@contextmanager
def scratch_of(out: Path) -> Iterator[Path]:
    """Make a folder beside `out`, which is gone afterwards; raises UserError (exit 6) where the disk refuses."""
    scratch = out.with_name(f".{out.name}.new")
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        DISK.mkdir(scratch)
    except OSError as error:
        what = f"cannot be made: {error.strerror}"
        raise UserError(what, where=str(out), fix="name a folder where you may write", exit_code=EXIT_DISK) from error
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def open_exactly(options: argparse.Namespace) -> tuple[Policy, Path]:
    """Load the policy of `options.run` on the CPU in float32, where a merge is exact; return it and its run's folder.

    Raises UserError (exit 5) where there is none that writes texts.
    """
    adapter, run = find_adapter(find_named(options.run))
    config = read_writer(run, [*consent_of(options), *EXACT])
    print(f"loading the model, with {relative_to_here(adapter)} ...", file=sys.stderr)
    import_libraries()
    from rlhf_cli.engine.opening import open_policy
    from rlhf_cli.pipeline.record import model_notes

    policy = open_policy(config, _note)
    for note in model_notes(run, policy):
        _note(note)
    policy.load_adapter(adapter)
    return policy, run


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name the policy."""
    parser.add_argument("run", metavar="RUN", help="a run's folder, one of its checkpoints, or latest")
    parser.add_argument("--trust-remote-code", action="store_true", help="run the code that came with the model")


def _note(text: str) -> None:
    print(f"note: {visible(text)}", file=sys.stderr)


def consent_of(options: argparse.Namespace) -> list[str]:
    """The override by which the command line consents to a model's own code."""
    return [f"model.{TRUST}=true"] if options.trust_remote_code else []


def read_writer(run: Path, overrides: list[str]) -> TrainingConfig:
    """Read the settings of a run whose policy writes texts; raises UserError (exit 5) for another."""
    saved = read_config(run)
    verb: Verb[TrainingConfig] | None = find_verb(verb_of(saved).split())
    assert verb is not None
    if verb is REWARD_TRAIN:
        raise UserError(
            "a reward model is exported by its run already",
            where=str(run),
            fix=f"use it by reward=model reward.path={run}",
            exit_code=EXIT_RESUME,
        )
    config = amend_for(verb, saved, overrides)
    refuse_unsaid_trust(config, overrides, EXIT_RESUME, how="--trust-remote-code")
    return config
