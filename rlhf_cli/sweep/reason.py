"""Explain in sentences why a point of a sweep is recommended."""

from __future__ import annotations

from collections.abc import Sequence

from rlhf_cli.evaluation.intervals import with_error
from rlhf_cli.sweep.choice import Choice
from rlhf_cli.sweep.points import Point


def explain_choice(choices: Sequence[Choice], points: Sequence[Point], is_beta_swept: bool) -> tuple[str, ...]:
    """Sentences about the first choice; the others are those at half and at twice its beta, where that is not 0.

    `is_beta_swept` says whether the points were trained with betas of their own.
    """
    choice, *others = choices
    sentences = [_yardstick(choice.beta, is_beta_swept), _compare(choice, points)]
    if choice.runner_up is not None:
        sentences.append(
            "Each difference is averaged over the seeds that both points have, and its interval is over prompts."
            if any(point.over == "seeds" for point in points)
            else "Each point is one run, and the interval is over prompts: what another seed would change is not in it "
            "(seeds=3 shows it)."
        )
    change = points[choice.chosen].change
    if change is not None:
        sentences.append(
            f"Over the reference it gains {with_error(change, 3, '+')} in J."
            if change.low > 0
            else f"That it gains anything over the reference is not clear: {with_error(change, 3, '+')} in J."
        )
    if others and choice.runner_up is not None:
        sentences.append(_at_other_betas(choice, others, points))
    return tuple(sentences)


def _yardstick(beta: float, is_beta_swept: bool) -> str:
    measure = f"J = reward - {beta:g}·KL"
    if is_beta_swept:
        return f"All points are compared at one beta, the lower median of theirs: {measure}."
    return f"The points are compared by {measure}, the beta they were trained with."


def _compare(choice: Choice, points: Sequence[Point]) -> str:
    highest = f"{points[choice.best].objective.mean:+.3f}"
    if choice.runner_up is None:
        return f"It is the only point with a finished trial; its J is {highest}."
    if not choice.alike:
        lower = f"{points[choice.runner_up].title}, is {_lower(choice, choice.runner_up)}"
        difference, clear = choice.differences[choice.runner_up], ""
        if difference is not None:
            clear = ": a clear difference" if difference.low > 0 else ": more than one standard error, not a clear one"
        return f"Its J is the highest, {highest}; the next, {lower}{clear}."
    kl = points[choice.chosen].kl.mean
    simplest = f"the lowest KL, {kl:.2f} nats: the simplest policy that is about as good."
    if choice.chosen != choice.best:
        return (
            f"The highest J, {highest}, is of {points[choice.best].title}; "
            f"this one is {_lower(choice, choice.chosen)}. "
            f"Of the {len(choice.alike) + 1} points within one standard error of the best it has {simplest}"
        )
    alike = choice.alike[0]
    others = f"; so are {len(choice.alike) - 1} more" if len(choice.alike) > 1 else ""
    return (
        f"Its J is the highest, {highest}; {points[alike].title} is {_lower(choice, alike)}, within one standard error"
        f"{others}. "
        f"Of these points it has {simplest}"
    )


def _lower(choice: Choice, place: int) -> str:
    """How much lower the J of the point at `place` is than the best point's."""
    difference = choice.differences[place]
    if difference is None:
        return "lower by what nobody can tell (no seed and prompts in common)"
    mean, low, high = (f"{round(v, 3) + 0.0:.3f}" for v in (difference.mean, difference.low, difference.high))
    return f"lower by {mean} (95 %: {low} to {high})"


def _at_other_betas(choice: Choice, others: Sequence[Choice], points: Sequence[Point]) -> str:
    half, twice = others
    at_half, at_twice = f"{half.beta:g}", f"{twice.beta:g}"
    if half.chosen == twice.chosen == choice.chosen:
        return f"The choice would be the same at half this beta ({at_half}) and at twice it ({at_twice})."
    first, second = ("the same" if one.chosen == choice.chosen else points[one.chosen].title for one in others)
    return f"At half this beta ({at_half}) the choice would be {first}, at twice it ({at_twice}) {second}."
