"""The result of a search in sentences: how many settings it tried, which were best, and why that is optimistic."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence

from rlhf_cli.evaluation.intervals import with_error
from rlhf_cli.plural import plural
from rlhf_cli.sweep.choice import Candidate, choose
from rlhf_cli.sweep.outcome import LeftOut
from rlhf_cli.sweep.points import Point
from rlhf_cli.sweep.record import SweepRecord
from rlhf_cli.sweep.search import Search


def explain_search(
    record: SweepRecord,
    points: Sequence[Point],
    candidates: Sequence[Candidate],
    beta: float,
    left_out: Sequence[LeftOut],
) -> tuple[str, ...]:
    """The sentences; `points` and `candidates` are the finished trials, in the same order."""
    search = Search.model_validate(record.search)
    states = Counter(one.state for one in left_out)
    others = [f"{states['pruned']} pruned"] if states["pruned"] else []
    others += [f"{rest} without a result"] if (rest := len(left_out) - states["pruned"]) else []
    tried = f"The search tried {plural(len(record.trials), 'setting')}: {len(points)} to the end"
    sentences = [", ".join([tried, *others]) + "."]
    if search.objective == "both":
        front = [point for point in points if point.pareto]
        sentences += [f"On the Pareto front: {_describe(point)}." for point in sorted(front, key=lambda p: p.kl.mean)]
        sentences.append("Each was chosen for being extreme among many, so its reward is too high and its KL too low.")
        return tuple(sentences)
    allowed = [
        place for place, point in enumerate(points) if search.kl_budget is None or point.kl.mean <= search.kl_budget
    ]
    if not allowed:
        return (*sentences, f"No trial has a held-out KL within the budget of {search.kl_budget:g} nats.")
    at = 0.0 if search.objective == "reward" else beta
    choice = choose(candidates, at, allowed)
    best = points[choice.best]
    measure, value = ("reward", best.reward) if search.objective == "reward" else ("J", best.objective)
    within = f" at a KL of at most {search.kl_budget:g} nats" if search.kl_budget is not None else ""
    sentences.append(f"The highest held-out {measure}{within} is {with_error(value, 3, '+')}: {_describe(best)}.")
    if choice.runner_up is not None:
        sentences.append(
            f"The best of {len(allowed)} is optimistic: it was chosen for being high, and if all were equal, it would "
            f"be too high by about {choice.optimism:.3f}. Repeat it with seeds that the search has not seen: "
            f"{repeat_command(record, dict(best.told), next(iter(candidates[choice.best])))}"
        )
    return tuple(sentences)


def repeat_command(record: SweepRecord, told: Mapping[str, str], seed: int) -> str:
    """The command that runs these settings with three other seeds; `seed` is that of the search."""
    ours = ("hydra/sweeper=", "hydra.sweeper.", "sweep_dir=", "seed=", "jobs=")
    typed = [word for word in shlex.split(record.command) if not word.startswith(ours) and word != "-m"]
    kept = [word for word in typed if word.partition("=")[0].lstrip("+") not in told]
    return shlex.join([*kept, *(f"{key}={value}" for key, value in told.items()), "-m", f"seed={seed + 1}", "seeds=3"])


def _describe(point: Point) -> str:
    return f"{point.title}, reward {with_error(point.reward, 3, '+')}, KL {with_error(point.kl, 3)}"
