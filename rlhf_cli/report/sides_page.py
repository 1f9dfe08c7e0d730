"""The page of `rlhf eval`: the table, and all completions side by side."""

from collections.abc import Iterator, Sequence
from typing import Final

from rlhf_cli.evaluation.intervals import with_error
from rlhf_cli.evaluation.sides import Side, Sides
from rlhf_cli.feedback.saying import share
from rlhf_cli.plural import plural
from rlhf_cli.report.answers import Answers, by_change
from rlhf_cli.report.answers import Side as Completions
from rlhf_cli.report.page import render
from rlhf_cli.report.table import Table
from rlhf_cli.types import PromptRow

NAMES: Final = {
    "kl": "KL, nats",
    "length": "length, tokens",
    "truncated": "share that was cut",
    "repetition": "repeated word 4-grams",
    **{f"distinct_{n}": f"distinct word {n}-grams" for n in (1, 2, 3)},
}
DIGITS: Final = {"length": 1}


def html(sides: Sides, answers: Sequence[Side], prompts: Sequence[PromptRow], names: tuple[str, str]) -> str:
    """The whole page: the prompts on which a gains most come first."""
    a, b = answers
    both = []
    for number in sorted(a.keys() & b.keys()):
        before, after = (Completions.of(side[number].rewards, side[number].texts) for side in (b, a))
        both.append(Answers(prompts[number].shown, before, after))
    return render(
        "sides.html.j2",
        title=f"{names[0]} against {names[1]}",
        names=names,
        table=Table(["", *names, "difference"], rows_of(sides)),
        lines=list(describe(sides, names)),
        prompts=by_change(both),
    )


def rows_of(sides: Sides) -> list[tuple[str, str, str, str]]:
    """The rows of the table: a name, two levels and the difference."""
    rows = []
    for measure in sides.measures:
        digits = DIGITS.get(measure.name, 3)
        a, b = (with_error(level, digits) for level in (measure.a, measure.b))
        rows.append((NAMES.get(measure.name, measure.name), a, b, with_error(measure.difference, digits, "+")))
    return rows


def describe(sides: Sides, names: tuple[str, str]) -> Iterator[str]:
    """Sentences below the table."""
    if sides.win_rate is not None:
        often = f"{share(sides.win_rate)} of pairs; equal ones count half"
        yield f"a completion of {names[0]} has a higher reward than one of {names[1]} in {often}"
    if sides.left_out:
        yield f"{plural(sides.left_out, 'prompt')} left out: the reward has no score for one of the completions"
