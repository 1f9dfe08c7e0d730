"""Why a point of a sweep is recommended, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

from rlhf_cli.evaluation.intervals import Estimate, with_error
from rlhf_cli.sweep.choice import Choice


def reasons(
    choices: Sequence[Choice],
    names: Sequence[str],
    kls: Sequence[float],
    changes: Sequence[Estimate | None],
    highest: float,
    swept: bool,
    several_seeds: bool,
) -> tuple[str, ...]:
    """Of a choice, and what it would be at half and at twice its beta, where that is not 0.

    `names`, mean `kls` in nats and `changes` of J from the reference have one value a point; `highest` is the best J,
    `swept` whether the points have betas of their own, `several_seeds` whether any has several seeds.
    """
    choice, *others = choices
    found = [_yardstick(choice.beta, swept), _compared(choice, names, kls, highest)]
    if choice.runner_up is not None:
        found.append(
            "Each difference is averaged over the seeds that both points have, and its interval is over prompts."
            if several_seeds
            else "Each point is one run, and the interval is over prompts: what another seed would change is not in it "
            "(seeds=3 shows it)."
        )
    change = changes[choice.chosen]
    if change is not None:
        found.append(
            f"Over the reference it gains {with_error(change, 3, '+')} in J."
            if change.low > 0
            else f"That it gains anything over the reference is not clear: {with_error(change, 3, '+')} in J."
        )
    if others and choice.runner_up is not None:
        found.append(_moved(choice, others, names))
    return tuple(found)


def _yardstick(beta: float, swept: bool) -> str:
    measure = f"J = reward - {beta:g}·KL"
    if swept:
        return f"All points are compared at one beta, the lower median of theirs: {measure}."
    return f"The points are compared by {measure}, the beta they were trained with."


def _compared(choice: Choice, names: Sequence[str], kls: Sequence[float], highest: float) -> str:
    if choice.runner_up is None:
        return f"It is the only point with a finished trial; its J is {highest:+.3f}."
    if not choice.alike:
        lower = f"{names[choice.runner_up]}, is {_lower(choice, choice.runner_up)}"
        difference, said = choice.differences[choice.runner_up], ""
        if difference is not None:
            said = ": a clear difference" if difference.low > 0 else ": more than one standard error, not a clear one"
        return f"Its J is the highest, {highest:+.3f}; the next, {lower}{said}."
    simplest = f"the lowest KL, {kls[choice.chosen]:.2f} nats: the simplest policy that is about as good."
    if choice.chosen != choice.best:
        return (
            f"The highest J, {highest:+.3f}, is of {names[choice.best]}; this one is {_lower(choice, choice.chosen)}. "
            f"Of the {len(choice.alike) + 1} points within one standard error of the best it has {simplest}"
        )
    alike = choice.alike[0]
    others = f"; so are {len(choice.alike) - 1} more" if len(choice.alike) > 1 else ""
    return (
        f"Its J is the highest, {highest:+.3f}; {names[alike]} is {_lower(choice, alike)}, within one standard error"
        f"{others}. "
        f"Of these points it has {simplest}"
    )


def _lower(choice: Choice, place: int) -> str:
    """How much lower its J is than the best one's."""
    difference = choice.differences[place]
    if difference is None:
        return "lower by what nobody can tell (no seed and prompts in common)"
    mean, low, high = (f"{round(v, 3) + 0.0:.3f}" for v in (difference.mean, difference.low, difference.high))
    return f"lower by {mean} (95 %: {low} to {high})"


def _moved(choice: Choice, others: Sequence[Choice], names: Sequence[str]) -> str:
    half, twice = others
    at_half, at_twice = f"{half.beta:g}", f"{twice.beta:g}"
    if half.chosen == twice.chosen == choice.chosen:
        return f"The choice would be the same at half this beta ({at_half}) and at twice it ({at_twice})."
    first, second = ("the same" if one.chosen == choice.chosen else names[one.chosen] for one in others)
    return f"At half this beta ({at_half}) the choice would be {first}, at twice it ({at_twice}) {second}."
