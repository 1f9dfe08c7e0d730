"""The rules that read the lines of metrics.jsonl. Each is a function of the course of a run.

The limits were set by healthy and by broken runs (scripts/benchmark/alarms.py, docs/doctor.md), where no other source
is named. A rule that needs a metric which the run lacks is silent.
"""

from typing import Final

from rlhf_cli.functional.mismatch import WARN_BELOW
from rlhf_cli.health.course import START, WINDOW, Concern, Course, is_number
from rlhf_cli.health.overrides import change_lr, more_beta

ENTROPY_SHARE: Final = 0.1
"""Share of the entropy at the start, below which the policy says nearly the same every time."""
ENTROPY_LOW: Final = 0.02
"""Nats a token: so little entropy is a collapse from any start."""
KL_SHARE: Final = 0.5
"""KL per token over the reference's entropy per token; 1 where every token has the reference's mean surprise and no
choice is left. The embedded default ends at 0.02 to 0.04."""
LEAST_ENTROPY: Final = 0.5
"""Nats a token: a reference that is surer than this is measured as if it were not."""
KL_COST: Final = 1.0
"""Nats a completion: a smaller KL costs little, whatever its standard error."""
KL_COST_Z: Final = 4.0
"""Standard errors by which the objective is below its start although the reward is not."""
TRUNCATED: Final = 0.9
"""Share of truncated completions. Below it enough of them end to learn from; the embedded default has up to 0.8."""
SAME: Final = 0.8
"""Share of groups without two different scores."""
STILL: Final = 1e-3
"""Nats a completion: a KL below it is no change of behaviour."""
PATIENCE: Final = 20
"""Steps before a run may be called still, or fruitless."""
JUMP_SHARE: Final = 0.04
"""Rise of the KL per token in one step, over the reference's entropy per token."""
NO_GAIN_Z: Final = 1.0
"""Standard errors of the reward's slope, and of its change since the start: with less of both, nothing is learnt."""
LOSS_Z: Final = -3.0
"""Standard errors of a slope that falls."""


def entropy_collapse(course: Course) -> Concern | None:
    """The policy has hardly any choice left: all completions of a prompt are alike, and nothing new is tried."""
    before, now = course.at_start("policy/entropy"), course.now("policy/entropy")
    if before is None or now is None or course.learned < WINDOW:
        return None
    if now > max(ENTROPY_LOW, ENTROPY_SHARE * before):
        return None
    evidence = f"entropy {now:.3g} nats a token over {WINDOW} steps; {before:.3g} in the first {START}"
    low = course.now("temperature")
    if low is not None and low < 0.5:
        return Concern(f"{evidence}; temperature {low:g}", "temperature=1")
    return Concern(evidence, more_beta(course))


def kl_runaway(course: Course) -> Concern | None:
    """The policy leaves the reference: it writes what the reference never would, or pays more KL than it gains."""
    kl, entropy = course.now("kl/tok"), reference_entropy(course)
    sequence = course.now("kl/seq")
    if kl is None or sequence is None or course.learned < WINDOW:
        return None
    if has_other_reference(course) and kl <= (course.at_start("kl/tok") or 0.0):
        return None  # it came nearer
    if entropy and kl > KL_SHARE * entropy:
        evidence = f"KL {kl:.3g} nats a token over {WINDOW} steps ({sequence:.3g} a completion); "
        return Concern(f"{evidence}the entropy was {course.at_start('policy/entropy'):.3g} at first", more_beta(course))
    objective, reward = course.change("objective"), course.change("reward/mean")
    if sequence < KL_COST or objective is None or reward is None or not course.is_long:
        return None
    if objective.z < -KL_COST_Z and reward.gain >= 0:
        evidence = f"J {objective.after:+.3g} over {WINDOW} steps, {objective.before:+.3g} in the first {START}: "
        evidence += f"reward {reward.gain:+.3g}, KL {sequence:.3g} nats a completion"
        return Concern(evidence, change_lr(course, 1 / 3))
    return None


