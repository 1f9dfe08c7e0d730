"""The jobs of a search: those that are checked before any runs, and one for each choice."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from rlhf_cli.config.search.space import corners, point, read_search, read_space
from rlhf_cli.errors import UserError
from rlhf_cli.schema import RunConfig
from rlhf_cli.sweep.launchers import read_launcher
from rlhf_cli.sweep.search import Dimension, Floor, Search, describe
from rlhf_cli.sweep.study import import_optuna

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
