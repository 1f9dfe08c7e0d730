"""The page of a run of supervised training: its state, held-out figures, reliability, curves, and how to repeat it."""

from collections.abc import Mapping
from typing import Final

from rlhf_cli.charts.pictures import Chart, Series
from rlhf_cli.evaluation.intervals import Interval
from rlhf_cli.plural import plural
from rlhf_cli.report.curves import SUPERVISED, pictures
from rlhf_cli.report.page import render
from rlhf_cli.report.run_page import describe_model, mapping_in, model_name, shared_parts
from rlhf_cli.report.series import number, with_intervals
from rlhf_cli.report.table import Table
from rlhf_cli.runs.reading import SavedRun
from rlhf_cli.supervised.result import SupervisedResult

ABOUT: Final[Mapping[str, str]] = {
    "sft": "trained on completions",
    "dpo": "trained on preferences, by DPO",
    "bradley_terry": "a reward model from preferences",
}
"""The product of a run in words, by `objective.kind`."""
FORMS: Final = {"loss": ".3f", "accuracy": ".1%", "margin": "+.3f"}
EVEN: Final = 1e-9
"""The ends of a symmetrical interval are as far from its middle, up to rounding."""


def html(run: SavedRun) -> str:
    """The whole page."""
    result, kind = SupervisedResult.read(run.status.folder), str(mapping_in(run.config, "objective").get("kind"))
    return render(
        "supervised.html.j2",
        title=f"{run.status.folder.name}: {model_name(run.config)}, {ABOUT.get(kind, kind)}",
        standing=_standing(run, result),
        verdict=verdict(result),
        figures=Table(["", "before", "after", "change"], rows_of(result)) if result and result.after else None,
        exported=result.exported if result else None,
        reliability=reliability_chart(result) if result and result.reliability else None,
        curves=pictures(run.metrics, 0, SUPERVISED),
        **shared_parts(run),
    )


def verdict(result: SupervisedResult | None) -> str:
    """One sentence: whether the held-out loss fell."""
    if result is None:
        return "The run has not ended: its curves are below."
    if (change := result.change.get("loss")) is None:
        return "Nothing to compare: the run was not evaluated before and after."
    fell = "fell" if change.high < 0 else "rose" if change.low > 0 else "did not change measurably"
    return f"The held-out loss {fell} on {result.held_out} rows: {shown('loss', change, '+')}."


def reliability_chart(result: SupervisedResult) -> Chart:
    """The reliability diagram: the share of right scores by their certainty; on the dashed line both are equal."""
    bins = result.reliability
    pairs = with_intervals(
        "held-out pairs, with their number",
        [one.confidence for one in bins],
        [one.right for one in bins],
        style="points",
        names=[str(one.count) for one in bins],
    )
    line = Series("as often as they say", [0.5, 1.0], [0.5, 1.0], style="dashed")
    return Chart("Reliability", "predicted probability of the better text", "share that is right", [pairs, line])


def _standing(run: SavedRun, result: SupervisedResult | None) -> list[tuple[str, str]]:
    status = run.status
    skipped = sum(number(row.get("skipped")) == 1 for row in run.metrics)
    stalled = plural(result.stalled, "evaluation") if result and result.stalled else None
    early = f", ended early: no lower held-out loss in {stalled}" if stalled else ""
    return [
        ("state", status.state + (f": {status.reason}" if status.reason else "")),
        ("step", f"{'–' if status.step is None else status.step} of {status.steps or '–'}{early}"),
        ("objective", _settings(run)),
        ("model", describe_model(run.record)),
        ("steps that changed nothing", str(skipped) if skipped else ""),
        ("folder", str(status.folder)),
    ]


def _settings(run: SavedRun) -> str:
    """The objective with its numbers, and the rows of a step."""
    objective = mapping_in(run.config, "objective")
    knobs = [f"{key} {value:g}" for key, value in objective.items() if isinstance(value, float | int)]
    rows = plural(run.config.get("prompts_per_step", 0), "row")
    return ", ".join([str(objective.get("kind")), *knobs, f"{rows} a step"])


def rows_of(result: SupervisedResult) -> list[list[str]]:
    """The rows of the table, which the terminal shows too: a name, two levels and the paired change."""
    return [
        [name, shown(name, result.before.get(name)), shown(name, after), shown(name, result.change.get(name), "+")]
        for name, after in result.after.items()
    ]


def shown(name: str, figure: Interval | None, sign: str = "") -> str:
    """A figure with its interval, ± where both ends are as far; `sign="+"` shows a plus too."""
    if figure is None:
        return "–"
    width, form = FORMS[name].removeprefix("+"), sign + FORMS[name].removeprefix(sign)
    below, above = figure.mean - figure.low, figure.high - figure.mean
    if abs(below - above) < EVEN:
        return f"{figure.mean:{form}} ± {above:{width}}"
    return f"{figure.mean:{form}} [{figure.low:{form}}, {figure.high:{form}}]"
