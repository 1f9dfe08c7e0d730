"""Scene b: gradient ascent on the toy, by the stages of a training run, up to the optimum in closed form."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from rlhf_cli.algorithms import Algorithm
from rlhf_cli.algorithms.reinforce import Reinforce
from rlhf_cli.algorithms.rloo import Rloo
from rlhf_cli.charts.pictures import Bars, BarSeries, Chart, Picture, Series
from rlhf_cli.demo.ascent import SAMPLES, Ascent, ascend, curve
from rlhf_cli.demo.scene import Scene, percent
from rlhf_cli.demo.soup import BETA, NAMES, QUERY, RESPONSES, toy

ALGORITHMS: Final[Mapping[str, Algorithm]] = {
    "no baseline": Reinforce(kind="reinforce", baseline="none"),
    "batch mean": Reinforce(kind="reinforce", baseline="mean"),
    "mean of the others (RLOO)": Rloo(kind="rloo"),
}
CHOSEN: Final = "mean of the others (RLOO)"
FRAMES: Final = 50

Runs = Mapping[str, Sequence[Ascent]]


def scene(fast: bool) -> Scene:
    """Gradient ascent with and without the reference, with and without a baseline."""
    steps, seeds = (60, 1) if fast else (150, 3)
    free = {name: [ascend(ALGORITHMS[name], 0.0, steps, 0)] for name in ("no baseline", CHOSEN)}
    held = {name: [ascend(each, BETA, steps, seed) for seed in range(seeds)] for name, each in ALGORITHMS.items()}
    problem = toy(BETA)
    best, optimum = problem.best(), problem.optimum().exp().flatten().tolist()
    run, unheld = held[CHOSEN][0], free[CHOSEN][0].policy[-1]
    closed = {name: sum(run.percent for run in runs) / len(runs) for name, runs in held.items()}
    return Scene(
        "7. The toy example",
        (
            f"One query, “{QUERY}”, and six responses with a score each: maximise the objective by gradient ascent, "
            f"{SAMPLES} samples a step, with the very functions that train a language model.",
            "The scores: " + ", ".join(f"“{response.text}” {response.score:g}" for response in RESPONSES) + ".",
            f"Without the reference the policy runs after the highest score, “{NAMES[-1]}” With β = {BETA:g} it is "
            "pulled back, and the best policy there is can be written down: π*.",
        ),
        "θ ← θ + α ∇J(θ)\nJ(θ) = E[r] - β KL( π_θ ‖ π_ref )\nπ*(y) = π_ref(y) exp( r(y) / β ) / Z,   J* = β log Z",
        "rlhf_cli/demo/climb.py, through rlhf_cli/algorithms/rloo.py",
        (
            _without_reference(free, steps),
            _with_reference(held, best, steps),
            Bars(
                "How often each response is given",
                "probability",
                NAMES,
                [
                    BarSeries("reference", run.policy[0]),
                    BarSeries("policy, β = 0", unheld),
                    BarSeries(f"policy, β = {BETA:g}", run.policy[-1]),
                    BarSeries(f"optimum π*, β = {BETA:g}", optimum),
                ],
            ),
        ),
        (
            f"Of the way from the reference's J to J* = {best:.4f}, {steps} steps went: "
            + ", ".join(f"{name} {value:.1f} %" for name, value in closed.items())
            + ". Batch mean and RLOO coincide: for one query they differ by a constant factor, which Adam cancels.",
            f"“{NAMES[-1]}” has the highest score. The reference says it {percent(run.policy[0][-1])} of the time, the "
            f"policy {percent(unheld[-1])} with β = 0 and {percent(run.policy[-1][-1])} with β = {BETA:g}; π* "
            f"would {percent(optimum[-1])}.",
        ),
        _frames(held, best, optimum, steps),
    )


def _without_reference(runs: Runs, steps: int) -> Chart:
    curves = [curve(name, of_name) for name, of_name in runs.items()]
    top = Series("the highest score", [0, steps], [1.0, 1.0], style="dashed")
    return Chart("Without the reference (β = 0): the expected reward", "step", "E[r]", [*curves, top])


def _with_reference(runs: Runs, best: float, steps: int, until: int | None = None) -> Chart:
    lines = {name: curve(name, of_name, until) for name, of_name in runs.items()}
    lines[CHOSEN] = replace(lines[CHOSEN], style="dashed")  # it coincides with the batch mean
    top = Series("J*", [0, steps], [best, best], style="dashed")
    return Chart(f"With the reference (β = {BETA:g}): the objective", "step", "J", [*lines.values(), top])


def _frames(runs: Runs, best: float, optimum: Sequence[float], steps: int) -> tuple[tuple[Picture, ...], ...]:
    policy = runs[CHOSEN][0].policy
    return tuple(
        (
            _with_reference(runs, best, steps, step),
            Bars("Policy and optimum", "", NAMES, [BarSeries("policy", policy[step]), BarSeries("π*", optimum)]),
        )
        for step in (round(frame * steps / FRAMES) for frame in range(FRAMES + 1))
    )
