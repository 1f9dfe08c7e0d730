"""Print the optimum before any training, beside best of n; and a run's policy at other betas."""

import math
from collections.abc import Sequence

from rich.console import RenderableType
from rich.table import Table

from rlhf_cli.display.console import ResultConsole
from rlhf_cli.display.figures import titled
from rlhf_cli.display.pictures import print_picture
from rlhf_cli.evaluation.dial import DialPoint
from rlhf_cli.evaluation.evaluation import Evaluation
from rlhf_cli.evaluation.intervals import with_error
from rlhf_cli.evaluation.oracle import Oracle
from rlhf_cli.plural import plural
from rlhf_cli.report.frontier import frontier


def show_oracle(oracle: Oracle) -> None:
    """Print the table of betas, the frontier and the table of best of n, on stdout."""
    console = ResultConsole()
    table = titled(
        f"The optimum, from {plural(oracle.prompts, 'prompt')} x {plural(oracle.samples, 'completion')} of the "
        f"reference at T = {oracle.temperature:g}",
        "±: 95 %, over other completions of these prompts. Reward and KL are the optimum's.\n"
        "J* is low in expectation, and modes that no sample shows are invisible.",
    )
    for name in ("beta", "J_ref", "J*", "reward", "KL, nats", "effective\nsamples", "trust"):
        table.add_column(name, justify="right")
    for point in oracle.points:
        figures = [f"{v:z.3f}" for v in (point.reference, point.optimum, point.reward, point.kl)]
        figures[1] += f" ± {1.96 * point.optimum_se:.3f}"
        effective = f"{point.effective:.1f} (min {point.least_effective:.1f})"
        own = "bold" if math.isclose(point.beta, oracle.beta) else ""
        table.add_row(f"{point.beta:.4g}", *figures, effective, "no" if point.reason else "yes", style=own)
    console.print(table)
    for reason in dict.fromkeys(point.reason for point in oracle.points if point.reason):
        betas = ", ".join(f"{point.beta:.4g}" for point in oracle.points if point.reason == reason)
        console.print(f"beta {betas}: {reason}")
    console.print()
    print_picture(frontier(oracle), console)
    console.print(_best_of(oracle))


def show_dial(points: Sequence[DialPoint], evaluation: Evaluation) -> None:
    """Print the table of a run's policy at other betas, on stdout."""
    console = ResultConsole()
    prompts, samples = len(evaluation.prompts), len(evaluation.reward[0])
    of_both = f"2 x {samples} completions of policy and reference"
    both = of_both if evaluation.reference else plural(samples, "completion")
    table = titled(
        f"The policy of step {evaluation.step} at other betas, from {plural(prompts, 'prompt')} x {both}",
        "±: 95 % interval over prompts. It is what training at each beta would lead to, "
        f"as far as this policy is the optimum at its own beta, {evaluation.beta:.4g}.",
    )
    for name in ("beta", "weight", "J", "reward", "KL, nats", "effective\nsamples"):
        table.add_column(name, justify="right")
    for point in points:
        figures = [with_error(each, 3) if each else "–" for each in (point.objective, point.reward, point.kl)]
        own = "bold" if math.isclose(point.beta, evaluation.beta) else ""
        effective = "–" if point.effective is None else f"{point.effective:.0%}"
        table.add_row(f"{point.beta:.4g}", f"{point.weight:.3g}", *figures, effective, style=own)
    console.print(table)
    for point in points:
        if point.reason:
            console.print(f"beta {point.beta:.4g}: {point.reason}")
    console.print("To sample from it, token by token: rlhf generate RUN --beta B")


def _best_of(oracle: Oracle) -> RenderableType:
    table = Table(title="\nBest of n", title_justify="left")
    for name in ("n", "reward", "KL, nats", f"reward - {oracle.beta:g}·KL"):
        table.add_column(name, justify="right")
    for best in oracle.best_of:
        values = (best.reward, best.kl, best.reward - oracle.beta * best.kl)
        table.add_row(str(best.n), *(f"{value:z.3f}" for value in values))
    return table
