"""The study of a search, with results from a formula: what it tries, prunes and remembers."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Mapping
from contextlib import closing
from math import log10
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from rlhf_cli.errors import EXIT_RESUME, UserError
from rlhf_cli.seeding import seed_for
from rlhf_cli.sweep.search import Choice, Interval, Search
from rlhf_cli.sweep.study import STUDY, Asked, Study, import_optuna

BETA = 0.05
SPACE = (Choice("beta", ("'0.1'", "'0.2'")), Interval("optimizer.lr", 1e-5, 1e-1, True, None, False))
Curve = dict[int, tuple[float, float]]


@pytest.fixture
def optuna() -> Any:
    """The extra."""
    return pytest.importorskip("optuna")


def search(**changes: Any) -> Search:
    settings = {"trials": 9, "objective": "objective", "kl_budget": None, "prune": True, "startup": 3, "seed": 0}
    return Search.model_validate(settings | changes)


def curve_of(texts: Mapping[str, str]) -> Curve:
    """Reward and KL at three evaluations: best at lr 1e-3 and the lower beta."""
    lr, beta = float(texts["optimizer.lr"]), float(texts["beta"].strip("'"))
    best = 1 - (log10(lr) + 3) ** 2 / 4 - beta
    return {step: (best * step / 30, 2 * step / 30) for step in (10, 20, 30)}


def go_on(study: Study, until: int = 1000) -> list[Asked]:
    """Run trials as a sweep does, up to the one of this number, which is killed."""
    asked = study.running()
    done = []
    while one := asked.pop(0) if asked else study.ask():
        if one.number == until:
            break
        curve, least = curve_of(one.texts), dict(one.floor)
        low = [step for step, (reward, kl) in curve.items() if reward - BETA * kl < least.get(step, -9.0)]
        reached = {step: pair for step, pair in curve.items() if not low or step <= low[0]}
        study.tell(one.number, reached, pruned=bool(low))
        done.append(one)
    return done


def rows(study: Study) -> list[tuple[Any, ...]]:
    trials = study._trials()
    return [(one.number, one.state.name, one.params, one.values, one.intermediate_values) for one in trials]


@pytest.mark.parametrize("objective", ["objective", "both"])
def test_a_killed_study_goes_on_as_if_nothing_had_been(optuna: Any, objective: str, tmp_path: Path) -> None:
    settings = search(objective=objective)
    studies = []
    for name, kills in (("whole", ()), ("killed", (0, 6))):
        (tmp_path / name).mkdir()
        for until in (*kills, 1000):
            studies.append(Study(tmp_path / name, settings, SPACE, BETA, 0))
            go_on(studies[-1], until)
    whole, *_, killed = studies
    assert rows(killed) == rows(whole)
    assert len(rows(whole)) == 9
    # more trials go on from there
    assert go_on(Study(tmp_path / "killed", search(objective=objective, trials=10), SPACE, BETA, 0))[0].number == 9
    with closing(sqlite3.connect(tmp_path / "killed" / STUDY)) as file:
        assert file.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_it_finds_the_better_settings_and_prunes_below_the_median(optuna: Any, tmp_path: Path) -> None:
    study = Study(tmp_path, search(trials=14), SPACE, BETA, 0)
    asked = go_on(study)
    trials = study._trials()
    best = max((one for one in trials if one.state.name == "COMPLETE"), key=lambda one: one.value)
    assert best.params["beta"] == "'0.1'"
    assert 2e-4 < best.params["optimizer.lr"] < 5e-3
    pruned = [one for one in trials if one.state.name == "PRUNED"]
    assert pruned
    # its floor: the median of those that had finished before it, at each step but the last
    first = pruned[0].number
    finished = [one.intermediate_values for one in trials[:first] if one.state.name == "COMPLETE"]
    floor = tuple((step, median(curve[step] for curve in finished)) for step in (10, 20))
    assert next(one for one in asked if one.number == first).floor == floor
    assert all(one.floor == () for one in asked[:3])
    assert len(repr(best.params["optimizer.lr"])) <= 9  # four digits


def test_trials_that_run_count_as_bad_so_that_others_are_tried(
    optuna: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, sampler = [], optuna.samplers.TPESampler

    def make(**settings: Any) -> Any:
        made.append(settings)
        return sampler(**settings)

    monkeypatch.setattr(optuna.samplers, "TPESampler", make)
    study = Study(tmp_path, search(seed=7), SPACE, BETA, 0)
    study.ask()
    study.ask()
    rest = {"n_startup_trials": 3, "constant_liar": True}
    assert [one for one in made if one] == [{"seed": seed_for(7, "search", number) % 2**32} | rest for number in (0, 1)]


def test_nothing_is_pruned_where_that_is_switched_off(optuna: Any, tmp_path: Path) -> None:
    asked = go_on(Study(tmp_path, search(prune=False, startup=1, trials=4), SPACE, BETA, 0))
    assert [one.floor for one in asked] == [()] * 4


def test_settings_that_were_tried_take_their_result_and_no_process(optuna: Any, tmp_path: Path) -> None:
    space = (Choice("beta", ("'0.1'", "'0.2'")), Interval("steps", 1, 3, False, 2, False))
    study = Study(tmp_path, search(trials=12, prune=False), space, BETA, 0)
    asked = []
    while one := study.ask():
        asked.append(one)
        study.tell(one.number, {5: (float(one.texts["steps"]), 0.0)}, pruned=False)
    assert sorted((one.told["beta"], one.told["steps"]) for one in asked) == [
        ("0.1", "1"), ("0.1", "3"), ("0.2", "1"), ("0.2", "3"),
    ]  # fmt: skip
    assert {(one.params["steps"], one.value) for one in study._trials()} == {(1, 1.0), (3, 3.0)}
    assert len(study._trials()) == 12


def test_twins_that_run_get_one_process_and_both_the_result(optuna: Any, tmp_path: Path) -> None:
    study = Study(tmp_path, search(trials=4), (Choice("beta", ("'0.1'",)),), BETA, 0)
    one = study.ask()
    assert one is not None
    assert study.ask() is None  # the other three are its twins
    again = Study(tmp_path, search(trials=4), (Choice("beta", ("'0.1'",)),), BETA, 0)
    assert again.running() == [one]
    again.tell(0, {5: (1.0, 2.0)}, pruned=False)
    assert [trial.values for trial in again._trials()] == [[0.9]] * 4
    assert [trial.intermediate_values for trial in again._trials()] == [{5: 0.9}] * 4


def test_the_value_is_that_of_the_last_evaluation_and_is_told_once(optuna: Any, tmp_path: Path) -> None:
    study = Study(tmp_path, search(), SPACE, BETA, 0)
    study.ask()
    study.tell(0, {5: (1.0, 2.0), 10: (3.0, 20.0)}, pruned=False)
    study.tell(0, {5: (9.0, 0.0)}, pruned=True)
    (trial,) = study._trials()
    assert (trial.state.name, trial.value, trial.intermediate_values) == ("COMPLETE", 2.0, {5: 0.9, 10: 2.0})


def test_the_floor_is_the_median_at_every_step_but_the_last_of_all(optuna: Any, tmp_path: Path) -> None:
    study = Study(tmp_path, search(startup=2), SPACE, BETA, 0)
    first = study.ask()
    study.tell(0, {5: (1.0, 2.0), 10: (1.0, 0.0)}, pruned=False)
    second = study.ask()
    study.tell(1, {10: (3.0, 0.0), 20: (9.0, 0.0)}, pruned=False)  # of more steps
    third = study.ask()
    assert [one and one.floor for one in (first, second, third)] == [(), (), ((5, 0.9), (10, 2.0))]


@pytest.mark.parametrize(("pruned", "state"), [(False, "COMPLETE"), (True, "PRUNED")])
def test_a_result_that_a_kill_left_half_told_is_told_to_its_end(
    optuna: Any, pruned: bool, state: str, tmp_path: Path
) -> None:
    """Optuna warns of a step that is reported twice."""
    study = Study(tmp_path, search(trials=2), (Choice("beta", ("'0.1'",)),), BETA, 0)
    study.ask()
    study.ask()  # its twin
    for trial in study._trials():
        optuna.trial.Trial(study._study, trial._trial_id).report(0.9, 5)
    study.tell(0, {5: (1.0, 2.0), 10: (1.0, 0.0)}, pruned=pruned)
    assert [trial.state.name for trial in study._trials()] == [state] * 2
    assert [trial.intermediate_values for trial in study._trials()] == [{5: 0.9, 10: 1.0}] * 2


def test_a_kl_above_the_budget_is_worse_than_any_reward(optuna: Any, tmp_path: Path) -> None:
    study = Study(tmp_path, search(objective="reward", kl_budget=1.5, prune=False), SPACE, BETA, 0)
    for reward, kl in ((-3.0, 1.5), (9.0, 1.75), (9.0, 2.5)):
        one = study.ask()
        assert one is not None
        study.tell(one.number, {5: (reward, kl)}, pruned=False)
    assert [trial.value for trial in study._trials()] == [-3.0, -1e9 - 0.25, -1e9 - 1.0]


def test_another_search_in_the_same_folder_is_refused(optuna: Any, tmp_path: Path) -> None:
    Study(tmp_path, search(), SPACE, BETA, 0)
    Study(tmp_path, search(trials=99, prune=False), SPACE, BETA, 0)
    for settings, space, beta in (
        (search(seed=1), SPACE, BETA),
        (search(), SPACE[:1], BETA),
        (search(), SPACE, 0.1),
    ):
        with pytest.raises(UserError, match=r"^it holds a search with another (seed|space|beta): ") as error:
            Study(tmp_path, settings, space, beta, 0)
        assert error.value.exit_code == EXIT_RESUME
    with pytest.raises(UserError, match="another objective: objective -> both"):
        Study(tmp_path, search(objective="both"), SPACE, BETA, 0)
    with pytest.raises(UserError, match="another seed of the trials: 0 -> 1"):
        Study(tmp_path, search(), SPACE, BETA, 1)
    later = Study(tmp_path, search(), SPACE, BETA, 0)._study  # of a version that knows more settings
    later.set_user_attr("search", later.user_attrs["search"] | {"margin": 2})
    with pytest.raises(UserError, match="another margin: 2 -> None"):
        Study(tmp_path, search(), SPACE, BETA, 0)


def test_without_the_extra_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError) as error:
        import_optuna()
    assert error.value.line() == "hydra/sweeper=optuna needs optuna; fix: pip install 'rlhf-cli[optuna]'"
