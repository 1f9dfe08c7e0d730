"""Explain in sentences why a point of a sweep is recommended, or why none is and what would change that."""

from collections.abc import Sequence
from statistics import median_low

from rlhf_cli.evaluation.intervals import with_error
from rlhf_cli.sweep.choice import Choice
from rlhf_cli.sweep.points import Point
from rlhf_cli.sweep.power import POWER, Needed


def explain_choice(
    choice: Choice, others: Sequence[Choice | None], points: Sequence[Point], yardstick: str
) -> tuple[str, ...]:
    """Sentences about the choice; the others are those at half and at twice its beta, where that is not 0.

    None among the others is a beta at which nothing gains. `yardstick` is the first sentence.
    """
    sentences = [yardstick]
    considered = sum(difference is not None for difference in choice.differences) + 1
    if considered < len(points):
        sentences.append(
            f"Considered: the {considered} of {len(points)} points that clearly gain over the untouched policy."
            if considered > 1
            else f"It is the only one of {len(points)} points that clearly gains over the untouched policy."
        )
    if choice.runner_up is not None or len(points) == 1:
        sentences.append(_compare(choice, points))
    if choice.runner_up is not None:
        sentences.append(
            f"The highest of {considered} estimates was chosen for being high: if all were equal, it would be too high "
            f"by about {choice.optimism:.3f}."
        )
    change = points[choice.chosen].change
    if change is None:
        sentences.append("The untouched policy was not evaluated: whether any point gains over it is not known.")
    else:
        family = f", clear among {len(points)} points (Holm's rule)" if len(points) > 1 else ""
        sentences.append(f"Over the untouched policy it gains {with_error(change, 3, '+')} in J{family}.")
    sentences.append(_over(points))
    if others and len(points) > 1:
        sentences.append(_at_other_betas(choice, others, points))
    return tuple(sentences)


def explain_yardstick(beta: float, trained: Sequence[float]) -> str:
    """The sentence on the beta at which the points are compared; `trained` are theirs, each once, in order."""
    measure = f"J = reward - {beta:g}·KL"
    if list(trained) == [beta]:
        return f"The points are compared by {measure}, the beta they were trained with."
    if beta == median_low(trained):
        return f"All points are compared at one beta, the lower median of theirs: {measure}."
    return f"All points are compared at one beta, as the first plan or --compare-at fixed it: {measure}."


def explain_no_gain(needed: Needed, best: Point, yardstick: str, shape: tuple[int, int, int]) -> tuple[str, ...]:
    """Sentences about a sweep without a clear gain; `shape` is its prompts, seeds and steps.

    `best` is the point with the largest change from the untouched policy.
    """
    change = f"{with_error(best.change, 3, '+')} in J" if best.change else ""
    alone = best.change and best.change.low > 0
    clear = ": clear by itself, but not among so many points (Holm's rule)" if alone else ""
    return (
        yardstick,
        "Nothing is distinguishable from the untouched policy, so nothing is recommended. The largest change is "
        f"{change}, of {best.title}{clear}.",
        f"As it was, this sweep would have shown a gain of {needed.least_gain:.3f} or more "
        f"({100 * POWER:.0f} % of the time).",
        *_settle(needed, *shape),
        _over([best]),
    )


def _settle(needed: Needed, prompts: int, seeds: int, steps: int) -> list[str]:
    """Sentences about the prompts, seeds or steps that would show the gain."""
    ways = []
    if needed.prompts is not None:
        ways.append(f"about {_round_up(needed.prompts)} held-out prompts (evaluate.prompts; now {prompts})")
    if needed.seeds is not None:
        ways.append(f"{_round_up(needed.seeds)} seeds (now {seeds})")
    if needed.steps is not None:
        ways.append(f"about {_round_up(needed.steps)} steps (now {steps}), if it grew in proportion")
    if not ways:
        what = "No gain was seen that more prompts or seeds could confirm"
        return [f"{what}: more steps or another learning rate come first."]
    sentences = [f"A gain as large as the best one seen, {needed.gain:+.3f}, would be shown by {', or '.join(ways)}."]
    if needed.prompts is None:
        sentences.append("Prompts alone would not: the seeds differ too much.")
    if seeds == 1:
        sentences.append("How many seeds it takes, one seed cannot say: seeds=3 shows how much they differ.")
    elif needed.seeds is None:
        sentences.append("Seeds alone would not: the prompts are too few.")
    return sentences


def _round_up(count: int) -> int:
    """Two digits are enough for an estimate."""
    unit = int(10 ** max(len(str(count)) - 2, 0))
    return -(-count // unit) * unit


def _over(points: Sequence[Point]) -> str:
    """The sentence that names what the intervals of differences cover, and what they leave out."""
    if any(point.over == "seeds" for point in points):
        return "Intervals of differences are over the seeds and the prompts that both points have."
    return (
        "Each point is one run, and the intervals are over prompts: they are about these runs. Whether another seed "
        "would change them, one seed cannot say (seeds=3)."
    )


def _compare(choice: Choice, points: Sequence[Point]) -> str:
    highest = f"{points[choice.best].objective.mean:+.3f}"
    if choice.runner_up is None:
        return f"It is the only point with a finished trial; its J is {highest}."
    if not choice.alike:
        lower = f"{points[choice.runner_up].title}, is {_lower(choice, choice.runner_up)}"
        difference, clear = choice.differences[choice.runner_up], ""
        if difference is not None:
            runs = " between these two runs" if difference.squares.seeds == 1 else ""
            is_clear = difference.interval.low > 0
            clear = f": a clear difference{runs}" if is_clear else ": more than one standard error, not clear"
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
    others = f" ({len(choice.alike) - 1} more too)" if len(choice.alike) > 1 else ""
    return (
        f"Its J is the highest, {highest}; {points[alike].title} is {_lower(choice, alike)}, within one standard error"
        f"{others}. Of these points it has {simplest}"
    )


def _lower(choice: Choice, place: int) -> str:
    """Say how much lower the J of the point at `place` is than the best point's."""
    difference = choice.differences[place]
    if difference is None:
        return "lower by what nobody can tell (no seed and prompts in common)"
    ends = difference.interval
    mean, low, high = (f"{v:z.3f}" for v in (ends.mean, ends.low, ends.high))
    return f"lower by {mean} (95 %: {low} to {high})"


def _at_other_betas(choice: Choice, others: Sequence[Choice | None], points: Sequence[Point]) -> str:
    at_half, at_twice = f"{choice.beta / 2:g}", f"{choice.beta * 2:g}"
    if all(one is not None and one.chosen == choice.chosen for one in others):
        return f"The choice would be the same at half this beta ({at_half}) and at twice it ({at_twice})."
    first, second = (
        "nothing" if one is None else "the same" if one.chosen == choice.chosen else points[one.chosen].title
        for one in others
    )
    return f"At half this beta ({at_half}) the choice would be {first}, at twice it ({at_twice}) {second}."
