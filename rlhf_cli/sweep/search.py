"""A search: which settings a sweep tries next is chosen from the results of those before it; its settings and space."""

from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, model_validator

from rlhf_cli.settings import Settings

Objective = Literal["objective", "reward", "both"]


class Search(Settings):
    """The settings of `hydra/sweeper=optuna`, as `hydra.sweeper.KEY`."""

    trials: int = Field(ge=1)
    """Number of settings that are tried; a larger number goes on with the same search."""
    objective: Objective
    """objective: the held-out J = reward - beta KL, at one beta for all; reward: the held-out reward where the KL is at
    most `kl_budget`; both: reward and KL, for their Pareto front."""
    kl_budget: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None
    """The highest held-out KL that objective=reward allows, nats a completion."""
    prune: bool
    """Whether a trial ends early where its held-out curve is below the median of the finished trials."""
    startup: int = Field(ge=1)
    """Trials that are drawn at random before any is chosen, and finished trials before any is pruned."""
    seed: int = Field(ge=0)
    """The choice of settings depends on it, and on the results."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.objective == "reward") != (self.kl_budget is not None):
            raise ValueError("kl_budget: objective=reward has a budget of the KL, and no other objective has one")
        return self


@dataclass(frozen=True, slots=True)
class Choice:
    """Values without an order."""

    key: str
    texts: tuple[str, ...]
    """The values as overrides write them."""

    def texts_to_check(self) -> tuple[str, ...]:
        """The values that stand for all: each of them."""
        return self.texts


@dataclass(frozen=True, slots=True)
class Interval:
    """Numbers from `low` to `high`, both included."""

    key: str
    low: float
    high: float
    log: bool
    """Whether equal ratios are equally likely at first."""
    step: float | None
    """The distance of neighbours; None: any number. Where all three are whole, so are the numbers."""
    quoted: bool
    """Whether the number is the option of a group."""

    @property
    def is_whole(self) -> bool:
        """Whether the numbers are whole."""
        return all(isinstance(number, int) for number in (self.low, self.high, self.step))

    def text(self, number: float) -> str:
        """The number as an override writes it."""
        return f"'{number}'" if self.quoted else str(number)

    def texts_to_check(self) -> tuple[str, ...]:
        """The values that stand for all: both ends."""
        return self.text(self.low), self.text(self.high)


Dimension = Choice | Interval
Floor = tuple[tuple[int, float], ...]
"""The least value of the objective at some steps."""
DIGITS: Final = 4
"""Digits of a number between both ends: a name that can be read and typed."""


def shorten(number: float, dimension: Interval) -> float:
    """The number with few digits, unless it would leave the interval."""
    short = float(f"{number:.{DIGITS}g}")
    return short if dimension.low <= short <= dimension.high else number


def describe(search: Search, space: tuple[Dimension, ...]) -> dict[str, Any]:
    """Return the identity of a search as plain data: all but the number of trials, and whether any is pruned."""
    return {
        **search.model_dump(mode="json", exclude={"trials", "prune"}),
        "space": {one.key: repr(one) for one in space},
    }
