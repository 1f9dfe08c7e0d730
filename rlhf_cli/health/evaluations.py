"""The rules that read held-out evaluations. Each is a function of the course of a run; without evaluations, silent."""

from statistics import fmean
from typing import Final

from rlhf_cli.evaluation.evaluation import Evaluation, pair
from rlhf_cli.evaluation.intervals import estimate
from rlhf_cli.health.course import START, WINDOW, Concern, Course
from rlhf_cli.health.overrides import more_beta

LENGTH_RATIO: Final = 1.5
"""Change of the mean length, up or down."""
LENGTH_PAYS: Final = 0.7
"""Correlation of reward and length among the completions of a prompt."""
REPEATED: Final = 0.5
"""Share of a text that repeats what it said before. English prose has about 0.1."""
REPEATED_MORE: Final = 0.25
"""Rise of that share since the first evaluation."""
LETTERS: Final = 200
"""Characters of a text that are read: a longer text repeats more by itself."""
GRAM: Final = 4
RISE_Z: Final = 3.0
"""Standard errors of the training reward's gain."""
LEVEL: Final = 0.999
"""Level of the interval of the held-out reward's change, which is looked at after every evaluation."""


def length_hacking(course: Course) -> Concern | None:
    """The reward pays for length itself: completions change their length by half, and length decides the score."""
    first, last = course.first, course.last
    if first is None or last is None:
        return None
    before, after = (fmean(map(fmean, one.length)) for one in (first, last))
    ratio, pays = after / max(before, 1e-9), length_pays(last)
    if pays is None or not (
        (ratio >= LENGTH_RATIO and pays >= LENGTH_PAYS) or (ratio <= 1 / LENGTH_RATIO and pays <= -LENGTH_PAYS)
    ):
        return None
    evidence = f"length {before:.3g} -> {after:.3g} tokens in the evaluation of step {last.step}, and its correlation "
    evidence += f"with the reward of a prompt's completions is {pays:+.2f}"
    return Concern(evidence, "reward.length_penalty=0.01" if ratio > 1 else "a reward that short texts cannot win")


def repetition(course: Course) -> Concern | None:
    """Completions repeat themselves, and did not before."""
    if course.first is None or course.last is None:
        return None
    before, after = repeated_share(course.first), repeated_share(course.last)
    if after < REPEATED or after - before < REPEATED_MORE:
        return None
    evidence = (
        f"{after:.0%} of a text repeats itself in the evaluation of step {course.last.step}; {before:.0%} at first"
    )
    return Concern(evidence, more_beta(course))


def reward_parting(course: Course) -> Concern | None:
    """The reward rises on the prompts of training, and falls on those held out."""
    last, training = course.last, course.change("reward/mean")
    if last is None or training is None or not course.is_long or training.z < RISE_Z:
        return None
    for before in (course.first, course.best):
        if before is None:
            continue
        change = reward_change(before, last)
        if change is not None and change[1] < 0:
            evidence = f"held-out reward {change[0]:+.3g} from step {before.step} to {last.step}, while that of "
            evidence += f"training went from {training.before:.3g} (first {START} steps) to {training.after:.3g} "
            evidence += f"(last {WINDOW})"
            return Concern(evidence, "more prompts in data, or fewer steps (checkpoints/best)")
    return None


def length_pays(evaluation: Evaluation) -> float | None:
    """The correlation of reward and length, each as a difference from its prompt's mean; None where one is constant."""
    rewards, lengths = (
        [value - fmean(group) for group in groups for value in group]
        for groups in (evaluation.reward, evaluation.length)
    )
    spread = sum(r * r for r in rewards) * sum(n * n for n in lengths)
    return sum(r * n for r, n in zip(rewards, lengths, strict=True)) / spread**0.5 if spread > 0 else None


def repeated_share(evaluation: Evaluation) -> float:
    """The mean share of a text's sequences of four characters that occur in it before."""
    return fmean(repeats(text) for group in evaluation.texts for text in group)


def repeats(text: str) -> float:
    """The share of sequences of GRAM characters that occur before in the text's first LETTERS characters."""
    text = text[:LETTERS]
    grams = [text[start : start + GRAM] for start in range(len(text) - GRAM + 1)]
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def reward_change(before: Evaluation, after: Evaluation) -> tuple[float, float] | None:
    """The paired change of the held-out reward, and the upper end of its interval; None without two common prompts."""
    before, after = pair(before, after)
    if len(before.prompts) < 2:
        return None
    gains = [fmean(new) - fmean(old) for old, new in zip(before.reward, after.reward, strict=True)]
    change = estimate(gains, LEVEL)
    return change.mean, change.high
