"""All rules by name, in the order in which they are shown: causes before what follows from them."""

from collections.abc import Callable, Mapping
from typing import Final

from rlhf_cli.health import evaluations, steps
from rlhf_cli.health.course import Concern, Course

Rule = Callable[[Course], Concern | None]
"""Returns the fault that it sees at present; None: none."""

STEP_RULES: Final[Mapping[str, Rule]] = {
    "lr too large": steps.lr_too_large,
    "lr too small": steps.lr_too_small,
    "sampler and trainer part": steps.sampler_parting,
    "zero-variance groups": steps.zero_variance,
    "truncation": steps.truncation,
    "KL runaway": steps.kl_runaway,
    "entropy collapse": steps.entropy_collapse,
    "nothing learnt": steps.nothing_learnt,
}
"""Asked after every step."""

EVALUATION_RULES: Final[Mapping[str, Rule]] = {
    "length hacking": evaluations.length_hacking,
    "repetition": evaluations.repetition,
    "reward and held-out part": evaluations.reward_parting,
}
"""Asked after every evaluation."""

RULES: Final = {**STEP_RULES, **EVALUATION_RULES}


def about(rule: str) -> str:
    """The meaning of a rule's alarm, in one line: the docstring of its function."""
    return (RULES[rule].__doc__ or "").splitlines()[0].rstrip(".")
