"""The page of several runs: last evaluations, paired differences, curves on top of each other, settings that differ."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rlhf_cli.evaluation.evaluation import Comparison, Evaluation
from rlhf_cli.evaluation.intervals import with_error
from rlhf_cli.report.curves import overlay
from rlhf_cli.report.page import render
from rlhf_cli.report.run_page import count_prompts, mapping_in, subject
from rlhf_cli.report.series import Rows, steps_per_point
from rlhf_cli.report.table import Table, changes_table
from rlhf_cli.report.texts import cut
from rlhf_cli.runs.forking import ASIDE, fork_point, newest_in_both
from rlhf_cli.runs.reading import SavedRun, compare_if_paired
from rlhf_cli.settings import as_text, flatten

GROUND: Final = ("processor", "dtype", "threads", "engine", "packages")
"""Keys of run.json that may make two runs differ."""


@dataclass(frozen=True, slots=True)
class Compared:
    """Two runs on the same held-out prompts."""

    comparison: Comparison
    step: int
    """The step of the second run's evaluation; of two forks, or a fork and its parent, both are of this step."""
    beta: float
    fork_point: int | None
    """The step up to which the runs are the same; None where neither is a fork of the other, nor both of one run."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A run against the first run: the table of changes, or why there is none."""

    name: str
    changes: Table | None
    why_not: str | None
    forked: str | None = None
    """The steps and random numbers that a fork shares with the first run, in words."""


def html(runs: Sequence[SavedRun]) -> str:
    """The whole page. The first run is the base: every other run is compared with it."""
    names, subjects = short_names(runs), [subject(run) for run in runs]
    return render(
        "comparison.html.j2",
        title=f"{len(runs)} runs beside one another",
        levels=_levels(runs, names),
        subjects=[("each", subjects[0])] if len(set(subjects)) == 1 else zip(names, subjects, strict=True),
        base=names[0],
        differences=[_difference(runs[0], run, names[0], name) for name, run in zip(names[1:], runs[1:], strict=True)],
        curves=overlay([(name, own_steps(i, runs), count_prompts(runs[i])) for i, name in enumerate(names)]),
        steps_a_point=steps_per_point(max(len(run.metrics) for run in runs)),
        settings=differing_settings(runs, names),
    )


def own_steps(number: int, runs: Sequence[SavedRun]) -> Rows:
    """The metrics of a run from the last step on that it shares with a run before it, whose curve it would cover."""
    run = runs[number]
    points = (fork_point(other.status.folder, run.status.folder) for other in runs[:number])
    shared = max((point for point in points if point is not None), default=0)
    return [row for row in run.metrics if row["step"] >= shared]


def short_names(runs: Sequence[SavedRun]) -> list[str]:
    """The last part of each run's folder, or as many parts as tell it from the others."""
    parts = [run.status.folder.parts for run in runs]
    names = ["" for _ in runs]
    for length in range(1, max(map(len, parts)) + 1):
        shorter = ["/".join(folder[-length:]) for folder in parts]
        count = Counter(shorter)
        names = [name or (short if count[short] == 1 else "") for name, short in zip(names, shorter, strict=True)]
    return [name or str(run.status.folder) for name, run in zip(names, runs, strict=True)]


def why_not_paired(before: SavedRun, after: SavedRun) -> str | None:
    """Say why two last evaluations cannot be compared by prompt; None where they can."""
    if before.last is None or after.last is None:
        return "one of them was not evaluated after its start"
    prompts = [mapping_in(run.record, "data").get("sha256") for run in (before, after)]
    if prompts[0] is None or prompts[0] != prompts[1]:
        return "their prompts differ"
    rewards = [(run.config.get("reward"), mapping_in(run.record, "reward").get("sha256")) for run in (before, after)]
    return "their rewards differ" if rewards[0] != rewards[1] else None


def _levels(runs: Sequence[SavedRun], names: Sequence[str]) -> Table:
    rows = [
        [name, run.status.state, "–" if run.status.step is None else str(run.status.step), *_last_levels(run.last)]
        for name, run in zip(names, runs, strict=True)
    ]
    return Table(["", "state", "step", "J", "reward", "KL, nats", "length", "β", "evaluated"], rows)


def _last_levels(last: Evaluation | None) -> list[str]:
    if last is None:
        return ["–"] * 6
    alone = compare_if_paired(last, last)
    digits = {"objective": 3, "reward": 3, "kl": 3, "length": 1}
    levels = [with_error(alone.after[key], count) if alone else "–" for key, count in digits.items()]
    return [*levels, f"{last.beta:.3g}", f"step {last.step}"]


def compare_runs(base: SavedRun, run: SavedRun) -> Compared | str:
    """Compare last evaluations by prompt, or the newest of the same step where one is a fork; or say why not."""
    if (why := why_not_paired(base, run)) is not None:
        return why
    point = fork_point(base.status.folder, run.status.folder)
    before, after = base.last, run.last
    if point is not None:
        both = newest_in_both(base.status.folder, run.status.folder, point)
        if both is None:
            return f"they share the steps up to {point}, and no later step was evaluated in both"
        before, after = both
    comparison = compare_if_paired(before, after)
    if comparison is None or after is None:
        return "too few prompts have scores in both"
    return Compared(comparison, after.step, after.beta, point)


def _difference(base: SavedRun, run: SavedRun, base_name: str, name: str) -> Difference:
    compared = compare_runs(base, run)
    if isinstance(compared, str):
        return Difference(name, None, compared)
    table = changes_table(compared.comparison, compared.beta, (base_name, name, "difference"))
    if compared.fork_point is None:
        return Difference(name, table, None)
    forked = (
        f"{base_name} and {name} are the same up to step {compared.fork_point} and share all random numbers after it: "
        f"the difference is the effect of the settings. Both were evaluated after step {compared.step}. "
        "The interval is over prompts, for these random numbers: another seed may give another effect."
    )
    return Difference(name, table, None, forked)


def differing_settings(runs: Sequence[SavedRun], names: Sequence[str]) -> Table:
    """The settings that are not the same in all runs, and what the runs ran on."""
    grounds = [{"ran on": {key: run.record[key] for key in GROUND if key in run.record}} for run in runs]
    settings = [
        {key: as_text(value) for key, value in flatten({**run.config, **ground})}
        for run, ground in zip(runs, grounds, strict=True)
    ]
    keys = [key for key in dict.fromkeys(key for each in settings for key in each) if key.split(".")[0] not in ASIDE]
    differing = [key for key in keys if len({each.get(key) for each in settings}) > 1]
    rows = [[key, *(cut(each.get(key, "–")) for each in settings)] for key in differing]
    return Table(["", *names], rows, words=range(1, len(runs) + 1))
