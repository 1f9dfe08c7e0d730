"""`rlhf merge RUN OUT`: a trained policy as a plain transformers folder, which needs neither PEFT nor this tool."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rlhf_cli.commands.parts.parser import Parser
from rlhf_cli.config.compose import amend_for
from rlhf_cli.config.security import TRUST, refuse_unsaid_trust
from rlhf_cli.errors import EXIT_DISK, EXIT_DONE, EXIT_RESUME, UserError, visible
from rlhf_cli.models.libraries import import_libraries
from rlhf_cli.paths import expand, relative_to_here
from rlhf_cli.report.card import write_card
from rlhf_cli.runs.disk import DISK
from rlhf_cli.runs.kind import verb_of
from rlhf_cli.runs.reading import read_run
from rlhf_cli.runs.resume import find_adapter, find_latest_run, read_config
from rlhf_cli.schema import TrainingConfig
from rlhf_cli.verbs import REWARD_TRAIN, Verb, find_verb


def main(argv: list[str]) -> int:
    """Write the folder whole or not at all, and print what was compared."""
    options = _parser().parse_args(argv)
    out = expand(options.out).absolute()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError("there is something already", where=str(out), fix="name a folder that does not exist")
    if not out.parent.is_dir():
        raise UserError("no such folder", where=str(out.parent), exit_code=EXIT_DISK)
    path = find_latest_run(Path("outputs")) if options.run == "latest" else expand(options.run).absolute()
    adapter, run = find_adapter(path)
    config = _read(run, [f"model.{TRUST}=true"] if options.trust_remote_code else [])

    print(f"loading the model, with {relative_to_here(adapter)} ...", file=sys.stderr)
    with _scratch_of(out) as scratch:  # before the model is loaded: the disk may refuse
        import_libraries()
        import torch

        from rlhf_cli.engine.opening import open_policy
        from rlhf_cli.models.merging import write_merged

        policy = open_policy(config, lambda note: print(f"note: {visible(note)}", file=sys.stderr))
        policy.load_adapter(adapter)
        dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16}
        difference = write_merged(policy, scratch, dtypes[options.dtype])
        write_card(scratch, read_run(run), options.dtype)
        DISK.rename(scratch, out)
    closeness = f"its logits are those with the adapter, to {difference:.0e} of the largest"
    print(visible(f"written to {relative_to_here(out)}; {closeness}"))
    return EXIT_DONE


@contextmanager
def _scratch_of(out: Path) -> Iterator[Path]:
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


def _read(run: Path, overrides: list[str]) -> TrainingConfig:
    """The run's config, on a CPU and in float32: there the merge is exact."""
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
    config = amend_for(verb, saved, [*overrides, "device=cpu", "dtype=float32"])
    refuse_unsaid_trust(config, overrides, EXIT_RESUME, how="--trust-remote-code")
    return config


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="rlhf merge",
        description="Merge a run's adapter into its model, and write a transformers folder: weights as safetensors, "
        "tokenizer, chat template, generation config and a model card.",
    )
    parser.add_argument("run", metavar="RUN", help="a run's folder, one of its checkpoints, or latest")
    parser.add_argument("out", metavar="OUT", help="the folder to write, which does not exist yet")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of the written weights")
    parser.add_argument("--trust-remote-code", action="store_true", help="run the code that came with the model")
    return parser
