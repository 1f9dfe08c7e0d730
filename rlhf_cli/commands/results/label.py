"""`rlhf label RUN [RUN]` or FILE: blind votes on pairs of completions, and the win rate that they show."""

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from rlhf_cli.commands.parts.pairing import Found, find_pairs, find_voted
from rlhf_cli.commands.parts.parser import Parser, at_least
from rlhf_cli.display.labelling import label, show_lines
from rlhf_cli.display.printing import print_json, print_note
from rlhf_cli.errors import Stopped, UserError, visible
from rlhf_cli.feedback.desk import Desk
from rlhf_cli.feedback.export import preferences, write_preferences
from rlhf_cli.feedback.pairs import read_pairs
from rlhf_cli.feedback.results import Result, describe_results, newest, read_results
from rlhf_cli.feedback.saying import describe_rate
from rlhf_cli.feedback.votes import VoteFile
from rlhf_cli.paths import expand, relative_to_here
from rlhf_cli.plural import plural

ABOUT: Final = """\
Blind votes on pairs of completions: which is better? Of a run: its policy
against its reference, on the held-out prompts. Of two runs: policy against
policy. Or a jsonl file with prompt, a and b (or chosen and rejected).
The sides are shuffled. Each vote is a line of a file, on disk before the next
question; the same command goes on where you left, and several may label.
A run with evaluate.human leaves pairs while it trains: they are asked step by
step, the newest first, and the command waits for those that come."""

EXAMPLES: Final = """\
  rlhf label latest
  rlhf label latest --web                   a page, for a mouse or a finger
  rlhf label outputs/a outputs/b --rater anna
  rlhf label pairs.jsonl --choose informative --json
  rlhf label latest --export preferences.jsonl"""


def main(argv: list[str]) -> None:
    """Ask, then print what the votes say; questions on stderr, the result on stdout."""
    options = _parser().parse_args(argv)
    if len(options.what) > 2:
        raise UserError("give one run, two runs or one file of pairs", where="rlhf label", fix="rlhf label RUN")
    if options.port and not options.web:
        raise UserError("--port is for the page of --web", where="rlhf label", fix="add --web, or leave it out")
    if options.export is not None:
        _export(options)
        return
    found = find_pairs(options.what)
    desk = _open_desk(found, options)

    def results() -> list[Result]:
        return read_results(found.files(), found.titles)

    def rate() -> str:
        last = newest(results())
        return describe_rate(last.tally, last.titles[0]) if last else "no vote yet"

    _note_what_does_not_count(found, results())
    shown = rate if options.show else None
    if options.web:
        serve, build_app = _web()
        with suppress(KeyboardInterrupt):
            serve(
                lambda token, port: build_app(desk, token, port, lambda: list(describe_results(results())), shown),
                options.port,
                lambda link: print(f"open {link}\nCtrl-C ends it; every vote is saved at once", file=sys.stderr),
            )
    else:
        try:
            label(desk, shown)
        except (KeyboardInterrupt, Stopped) as error:  # Ctrl-C, or nobody reads the questions
            raise Stopped("every vote is saved; the same command goes on", resumable=True) from error
    last = newest(results())
    if options.json:
        steps = {"steps": [one.row() for one in results()]} if found.waiting else {}
        print_json((last.row() if last else {}) | steps)
    else:
        show_lines(describe_results(results()))
        if last is not None:
            print(visible(f"votes       {relative_to_here(last.votes)}"))


def _open_desk(found: Found, options: argparse.Namespace) -> Desk:
    if found.waiting is None:
        (file,) = found.files()
        pairs, _ = read_pairs(file), VoteFile(file)  # a desk would pass over what cannot be read: here that is all
        if options.choose == "informative" and not any(pair.rewards for pair in pairs):
            print_note("no rewards in the file: --choose informative has only the lengths to go by")
    rater = "me" if options.rater is None else options.rater
    return Desk(found.files, found.waiting or (lambda: None), print_note, rater, options.choose, options.seed)


def _note_what_does_not_count(found: Found, results: Sequence[Result]) -> None:
    for one in results:
        for line in one.cast.odd:
            print_note(f"{line}; it stays, and does not count")
        if foreign := one.tally.foreign:
            print_note(f"{plural(foreign, 'line')} of {one.votes.name} on pairs that are not asked here: not counted")
    for line in found.odd:
        print_note(f"{line}; it stays, and does not count")
    for votes in map(VoteFile, found.undone):
        if count := len(votes.read().lines):
            what = "on texts of a step that was done again, or of a changed line of queue.jsonl"
            print_note(f"{plural(count, 'line')} of {votes.file.name} {what}: not counted")


def _export(options: argparse.Namespace) -> None:
    """Write the votes as preference rows, and say how many there are; raises UserError for options of a session."""
    if of_session := next((name for name in ("rater", "show", "web") if getattr(options, name)), None):
        what = f"--export asks nothing and takes the votes of everybody, so --{of_session} has no meaning"
        raise UserError(what, where="rlhf label", fix="leave it out")
    asked = [(VoteFile(file).read(), read_pairs(file)) for file in find_voted(options.what)]
    for line in (line for votes, _ in asked for line in votes.odd):
        print_note(f"{line}; it does not count")
    found, file = preferences(asked), expand(options.export).absolute()
    write_preferences(found, file)
    if options.json:
        counts = {"preferences": len(found.rows), "ties": found.ties, "left_out": dict(found.left_out)}
        print_json({"file": str(file), **counts})
    else:
        left_out = "".join(f", {count} {why} left out" for why, count in found.left_out.items())
        rows = plural(len(found.rows), "preference")
        print(visible(f"{relative_to_here(file)}: {rows}, {found.ties} of them tied{left_out}"))


def _web() -> tuple[Any, Any]:
    """The functions of the page, which needs an extra."""
    try:
        from rlhf_cli.feedback.web.app import build_app
        from rlhf_cli.feedback.web.serving import serve
    except ImportError as error:
        what = "the page needs starlette and uvicorn, which are not installed"
        raise UserError(what, where="--web", fix="pip install 'rlhf-cli[label]', or label without --web") from error
    return serve, build_app


def _parser() -> Parser:
    parser = Parser(prog="rlhf label", description=ABOUT, epilog=EXAMPLES)
    parser.add_argument("what", metavar="RUN|FILE", nargs="+", help="a run's folder or latest; two runs; or a file")
    parser.add_argument("--rater", metavar="NAME", help="who votes (default: me)")
    parser.add_argument(
        "--choose",
        choices=("random", "informative"),
        default="random",
        help="what is asked first: any pair, or those that narrow the interval most",
    )
    parser.add_argument("--show", action="store_true", help="show the win rate while you vote")
    parser.add_argument("--seed", type=at_least(0), default=0, metavar="S", help="of sides and order (default 0)")
    parser.add_argument("--web", action="store_true", help="ask on a page that this machine serves to itself")
    parser.add_argument(
        "--port", type=at_least(0, 65535), default=0, metavar="P", help="of the page (default: any free one)"
    )
    parser.add_argument("--export", metavar="FILE.jsonl", help="ask nothing: write the votes as preference rows")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    return parser
