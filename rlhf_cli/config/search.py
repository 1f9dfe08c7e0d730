"""A search by optuna, as the command line asks for it: its settings, its space, and the jobs that it plans.

The space is read from the overrides: lists, ranges and intervals, by hydra's syntax.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from hydra.core.override_parser.types import IntervalSweep, Override
from omegaconf import DictConfig, OmegaConf
from pydantic import ValidationError

from rlhf_cli.config.options import groups
from rlhf_cli.errors import UserError
from rlhf_cli.schema import RunConfig
from rlhf_cli.sweep.launchers import read_launcher
from rlhf_cli.sweep.search import Choice, Dimension, Floor, Interval, Search, describe
from rlhf_cli.sweep.study import import_optuna

SWEEPER = "optuna"
"""The option of `hydra/sweeper` that is a search."""
FLOOR_KEYS = ("stop.floor", "stop.floor_beta")


@dataclass(frozen=True)
class SearchPlan:
    """A search that is checked."""

    settings: Search
    space: tuple[Dimension, ...]
    point: Callable[[Mapping[str, str]], tuple[str, ...]]
    """The overrides of a trial, from the values of the space."""
    beta: float | None = None
    """The beta of the objective; None before the sweep's record has one."""

    @property
    def text(self) -> str:
        """The parts that make it this search, for the name of its folder."""
        return json.dumps(describe(self.settings, self.space))

    def overrides(self, texts: Mapping[str, str], floor: Floor) -> tuple[str, ...]:
        """The overrides of a trial with its floor."""
        if not floor:
            return self.point(texts)
        pairs = json.dumps([list(pair) for pair in floor])
        return (*self.point(texts), f"stop.floor={pairs}", f"stop.floor_beta={self.beta}")


def is_search(settings: DictConfig) -> bool:
    """Whether the command line asks for a search; raises UserError for what rlhf does not take from hydra."""
    if (sweeper := settings.hydra.runtime.choices["hydra/sweeper"]) not in ("basic", SWEEPER):
        raise UserError(f"hydra/sweeper={sweeper}: have basic (every combination of listed values) and {SWEEPER}")
    if settings.hydra.callbacks:
        raise UserError("hydra.callbacks: not supported; leave them out")
    return bool(sweeper == SWEEPER)


def read_search(settings: DictConfig) -> Search:
    """The settings of the search; raises UserError where they are wrong."""
    values = OmegaConf.to_container(settings.hydra.sweeper, resolve=True)
    assert isinstance(values, dict)
    try:
        return Search.model_validate({key: value for key, value in values.items() if key != "params"})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(["hydra.sweeper", *map(str, first["loc"])])
        raise UserError(f"{key}: {first['msg'].removeprefix('Value error, ')} (got {first['input']!r})") from error


def read_space(overrides: Sequence[Override]) -> tuple[Dimension, ...]:
    """The dimensions in the order of the overrides; the last values of a key count. Raises UserError for none."""
    space = {override.get_key_element(): _dimension(override) for override in overrides if override.is_sweep_override()}
    if not space:
        fix = "add some: beta=0.02,0.1 'optimizer.lr=tag(log,interval(1e-5,1e-3))'"
        raise UserError("a search needs values to choose from", where=f"hydra/sweeper={SWEEPER}", fix=fix)
    if "seed" in space:
        raise UserError("a search chooses no seed: it is no setting", where="seed", fix="give one seed")
    return tuple(space.values())


def _dimension(override: Override) -> Dimension:
    key, value = override.get_key_element(), override.value()
    if not isinstance(value, IntervalSweep):
        texts = tuple(dict.fromkeys(override.sweep_string_iterator()))
        numbers = [number for number in override.sweep_iterator() if isinstance(number, int)]
        if override.is_range_sweep() and len(numbers) == len(texts) > 1:
            return Interval(key, min(numbers), max(numbers), False, abs(numbers[1] - numbers[0]), False)
        return Choice(key, texts)
    low, high, log = value.start, value.end, "log" in value.tags
    assert low is not None
    assert high is not None
    if not low < high or (log and low <= 0):
        why = "log needs numbers above 0" if low < high else "the first end has to be below the second"
        raise UserError(f"{override.input_line}: {why}")
    step = 1 if isinstance(low, int) and isinstance(high, int) else None
    return Interval(key, low, high, log, step, override.key_or_group in groups())


def point(overrides: Sequence[Override], texts: Mapping[str, str]) -> tuple[str, ...]:
    """The overrides with these values in place of those to choose from; the last value of a key counts."""
    values = {
        override.get_key_element(): texts[override.get_key_element()]
        if override.is_sweep_override()
        else override.get_value_element_as_str()
        for override in overrides
    }
    return tuple(f"{key}={value}" for key, value in values.items())


def corners(space: Sequence[Dimension]) -> Iterator[dict[str, str]]:
    """Points to check before any runs: the first, and every other value or end of each dimension beside it."""
    first = {one.key: one.texts_to_check()[0] for one in space}
    yield first
    for one in space:
        for text in one.texts_to_check()[1:]:
            yield first | {one.key: text}


def plan_search(settings: DictConfig, own: Sequence[Override]) -> tuple[SearchPlan, list[tuple[str, ...]]]:
    """The search, and the jobs to check before any runs. Raises UserError where its settings or values are wrong."""
    launcher = str(settings.hydra.runtime.choices["hydra/launcher"])
    if read_launcher(launcher, settings.hydra.launcher) is None:
        raise UserError(f"a search starts its trials itself, not by {launcher}", where="hydra/launcher")
    import_optuna()
    space = read_space(own)
    plan = SearchPlan(read_search(settings), space, lambda texts: point(own, texts))
    return plan, [plan.point(texts) for texts in corners(space)]


def check_search(config: RunConfig) -> None:
    """Raise UserError for settings that no search can have."""
    if config.seeds > 1:
        fix = "leave seeds out, and repeat what the search finds with seeds=3"
        raise UserError("a search tries each point with one seed", where="seeds", fix=fix)
    if not config.evaluate.every:
        raise UserError("a search compares held-out evaluations", where="evaluate.every", fix="evaluate.every=STEPS")
