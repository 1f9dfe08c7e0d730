"""The charts of a run: one a metric, training and held-out together; several runs on top of each other; the time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from rlhf_cli.charts.frame import COLOURS
from rlhf_cli.charts.pictures import Bars, BarSeries, Chart, Picture, Series
from rlhf_cli.report.series import Rows, column, curve, has_points, points

SMALL: Final = 0.01
"""A phase with a smaller share of the time has no curve."""


@dataclass(frozen=True, slots=True)
class Plot:
    """The keys of one chart: a metric, its standard error, and the same of held-out evaluations."""

    title: str
    y_label: str
    key: str
    error: str = ""
    held_out: str = ""
    held_out_error: str = ""


PLOTS: Final = (
    Plot("Objective J", "reward − β·KL", "objective", "objective_se", "eval/objective", "eval/objective_se"),
    Plot("Reward", "mean of a completion", "reward/mean", "reward/mean_se", "eval/reward/mean", "eval/reward/se"),
    Plot("KL to the reference, exact", "nats a completion", "kl/seq", "kl/seq_se", "eval/kl/seq", "eval/kl/seq_se"),
    Plot("Entropy", "nats a token", "policy/entropy", "policy/entropy_se"),
    Plot("Length", "tokens", "completion/length", "", "eval/completion/length"),
    Plot("Cut at max_new_tokens", "share of completions", "completion/truncated", "", "eval/completion/truncated"),
    Plot("β", "per nat", "beta"),
    Plot("Temperature", "of the rollouts", "temperature"),
    Plot("Clipped", "share of tokens", "policy/clip_fraction"),
    Plot("Value head: variance explained", "share", "value/explained_variance"),
    Plot("Gradient norm", "before it is clipped", "grad_norm"),
    Plot("Sampler against trainer", "largest gap, nats", "sampler/gap"),
)
SUPERVISED: Final = (
    Plot("Loss", "mean", "loss", "", "heldout/loss"),
    Plot("Accuracy", "share", "accuracy", "", "heldout/accuracy"),
    Plot("Perplexity", "a token", "", "", "heldout/perplexity"),
    Plot("Margin", "chosen − rejected", "margin", "", "heldout/margin"),
    Plot("Chosen", "mean", "chosen", "", "heldout/chosen"),
    Plot("Rejected", "mean", "rejected", "", "heldout/rejected"),
    Plot("Expected calibration error", "probability", "", "", "heldout/calibration_error"),
    Plot("Correlation of score and length", "by rank", "", "", "heldout/length_correlation"),
    Plot("Gradient norm", "before it is clipped", "grad_norm"),
)
"""The charts of supervised training."""
SETTINGS: Final = ("beta", "temperature")
"""Drawn only where they change."""
COMPARED: Final = tuple(plot for plot in PLOTS if plot.held_out or plot.key == "policy/entropy")
"""Charts that compare several runs."""


def pictures(metrics: Rows, prompts: int, plots: Sequence[Plot] = PLOTS) -> list[Chart]:
    """A chart for every plot that has points; `prompts` is the number of prompts of an evaluation."""
    charts = []
    for plot in plots:
        steps = column(metrics, plot.key)
        if plot.key in SETTINGS and len(set(steps[1])) < 2:
            continue
        held_out = points("held-out", metrics, plot.held_out, plot.held_out_error, prompts)
        name = "training" if has_points(held_out) else ""  # a single curve needs no legend
        training = curve(name, metrics, plot.key, plot.error)
        if series := [each for each in (training, held_out) if has_points(each)]:
            charts.append(Chart(plot.title, "step", plot.y_label, series))
    return charts


def overlay(runs: Sequence[tuple[str, Rows, int]], plots: Sequence[Plot] | None = None) -> list[Chart]:
    """Charts of several runs, each with a name, its metrics and the number of prompts of its evaluations.

    Training and evaluations are in charts of their own, so that a run has one colour in all of them. `plots` are those
    of `rlhf train` unless given.
    """
    charts = []
    for plot in COMPARED if plots is None else plots:
        training = [curve(name, rows, plot.key) for name, rows, _ in runs]
        held_out = [points(name, rows, plot.held_out, plot.held_out_error, prompts) for name, rows, prompts in runs]
        for what, series in (("held-out", held_out), ("training", training)):
            if any(map(has_points, series)):
                placed = [_placed(place, each) for place, each in enumerate(series)]
                charts.append(Chart(f"{plot.title}, {what}", "step", plot.y_label, placed))
    return charts


def timing(timings: Rows) -> list[Picture]:
    """Charts of the time: seconds a step by phase, all seconds of each phase, and tokens a second."""
    names = [key for row in timings for key in row if key.startswith("time/") and key != "time/step_s"]
    total = {key: math.fsum(filter(math.isfinite, column(timings, key)[1])) for key in dict.fromkeys(names)}
    total = {key: seconds for key, seconds in total.items() if seconds > 0}
    if not total:
        return []
    steps = [row for row in timings if row["step"] > 0]
    everything = math.fsum(total.values())
    stretches = ("time/evaluation_s", "time/checkpoint_s")  # of some steps only, and far longer than a step
    phases = [key for key in total if key not in stretches and total[key] > SMALL * everything]
    series = [each for each in (curve(_phase(key), steps, key) for key in phases) if has_points(each)]
    largest = sorted(total, key=lambda key: -total[key])
    names, seconds = [_phase(key) for key in largest], [total[key] for key in largest]
    of_phases = [Chart("Time of a step, by phase", "step", "seconds", series)] if series else []
    speed = curve("", steps, "tokens_per_s")
    of_speed = [Chart("Speed of training", "step", "tokens a second", [speed])] if has_points(speed) else []
    bars = Bars(f"Where {_duration(everything)} went", "seconds", names, [BarSeries("", seconds)])
    return [*of_phases, bars, *of_speed]


def _placed(place: int, series: Series) -> Series:
    """A run without points keeps its place, so that the others keep their colours, but has no legend.

    Lines are dashed from the place on where the colours repeat.
    """
    label = series.label if has_points(series) else ""
    dashed = series.style == "line" and place >= COLOURS
    return replace(series, label=label, style="dashed" if dashed else series.style)


def _phase(key: str) -> str:
    return key.removeprefix("time/").removesuffix("_s")


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
