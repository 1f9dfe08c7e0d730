"""`rlhf audit RUN`: check a run's files against their hashes, and repeat stretches of it that are chosen at random."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rlhf_cli.commands.parts.parser import Parser, at_least
from rlhf_cli.commands.parts.repeating import differs, repeating
from rlhf_cli.display.printing import print_note, print_result
from rlhf_cli.errors import bad_run, first_line
from rlhf_cli.models.libraries import import_libraries
from rlhf_cli.pipeline.signals import StopSignals
from rlhf_cli.plural import plural
from rlhf_cli.runs.binding import PARENT, read_record
from rlhf_cli.runs.checkpoint import step_of
from rlhf_cli.runs.folder import AUDITS, CHECKPOINTS
from rlhf_cli.runs.json_files import append_json
from rlhf_cli.runs.lock import hold
from rlhf_cli.runs.resume import find_checkpoints, find_named
from rlhf_cli.runs.trail import find_changed

if TYPE_CHECKING:
    from rlhf_cli.verify.audit import Audit, Span
    from rlhf_cli.verify.repeat import Verdict

ABOUT: Final = """\
Checks that a run is what its files say. Every file is compared with the hashes
that the run left of it. Then stretches between its checkpoints, chosen at
random, are trained once more in a temporary folder, and compared bit for bit
with what the run logged and saved. The run is held meanwhile: it cannot be
resumed before this ends. It gets a line in audits.jsonl, which its page shows;
nothing else is changed."""

EXAMPLES: Final = """\
Exit code 0: all is as the run wrote it. 5: not, and the first thing that
differs is named. A run that keeps few checkpoints has few stretches; the first
one leads from the settings to the oldest checkpoint that is kept, so keep
many: checkpoint.keep=1000. It holds where `rlhf verify-resume` holds: on a
machine of the same type, with the same library versions.

  rlhf audit RUN                     a twentieth of the stretches, at least one
  rlhf audit RUN --stretches 20
  rlhf audit RUN --all               the whole run once more"""


def main(argv: list[str]) -> None:
    """Check, repeat and compare. Prints what was checked to stdout, progress to stderr."""
    options = _parser().parse_args(argv)
    checkpoints, invalid = find_checkpoints(find_named(options.run))
    folder = checkpoints[0].parent.parent
    signals = StopSignals()
    with signals.installed(), hold(folder, only_read=True, instead="run"):
        import_libraries()
        from rlhf_cli.pipeline.state import read_state
        from rlhf_cli.verify.audit import Audit, chance, choose, count_needed, find_spans

        files = {f"{CHECKPOINTS}/{path.name}": reason for path, reason in invalid}
        files |= find_changed(folder, [(path, read_state(path).logs) for path in checkpoints])
        spans = find_spans(checkpoints, from_start=PARENT not in read_record(folder))
        seed = secrets.randbelow(2**31) if options.seed is None else options.seed
        chosen = choose(spans, len(spans) if options.all else options.stretches, seed)
        repeated: list[Verdict] = []
        if not files:
            with repeating(folder, checkpoints[0], signals, trusts=options.trust_remote_code) as repeat:
                repeated = [repeat(span.older, span.newer) for span in chosen]
        audit = Audit(
            steps=step_of(checkpoints[0]),
            stretches=len(spans),
            files=files,
            repeated=repeated,
            chance=chance(spans, len(repeated)),
            needed=count_needed(spans),
            seed=seed,
        )
    _keep(folder / AUDITS, audit)
    row = {"clean": audit.is_clean, **asdict(audit)}
    print_result(row, partial(_show, audit, len(checkpoints)), as_json=options.json, indent=None)
    _refuse(audit, folder, chosen)


def _show(audit: Audit, checkpoints: int) -> None:
    for file, reason in audit.files.items():
        print(f"{file} {reason}")
    if audit.files:
        return
    print(f"files: as the run wrote them, {plural(checkpoints, 'checkpoint')} among them")
    for verdict in audit.repeated:
        print(f"{'identical' if verdict.divergence is None else 'different'}: {verdict.describe()}")
    print(
        f"{len(audit.repeated)} of {audit.stretches} stretches were repeated, {audit.repeated_steps} of {audit.steps} "
        f"steps, chosen by --seed {audit.seed}"
    )
    more = f"; for 99 %: --stretches {audit.needed}" if audit.needed > len(audit.repeated) else ""
    print(f"They find a run of which a tenth of the steps were changed with a chance of {audit.chance:.1%}{more}")


def _keep(file: Path, audit: Audit) -> None:
    """Add a line to the run's audits.jsonl, for its page; a folder that cannot be written is no error."""
    now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    try:
        append_json(file, {"time": now, "clean": audit.is_clean, **asdict(audit)})
    except OSError as error:
        print_note(f"not kept in {file.name}: {first_line(error)}")


def _refuse(audit: Audit, folder: Path, chosen: Sequence[Span]) -> None:
    """Raise UserError (exit 5) for the first thing that is not as the run wrote it."""
    for file, reason in audit.files.items():
        raise bad_run(
            f"{Path(file).name} {reason}" if not reason.startswith(Path(file).name) else reason,
            folder / file,
            "bring the file back as the run wrote it",
        )
    for verdict, span in zip(audit.repeated, chosen, strict=True):
        if verdict.divergence is not None:
            raise differs(verdict.divergence, span.older)


def _parser() -> Parser:
    parser = Parser(prog="rlhf audit", description=ABOUT, epilog=EXAMPLES)
    parser.add_argument("run", metavar="RUN", help="a run's folder or latest")
    how_many = parser.add_mutually_exclusive_group()
    how_many.add_argument("--stretches", type=at_least(1), metavar="K", help="how many to repeat")
    how_many.add_argument("--all", action="store_true", help="repeat all of them")
    parser.add_argument("--seed", type=at_least(0), metavar="N", help="chooses the stretches; random if left out")
    parser.add_argument("--trust-remote-code", action="store_true", help="run the code that came with the model")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    return parser
