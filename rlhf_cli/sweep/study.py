"""The study of a search, in a file of its own: which settings to try next, and the results of those before.

A suggestion depends on the seed, the number of the trial and the results so far: a killed study goes on as it would
have. Optuna's file is for its own tools too (`optuna-dashboard sqlite:///study.db`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any, Final

from rlhf_cli.errors import UserError, bad_run
from rlhf_cli.seeding import seed_for
from rlhf_cli.sweep.search import Choice, Dimension, Floor, Interval, Search, describe, shorten

STUDY: Final = "study.db"
NAME: Final = "search"
_SEARCH: Final = "search"
"""The study's own attribute: what it searches."""
_FLOOR: Final = "floor"
"""A trial's: the curve that it has to reach."""
INFEASIBLE: Final = -1e9
"""The value of a trial above the budget of the KL, less what it is above: only the order of values counts."""

Curve = Mapping[int, tuple[float, float]]
"""Held-out reward and KL (nats) by step."""


def import_optuna() -> Any:
    """Import optuna, silent; raises UserError without the extra."""
    try:
        optuna = import_module("optuna")
    except ImportError as error:
        raise UserError("hydra/sweeper=optuna needs optuna", fix="pip install 'rlhf-cli[optuna]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


@dataclass(frozen=True, slots=True)
class Asked:
    """A trial that is to run."""

    number: int
    texts: dict[str, str]
    """The values of the space, as overrides write them."""
    floor: Floor

    @property
    def told(self) -> dict[str, str]:
        """The values as messages name them."""
        return {key.lstrip("+"): text.strip("'") for key, text in self.texts.items()}


class Study:
    """A study in a folder: ask for settings, tell results."""

    def __init__(self, folder: Path, search: Search, space: tuple[Dimension, ...], beta: float, seed: int) -> None:
        """Open the study, or make it; `beta` is that of the objective, and `seed` that of all trials.

        Raises UserError where the folder holds the study of another search, or optuna is missing.
        """
        self._optuna = optuna = import_optuna()
        self._search, self._space, self._beta = search, space, 0.0 if search.objective == "reward" else beta
        self._distributions = {one.key: self._distribution(one) for one in space}
        # a connection for each use, as nobody closes a study
        how = {"connect_args": {"timeout": 60}, "poolclass": import_module("sqlalchemy").NullPool}
        storage = optuna.storages.RDBStorage(f"sqlite:///{folder / STUDY}", engine_kwargs=how)
        with storage.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        self._study = optuna.create_study(
            storage=storage, study_name=NAME, directions=self._directions(), load_if_exists=True
        )
        own = describe(search, space) | {"beta": self._beta, "seed of the trials": seed}
        known = self._study.user_attrs.get(_SEARCH)
        if known is None:
            self._study.set_user_attr(_SEARCH, own)
        elif known != own:
            key = next(key for key in {**own, **known} if known.get(key) != own.get(key))
            what = f"it holds a search with another {key}: {known.get(key)} -> {own.get(key)}"
            raise bad_run(what, folder, "give another sweep_dir")

    def running(self) -> list[Asked]:
        """The trials that were asked for and have no result, in their order: a killed search begins with them."""
        state = self._optuna.trial.TrialState.RUNNING
        running = [self._asked(trial) for trial in self._trials() if trial.state == state]
        # of those with the same settings the first; the others take its result
        return [one for place, one in enumerate(running) if all(one.texts != other.texts for other in running[:place])]

    def ask(self) -> Asked | None:
        """The next settings; None where all trials are asked for. Settings that were tried before are told at once."""
        while len(trials := self._trials()) < self._search.trials:
            params = self._suggest(trials)
            floor = self._floor(trials)
            state = self._optuna.trial.TrialState
            made = self._optuna.trial.create_trial(
                state=state.RUNNING, params=params, distributions=self._distributions, user_attrs={_FLOOR: floor}
            )
            self._study.add_trial(made)
            twin = next((trial for trial in trials if trial.params == params), None)
            if twin is None:
                return self._asked(self._trials()[-1])
            if twin.state != state.RUNNING:
                self._copy(twin, len(trials))
        return None

    def tell(self, number: int, curve: Curve, *, pruned: bool) -> None:
        """Keep the result of a trial, and of those with the same settings: its evaluations after step 0."""
        state = self._optuna.trial.TrialState
        trials = self._trials()
        own = trials[number]
        if own.state != state.RUNNING:
            return
        for step, (reward, kl) in sorted(curve.items()):
            if self._search.objective != "both" and step not in own.intermediate_values:
                self._optuna.trial.Trial(self._study, own._trial_id).report(reward - self._beta * kl, step)
        if pruned:
            self._study.tell(number, state=state.PRUNED)
        else:
            self._study.tell(number, self._values(*curve[max(curve)]))
        own = self._trials()[number]
        for trial in trials:
            if trial.state == state.RUNNING and trial.number != number and trial.params == own.params:
                self._copy(own, trial.number)

    def _copy(self, twin: Any, number: int) -> None:
        state = self._optuna.trial.TrialState
        own = self._trials()[number]
        trial = self._optuna.trial.Trial(self._study, own._trial_id)
        for step in twin.intermediate_values.keys() - own.intermediate_values:
            trial.report(twin.intermediate_values[step], step)
        if twin.state == state.PRUNED:
            self._study.tell(number, state=state.PRUNED)
        else:
            self._study.tell(number, twin.values)

    def _trials(self) -> list[Any]:
        trials: list[Any] = self._study.get_trials(deepcopy=False)
        return trials

    def _asked(self, trial: Any) -> Asked:
        texts = {
            one.key: trial.params[one.key] if isinstance(one, Choice) else one.text(trial.params[one.key])
            for one in self._space
        }
        return Asked(trial.number, texts, tuple((step, value) for step, value in trial.user_attrs[_FLOOR]))

    def _suggest(self, trials: Sequence[Any]) -> dict[str, Any]:
        sampler = self._optuna.samplers.TPESampler(
            seed=seed_for(self._search.seed, "search", len(trials)) % 2**32,
            n_startup_trials=self._search.startup,
            constant_liar=True,
        )
        # in memory: a study on disk would keep a half drawn trial where it is killed
        study = self._optuna.create_study(directions=self._directions(), sampler=sampler)
        study.add_trials(trials)
        params: dict[str, Any] = study.ask(self._distributions).params
        continuous = [one for one in self._space if isinstance(one, Interval) and one.step is None]
        return params | {one.key: shorten(params[one.key], one) for one in continuous}

    def _floor(self, trials: Sequence[Any]) -> Floor:
        """The median of the finished trials' values at each step but the last; empty where there are too few."""
        state = self._optuna.trial.TrialState
        curves = [trial.intermediate_values for trial in trials if trial.state == state.COMPLETE]
        if not self._search.prune or self._search.objective == "both" or len(curves) < self._search.startup:
            return ()
        last = max(max(curve) for curve in curves)
        steps = sorted({step for curve in curves for step in curve} - {last})
        return tuple((step, median(curve[step] for curve in curves if step in curve)) for step in steps)

    def _values(self, reward: float, kl: float) -> list[float]:
        if self._search.objective == "both":
            return [reward, kl]
        if self._search.kl_budget is not None and kl > self._search.kl_budget:
            return [INFEASIBLE - (kl - self._search.kl_budget)]
        return [reward - self._beta * kl]

    def _directions(self) -> list[str]:
        return ["maximize", "minimize"] if self._search.objective == "both" else ["maximize"]

    def _distribution(self, one: Dimension) -> Any:
        kinds = self._optuna.distributions
        if isinstance(one, Choice):
            return kinds.CategoricalDistribution(one.texts)
        if one.is_whole:
            return kinds.IntDistribution(one.low, one.high, step=one.step, log=one.log)
        return kinds.FloatDistribution(one.low, one.high, step=one.step, log=one.log)
