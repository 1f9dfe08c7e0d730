"""Rules that end a run before its last step; each says why. A run that ended so can be resumed past it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Annotated, Final

from pydantic import BeforeValidator, Field

from rlhf_cli.evaluation.evaluation import Evaluation
from rlhf_cli.evaluation.plateau import latest_gain
from rlhf_cli.health.course import WINDOW, Course
from rlhf_cli.plural import plural
from rlhf_cli.settings import READ_STRICTLY, Seconds, Settings, as_tuple

FLOOR: Final = "stop.floor"
"""The rule by which a search prunes a trial."""


@dataclass(frozen=True, slots=True)
class Stopping:
    """The end of a run before its last step."""

    __pydantic_config__ = READ_STRICTLY

    key: str
    """The setting: stop.kl."""
    reason: str


class Stop(Settings):
    """Ends of a run before its last step (exit 0); null: never."""

    kl: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Ends the run above this KL(policy || reference), in nats a completion: that of the step's held-out evaluation, or
    else the mean over 10 steps."""
    tokens: Annotated[int, Field(ge=1)] | None = None
    """Ends the run once its steps have sampled so many tokens."""
    seconds: Seconds | None = None
    """Ends the run once all its steps, resumed or not, took this long, written as time_limit is. That step is not
    reproducible."""
    plateau: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Ends the run once the held-out objective surely gained less than this over the second half of the run so far,
    from the fourth evaluation on; "surely" holds however often it is asked (docs/doctor.md)."""
    floor: Annotated[
        tuple[Annotated[tuple[int, float], BeforeValidator(as_tuple)], ...], BeforeValidator(as_tuple)
    ] = ()
    """Pairs of a step and the least held-out objective there: a search prunes a trial that is below."""
    floor_beta: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """The beta of the objective in `floor`; null: the final one of the run."""

    def why(self, course: Course, seconds: float, evaluations: Callable[[], Sequence[Evaluation]]) -> Stopping | None:
        """The end of the run after its newest step; None where it goes on.

        `seconds` is the time of all steps; `evaluations` gives all of them, in the order of their steps.
        """
        if self.kl is not None and (kl := _kl(course)) is not None and kl[0] > self.kl:
            return Stopping("stop.kl", f"the KL is {kl[0]:.3g} nats a completion {kl[1]}, above {self.kl:g}")
        if self.tokens is not None and course.tokens >= self.tokens:
            return Stopping("stop.tokens", f"{course.tokens:,} tokens are sampled, of {self.tokens:,}")
        if self.seconds is not None and seconds >= self.seconds:
            return Stopping("stop.seconds", f"the steps took {seconds:.0f} s, of {self.seconds:g}")
        if course.last is None or course.last.step != course.step:
            return None
        if (least := dict(self.floor).get(course.step)) is not None:
            beta = course.last.beta if self.floor_beta is None else self.floor_beta
            reached = fmean(course.last.objective(beta))
            if reached < least:
                return Stopping(FLOOR, f"pruned: the held-out objective is {reached:+.3g}, below {least:+.3g}")
        if self.plateau is None:
            return None
        gain = latest_gain(evaluations())
        if gain is None or gain.upper >= self.plateau:
            return None
        reason = f"J gained {gain.mean:+.3g} from step {gain.since} to {gain.step}"
        return Stopping("stop.plateau", f"{reason}, and surely less than {gain.upper:.3g}, below {self.plateau:g}")


def _kl(course: Course) -> tuple[float, str] | None:
    """The KL, and of what it is."""
    if course.last is not None and course.last.step == course.step:
        return course.last.means()[1], "held out"
    kl = course.now("kl/seq")
    kl = course.now("kl/seq_k1") if kl is None else kl
    return None if kl is None else (kl, f"over {plural(min(course.learned, WINDOW), 'step')}")
