"""Open a run's policy to write it for other programs: what `merge`, `export` and `eval --harness` share."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rlhf_cli.config.compose import amend_for
from rlhf_cli.config.security import TRUST, refuse_unsaid_trust
from rlhf_cli.display.printing import print_note, print_result
from rlhf_cli.errors import EXIT_RESUME, UserError, bad_run, visible
from rlhf_cli.models.libraries import import_libraries
from rlhf_cli.paths import expand, relative_to_here
from rlhf_cli.runs.disk import check_parent
from rlhf_cli.runs.resume import find_adapter, read_config
from rlhf_cli.schema import TrainingConfig
from rlhf_cli.verbs import REWARD_TRAIN, verb_of_run

if TYPE_CHECKING:
    from rlhf_cli.models.policy import Policy

EXACT: Final = ("device=cpu", "dtype=float32")
"""The device and the number format in which a merge is exact."""


def find_place(out: str) -> Path:
    """The path to write; raises UserError where something is there already, and where its folder is missing."""
    path = expand(out).absolute()
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UserError("there is something already", where=str(path), fix="name a path that does not exist")
    check_parent(path)
    return path


def open_exactly(path: Path, consent: Sequence[str]) -> tuple[Policy, Path]:
    """Load the policy that a path means on the CPU in float32, where a merge is exact; return it and its run's folder.

    `consent` is that of `consent_of`. Raises UserError (exit 5) where there is no policy that writes texts.
    """
    adapter, run = find_adapter(path)
    config = read_writer(run, [*consent, *EXACT])
    print(f"loading the model, with {relative_to_here(adapter)} ...", file=sys.stderr)
    import_libraries()
    from rlhf_cli.engine.opening import open_policy
    from rlhf_cli.pipeline.record import note_model

    policy = open_policy(config, print_note)
    note_model(run, policy, print_note)
    policy.load_adapter(adapter)
    return policy, run


def add_arguments(parser: argparse.ArgumentParser, out: str, what: str) -> None:
    """Add the arguments that every such verb has; `what` it writes is named `out`."""
    parser.add_argument("run", metavar="RUN", help="a run's folder, one of its checkpoints, or latest")
    parser.add_argument("--trust-remote-code", action="store_true", help="run the code that came with the model")
    parser.add_argument("out", metavar=out, help=f"the {what} to write, which does not exist yet")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def print_written(options: argparse.Namespace, out: Path, numbers: str, difference: float, more: str = "") -> None:
    """Print what was written and how near its logits are; `numbers` is the option that names its number format."""
    near = f"its logits are those with the adapter, to {difference:.0e} of the largest"
    line = visible(f"written to {relative_to_here(out)}{more or ';'} {near}")
    value = {"written": str(out), numbers: getattr(options, numbers), "logit_difference": difference}
    print_result(value, partial(print, line), as_json=options.json, indent=None)


def consent_of(options: argparse.Namespace) -> list[str]:
    """The override by which the command line consents to a model's own code."""
    return [f"model.{TRUST}=true"] if options.trust_remote_code else []


def read_writer(run: Path, overrides: Sequence[str]) -> TrainingConfig:
    """Read the settings of a run whose policy writes texts; raises UserError (exit 5) for another."""
    saved = read_config(run)
    verb = verb_of_run(saved)
    if verb is REWARD_TRAIN:
        fix = f"rlhf reward test reward=model reward.path={shlex.quote(str(run))}"
        raise bad_run("a reward model scores texts, and writes none", run, fix)
    config = amend_for(verb, saved, overrides)
    refuse_unsaid_trust(config, overrides, EXIT_RESUME, how="--trust-remote-code")
    return config
