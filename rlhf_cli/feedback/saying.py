"""Say in words what votes show: on a terminal and on the page."""

from collections.abc import Iterator
from typing import Final

from rlhf_cli.evaluation.intervals import Share
from rlhf_cli.feedback.tally import Tally
from rlhf_cli.plural import plural

KAPPAS: Final = {"cohen": "Cohen's", "fleiss": "Fleiss'"}


def describe_rate(tally: Tally, title: str) -> str:
    """The present win rate in a few words."""
    return f"{title} wins {share(tally.win_rate)}" if tally.votes else "no vote yet"


def share(value: Share) -> str:
    """A share and its interval."""
    return f"{value.mean:.1%} [{value.low:.1%}, {value.high:.1%}]"


def describe(tally: Tally, titles: tuple[str, str]) -> Iterator[tuple[str, str]]:
    """Lines of a name and a text; a name is empty where the line goes on with the one before."""
    yield "compared", "a against b" if titles == ("a", "b") else f"{titles[0]} (a) against {titles[1]} (b)"
    alike = f", {tally.identical} of them identical: ties without asking" if tally.identical else ""
    added = f", {tally.added} of them added after the first vote" if tally.added > 0 else ""
    yield "pairs", f"{tally.pairs}{alike}{added}"
    for rater, counts in tally.raters.items():
        votes = ", ".join(f"{count} {choice.replace('_', ' ')}" for choice, count in counts.items() if count)
        yield rater, votes or "nothing that stands"
    if not tally.votes:
        yield "win rate", "no vote yet"
        return
    yield "win rate", f"a {share(tally.win_rate)} 95 % interval; ties and both bad count half"
    if tally.decided is not None:
        yield "", f"a {share(tally.decided)} without ties, {plural(round(tally.decided.count), 'vote')}"
    if tally.agreement is not None:
        yield "reward", f"people agree with it {share(tally.agreement)} where it tells a pair apart; ties count half"
    if (kappa := tally.kappa) is not None:
        value = "undefined: all say the same one thing" if kappa.value is None else f"{kappa.value:.2f}"
        yield "raters", f"{KAPPAS[kappa.kind]} kappa {value}, {kappa.raters} raters on {plural(kappa.pairs, 'pair')}"
    if tally.left is not None and not tally.left.low <= 0.5 <= tally.left.high:
        yield "sides", f"the first text won {share(tally.left)} of the votes for one side: read both to their ends"
