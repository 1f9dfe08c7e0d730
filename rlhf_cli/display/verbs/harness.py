"""The table of `rlhf eval --harness`: each metric of each task of lm-eval, of the policy and of the reference."""

from collections.abc import Sequence
from typing import Final

from rlhf_cli.display.console import ResultConsole
from rlhf_cli.display.figures import titled
from rlhf_cli.display.words import flat
from rlhf_cli.evaluation.harness import Level, Score

BETTER: Final = {True: " ↑", False: " ↓", None: ""}
"""Beside a metric: whether more of it is better."""
UNFILTERED: Final = "none"


def show_scores(scores: Sequence[Score]) -> None:
    """Print the table on stdout."""
    console = ResultConsole()
    table = titled(None, "±: lm-eval's standard error; that of the difference is paired by document")
    table.add_column("task", overflow="fold")
    table.add_column("docs", justify="right")
    table.add_column("metric", overflow="fold")
    for name in ("policy", "reference", "difference"):
        table.add_column(name, justify="right", no_wrap=True)
    for score in scores:
        metric = score.metric if score.filter == UNFILTERED else f"{score.metric}, {score.filter}"
        levels = _level(score.policy), _level(score.reference), _level(score.difference, "+")
        table.add_row(flat(score.task), str(score.documents), flat(metric) + BETTER[score.higher_is_better], *levels)
    console.print(table)


def _level(level: Level, sign: str = "") -> str:
    error = "" if level.stderr is None else f" ± {level.stderr:.3f}"
    return f"{level.value:{sign}.3f}{error}"
