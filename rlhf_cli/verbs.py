"""The verbs that compose settings: each has a schema, a YAML file to begin with, and presets of its own.

One verb is at work at a time. The names of keys, groups and presets are its own, so functions that ask for them read
`current`; what composes settings says which verb it is for, and opens it by `composing`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, wraps
from typing import Any, Final, Generic, ParamSpec, TypeVar

from rlhf_cli.runs.kind import verb_of
from rlhf_cli.schema import RunConfig, TrainingConfig
from rlhf_cli.supervised.settings import SupervisedConfig

C = TypeVar("C", bound=TrainingConfig, covariant=True)
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Verb(Generic[C]):
    """A verb whose arguments are overrides."""

    words: str
    """The words behind `rlhf` on the command line."""
    schema: type[C]
    """The type of its config."""
    primary: str
    """The file of configs/ that a composition begins with, without its ending."""
    presets: str
    """The folder of configs/ that holds the options of `config`."""
    about: str
    """The purpose, as the help page says it."""


TRAIN: Final = Verb("train", RunConfig, "train", "config", "fine-tune a language model from a reward")

SFT: Final = Verb("sft", SupervisedConfig, "sft", "sft", "train a model on completions that you give")
DPO: Final = Verb("dpo", SupervisedConfig, "dpo", "dpo", "train a model on pairs of completions, better and worse")
REWARD_TRAIN: Final = Verb(
    "reward train", SupervisedConfig, "reward_model", "reward_model", "train a reward model on pairs of completions"
)
VERBS: Final[tuple[Verb[TrainingConfig], ...]] = (TRAIN, SFT, DPO, REWARD_TRAIN)
"""All of them."""

_current: ContextVar[Verb[TrainingConfig]] = ContextVar("verb", default=TRAIN)


def current() -> Verb[TrainingConfig]:
    """The verb whose settings are composed now."""
    return _current.get()


def cache_by_verb(function: Callable[P, T]) -> Callable[P, T]:
    """Cache what a function returns, for each verb that is the current one and for each argument."""

    cached: Any = cache(lambda verb, *arguments, **named: function(*arguments, **named))

    @wraps(function)
    def of_current(*arguments: P.args, **named: P.kwargs) -> T:
        found: T = cached(current().words, *arguments, **named)
        return found

    return of_current


def find_verb(words: Sequence[str]) -> Verb[TrainingConfig] | None:
    """Find the verb that a command line begins with, `rlhf` left out; None where it is none of these."""
    return next((verb for verb in VERBS if [*words[: len(verb.words.split())]] == verb.words.split()), None)


def verb_of_run(config: Mapping[str, Any]) -> Verb[TrainingConfig]:
    """The verb that began, and continues, a run with these settings."""
    return next(verb for verb in VERBS if verb.words == verb_of(config))


@contextmanager
def composing(verb: Verb[TrainingConfig]) -> Iterator[None]:
    """Make the verb the current one during the block."""
    token = _current.set(verb)
    try:
        yield
    finally:
        _current.reset(token)
