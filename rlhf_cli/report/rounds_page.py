"""The page of several rounds of feedback: votes, reward models, and the true reward beside that which is trained on."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rlhf_cli.charts.pictures import Chart
from rlhf_cli.evaluation.evaluation import nats
from rlhf_cli.evaluation.intervals import estimate, with_error
from rlhf_cli.feedback.results import read_results
from rlhf_cli.feedback.saying import describe, share
from rlhf_cli.plural import plural
from rlhf_cli.report.page import render
from rlhf_cli.report.series import with_intervals
from rlhf_cli.report.supervised_page import shown
from rlhf_cli.report.table import Link, Table
from rlhf_cli.rounds.folder import FeedbackSettings, Round, rounds_in
from rlhf_cli.rounds.truth import Truth, change, overoptimised_from, read_truth
from rlhf_cli.runs.folder import REPORT
from rlhf_cli.supervised.result import SupervisedResult

UNIT: Final = {"true": "true reward", "proxy": "score of the reward model"}
KL: Final = "KL to the reference, nats"


@dataclass(frozen=True, slots=True)
class Shown:
    """The parts of a round that there are so far."""

    number: int
    truth: Sequence[Truth]
    votes: Sequence[tuple[str, str]]
    """Lines about the votes: a name and a text."""
    runs: Sequence[Link]
    accuracy: str
    """The accuracy of the reward model on held-out pairs, with its interval."""


def html(folder: Path, settings: FeedbackSettings) -> str:
    """The whole page; a round that is not done has less to show."""
    rounds = [_shown(one, folder) for one in rounds_in(folder, settings.rounds)]
    measured = [one for one in rounds if one.truth]
    return render(
        "rounds.html.j2",
        title=f"{folder.name}: {plural(len(rounds), 'round')} of feedback",
        verdicts=[verdict(one.number, one.truth) for one in measured],
        table=_table(measured) if measured else None,
        charts=[_chart(measured, name) for name in ("true", "proxy")] if measured else [],
        rounds=rounds,
        settings=_facts(settings),
    )


def verdict(number: int, truth: Sequence[Truth]) -> str:
    """Whether the true reward rose in a round, and whether it fell again while the reward model's score rose."""
    first, last = truth[0], truth[-1]
    true, proxy = (change(first, last, name) for name in ("true", "proxy"))
    rose = "rose" if true.low > 0 else "fell" if true.high < 0 else "did not change measurably"
    words = f"Round {number}: the true reward {rose}, {with_error(true, 3, '+')} on {true.count} held-out prompts"
    words += f", for {estimate(last.kl).mean:z.2f} nats of KL; "
    words += f"the reward model's score changed by {with_error(proxy, 3, '+')}."
    if (peak := overoptimised_from(truth)) is not None:
        lost = with_error(change(peak, last, "true"), 3, "+")
        words += f" It was highest at step {peak.step}, and changed by {lost} from there while the score rose: "
        words += "over-optimisation."
    return words


def summary(number: int, truth: Sequence[Truth]) -> dict[str, Any]:
    """The same in figures, for JSON."""
    first, last, peak = truth[0], truth[-1], overoptimised_from(truth)
    changes = {name: asdict(change(first, last, name)) for name in ("true", "proxy")}
    kl = estimate(last.kl).mean
    return {"round": number, **changes, "kl": kl, "overoptimised_from": peak.step if peak else None}


def _table(rounds: Sequence[Shown]) -> Table:
    head = ["round", "accuracy of the reward model", "its score, change", "true reward, reference", "policy", "change"]
    head.append("KL, nats")
    rows = []
    for one in rounds:
        first, last = one.truth[0], one.truth[-1]
        levels = [with_error(estimate(each.true), 3) for each in (first, last)]
        true, proxy = (with_error(change(first, last, name), 3, "+") for name in ("true", "proxy"))
        rows.append([str(one.number), one.accuracy, proxy, *levels, true, with_error(estimate(last.kl), 2)])
    return Table(head, rows)


def _chart(rounds: Sequence[Shown], name: str) -> Chart:
    """The true reward, or the reward model's score, against KL: a line a round, a point an evaluation."""
    series = []
    for place, one in enumerate(rounds):
        values = [estimate(getattr(each, name)) for each in one.truth]
        kls = [nats(estimate(each.kl).mean) for each in one.truth]
        series.append(with_intervals(f"round {one.number}", kls, values, colour=place))
    return Chart(f"{UNIT[name].capitalize()} against KL", KL, UNIT[name], series)


def _shown(one: Round, folder: Path) -> Shown:
    runs = [run for run in (one.reward_model, one.policy) if (run / REPORT).is_file()]
    links = [Link(run.name, str((run / REPORT).relative_to(folder))) for run in runs]
    result = SupervisedResult.read(one.reward_model)
    found = result.after.get("accuracy") if result else None
    return Shown(one.number, read_truth(one.truth), _votes(one.pairs), links, shown("accuracy", found))


def _votes(pairs: Path) -> list[tuple[str, str]]:
    """Lines about the votes; none before the first."""
    results = [one for one in read_results([pairs], lambda file: ("a", "b")) if one.cast.lines]
    if not results:
        return []
    counted = results[0].tally
    lines = [
        (name, text) for name, text in describe(counted, ("a", "b")) if name in ("pairs", "raters", *counted.raters)
    ]
    if counted.agreement is not None:
        lines.append(("noise", f"the votes agree with the hidden reward {share(counted.agreement)}; ties count half"))
    return lines


def _facts(settings: FeedbackSettings) -> list[tuple[str, str]]:
    law = f"simulated: noise {settings.noise:g}, {settings.ties:.0%} ties" if settings.simulated else "people"
    return [
        ("policy", " ".join(settings.overrides)),
        ("reward model", " ".join(settings.reward_model)),
        ("pairs a round", str(settings.pairs)),
        ("votes", law),
    ]