def truncation(course: Course) -> Concern | None:
    """Nearly all completions are cut at max_new_tokens, and judged or dropped as cut."""
    share, limit = course.now("completion/truncated"), course.setting("max_new_tokens")
    if share is None or share < TRUNCATED or course.learned < WINDOW:
        return None
    before = course.at_start("completion/truncated")
    since = f"; {before:.0%} in the first {START}" if before is not None else ""
    more = f"max_new_tokens={2 * limit}" if is_number(limit) else "a larger max_new_tokens"
    return Concern(f"{share:.0%} of the completions of {WINDOW} steps are cut{since}", more)


def zero_variance(course: Course) -> Concern | None:
    """Most prompts have completions with one and the same score, and teach nothing."""
    share, reward = course.now("reward/same_in_group"), course.now("reward/mean")
    if share is None or share < SAME or course.learned < WINDOW:
        return None
    samples = course.setting("samples_per_prompt")
    more = f"samples_per_prompt={2 * samples}" if is_number(samples) else "more samples_per_prompt"
    evidence = f"{share:.0%} of the groups of {WINDOW} steps have one score (mean reward {reward or 0:.3g})"
    return Concern(evidence, f"{more}, or other prompts")


def sampler_parting(course: Course) -> Concern | None:
    """Sampler and trainer give the same completions different probabilities (the limit is that of a run's own note)."""
    share = course.now("sampler/effective_share")
    if share is None or share >= WARN_BELOW:
        return None
    gap = course.now("sampler/gap")
    apart = f", {gap:.3g} nats apart at most" if gap is not None else ""
    return Concern(f"the samples of {WINDOW} steps are worth {share:.0%} of their number{apart}", "dtype=float32")


def lr_too_small(course: Course) -> Concern | None:
    """The policy stands still: the KL from the reference is nearly zero after many steps."""
    kl, same = course.now("kl/seq"), course.now("reward/same_in_group")
    if has_other_reference(course):  # to be near it is no sign of standing still
        return None
    if kl is None or kl >= STILL or course.learned < PATIENCE or (same is not None and same >= SAME):
        return None
    return Concern(f"KL {kl:.2g} nats a completion after {course.step} steps", change_lr(course, 10))


def lr_too_large(course: Course) -> Concern | None:
    """One step changes the policy beyond what its samples can justify."""
    rise, entropy = course.largest_rise("kl/tok"), reference_entropy(course)
    if rise is None or not entropy or rise[0] < JUMP_SHARE * entropy:
        return None
    return Concern(f"KL rose by {rise[0]:.3g} nats a token in step {rise[1]}", change_lr(course, 1 / 3))


def nothing_learnt(course: Course) -> Concern | None:
    """The policy moves, and the reward does not: half of the steps are done, and it does not rise."""
    kl, same = course.now("kl/seq"), course.now("reward/same_in_group")
    reward, z = course.change("reward/mean"), course.trend.z
    if course.setting("reward", "kind") == "none":
        return None
    if reward is None or course.learned < max(PATIENCE, course.steps / 2) or max(z, reward.z) >= NO_GAIN_Z:
        return None
    if (kl is not None and kl < STILL) or (same is not None and same >= SAME):
        return None
    evidence = f"reward {reward.after:.3g} over {WINDOW} steps, {reward.before:.3g} in the first {START}; "
    evidence += f"its slope over {course.learned} steps is {z:+.1f} standard errors"
    if z < LOSS_Z:
        return Concern(f"{evidence}: it falls", "rlhf reward test: has the reward the wrong sign?")
    return Concern(evidence, change_lr(course, 3))


def has_other_reference(course: Course) -> bool:
    """Whether the KL is measured from another model, and so is not 0 at the start."""
    return bool(course.setting("reference", "kind") == "model")


def reference_entropy(course: Course) -> float | None:
    """The entropy per token at the start, where the policy is the reference; LEAST_ENTROPY or more."""
    entropy = course.at_start("policy/entropy")
    return None if entropy is None else max(entropy, LEAST_ENTROPY)
