"""A search from its command line: what is checked before anything is made, the trial of a choice, and the space."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from rlhf_cli.config import search
from rlhf_cli.config.arguments import parse_override
from rlhf_cli.config.launch import Launch, launch
from rlhf_cli.config.search import SearchPlan, corners, point, read_space
from rlhf_cli.errors import UserError
from rlhf_cli.schema import RunConfig
from rlhf_cli.sweep.launchers import Launcher
from rlhf_cli.sweep.record import SweepRecord
from rlhf_cli.sweep.search import Choice, Dimension, Floor, Interval, shorten

SEARCH = ("config=tiny", "-m", "hydra/sweeper=optuna")
SPACE = ("beta=0.02,0.1", "optimizer.lr=tag(log,interval(1e-5,1e-3))")
Found = tuple[SweepRecord, SearchPlan, Callable[[Mapping[str, str], Floor], Launch[RunConfig]]]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of its own; planning does without the extra."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(search, "import_optuna", lambda: None)


def plan(*argv: str, checked: list[RunConfig] | None = None) -> Found:
    found: list[Found] = []

    def keep(
        record: SweepRecord,
        plan: SearchPlan,
        trial_of: Callable[[Mapping[str, str], Floor], Launch[RunConfig]],
        launcher: Launcher,
    ) -> None:
        record.write()
        trial = trial_of({"beta": "'0.1'", "optimizer.lr": "0.0005"}, ((10, 0.25), (20, -1e-05)))
        assert trial.config.stop.floor == ((10, 0.25), (20, -1e-05))
        found.append((record, plan, trial_of))

    check = (lambda config: None) if checked is None else checked.append
    launch([*SEARCH, *argv], pytest.fail, check=check, sweep=pytest.fail, search=keep)
    return found[0]


def test_every_value_and_both_ends_are_checked_before_anything_is_made(tmp_path: Path) -> None:
    checked: list[RunConfig] = []
    record, searched, trial_of = plan(*SPACE, "hydra.sweeper.trials=7", checked=checked)
    seen = [(config.beta.model_dump()["value"], config.optimizer.lr) for config in checked[:3]]
    assert seen == [(0.02, 1e-5), (0.1, 1e-5), (0.02, 1e-3)]
    assert searched.settings.trials == 7
    assert record.search == searched.settings.model_dump(mode="json")
    assert (record.trials, record.compare_at) == ((), 0.02)
    trial = trial_of({"beta": "'0.1'", "optimizer.lr": "0.0005"}, ())
    assert trial.config.stop.floor == ()
    assert Path(str(trial.config.run_dir)).parent == record.folder
    low = trial_of({"beta": "'0.1'", "optimizer.lr": "0.0005"}, ((10, 0.25),))
    assert low.config.run_dir == trial.config.run_dir  # another floor is the same trial
    assert low.config.stop.floor_beta == 0.02
    assert "stop.floor=[[10, 0.25]]" in low.arguments
    assert not any("sweeper" in argument for argument in low.arguments)


def test_the_same_search_finds_its_folder_and_another_has_its_own() -> None:
    first = plan(*SPACE)[0].folder
    assert first.name.startswith("tiny-")
    assert first.name.endswith("-search")
    assert plan(*SPACE, "hydra.sweeper.trials=99", "hydra.sweeper.prune=false", "jobs=2")[0].folder == first
    others = [
        plan(*SPACE, "hydra.sweeper.seed=1")[0].folder,
        plan(*SPACE, "hydra.sweeper.objective=both")[0].folder,
        plan("beta=0.02,0.1", "optimizer.lr=interval(1e-5,1e-3)")[0].folder,
        plan(*SPACE, "seed=1")[0].folder,
    ]
    assert len({first, *others}) == 5


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (("hydra.sweeper.objective=reward",), "hydra.sweeper: kl_budget: objective=reward has a budget of the KL"),
        (("hydra.sweeper.trials=0",), "hydra.sweeper.trials: Input should be greater than or equal to 1 (got 0)"),
        (("hydra.sweeper.objective=best",), "hydra.sweeper.objective: Input should be 'objective', 'reward' or 'both'"),
        (("seeds=3",), "a search tries each point with one seed (seeds)"),
        (("evaluate.every=0",), "a search compares held-out evaluations (evaluate.every)"),
        (("hydra/launcher=basic",), "a search starts its trials itself, not by basic (hydra/launcher)"),
        (("hydra.sweeper.trials=${nope}",), "Interpolation key 'nope' not found"),
        (("samples_per_prompt=1",), "samples_per_prompt: algorithm=rloo compares the completions of a prompt"),
    ],
)
def test_mistakes_are_refused_with_nothing_made(argv: tuple[str, ...], reason: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        plan(*SPACE, *argv)
    assert reason in error.value.line()
    assert list(tmp_path.iterdir()) == []


def test_a_search_without_m_or_without_values_is_refused() -> None:
    with pytest.raises(UserError, match="a search needs values to choose from"):
        plan("beta=0.1")
    with pytest.raises(UserError, match="a search needs -m"):
        launch(["config=tiny", "hydra/sweeper=optuna"], pytest.fail, check=lambda config: None, sweep=pytest.fail)


def test_a_file_may_hold_the_settings_of_a_search_but_no_code(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("defaults: tiny\nhydra: {sweeper: {trials: 3, params: {beta: '0.02,0.1'}}}\n")
    argv = ("config=./mine.yaml", "-m", "hydra/sweeper=optuna", "optimizer.lr=interval(1e-5,1e-3)")
    found: list[SearchPlan] = []
    launch(
        argv,
        pytest.fail,
        check=lambda config: None,
        sweep=pytest.fail,
        search=lambda _, plan, of, launcher: found.append(plan),
    )
    assert found[0].settings.trials == 3
    assert [one.key for one in found[0].space] == ["beta", "optimizer.lr"]
    for bad in ({"_target_": "os.abort"}, {"trials": {"_target_": "os.abort"}}, {"trials": "${oc.env:HOME}"}):
        file.write_text(json.dumps({"defaults": ["tiny"], "hydra": {"sweeper": bad}}))
        with pytest.raises(UserError, match=r"hydra\.sweeper"):
            launch(argv, pytest.fail, check=lambda config: None, sweep=pytest.fail, search=pytest.fail)
    with pytest.raises(UserError, match="could run code"):
        plan(*SPACE, "hydra.sweeper._target_=os.abort")


def space(*overrides: str) -> tuple[Dimension, ...]:
    return read_space([*map(parse_override, overrides)])


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("optimizer.lr=1e-3,1e-4", Choice("optimizer.lr", ("0.001", "0.0001"))),
        ("beta='0.1','0.2'", Choice("beta", ("'0.1'", "'0.2'"))),
        ("kl=choice(reward,exact)", Choice("kl", ("reward", "exact"))),
        ("steps=range(4,9)", Interval("steps", 4, 8, False, 1, False)),
        ("steps=range(4,9,2)", Interval("steps", 4, 8, False, 2, False)),
        ("steps=range(8,3,-2)", Interval("steps", 4, 8, False, 2, False)),
        ("top_p=range(0.5,1,0.25)", Choice("top_p", ("0.5", "0.75"))),
        ("optimizer.lr=interval(1e-5,1e-3)", Interval("optimizer.lr", 1e-5, 1e-3, False, None, False)),
        ("optimizer.lr=tag(log,interval(1e-5,1e-3))", Interval("optimizer.lr", 1e-5, 1e-3, True, None, False)),
        ("beta=interval(0,0.3)", Interval("beta", 0.0, 0.3, False, None, True)),
        ("steps=int(interval(2,9))", Interval("steps", 2, 9, False, 1, False)),
    ],
)
def test_each_kind_of_sweep(override: str, expected: Dimension) -> None:
    (found,) = space(override)
    assert found == expected
    assert repr(found) == repr(expected)  # 4 is not 4.0


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        (("steps=3",), "a search needs values to choose from"),
        (("seed=1,2",), "a search chooses no seed"),
        (("steps=interval(3,3)",), "the first end has to be below the second"),
        (("beta=tag(log,interval(0,1))",), "log needs numbers above 0"),
    ],
)
def test_what_is_no_space_is_refused(overrides: tuple[str, ...], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        space(*overrides)


def test_points_keep_what_is_fixed_and_the_corners_show_every_value() -> None:
    overrides = [*map(parse_override, ("steps=3", "beta='0.1','0.2','0.5'", "optimizer.lr=interval(0.1,0.5)"))]
    assert [point(overrides, texts) for texts in corners(read_space(overrides))] == [
        ("steps=3", "beta='0.1'", "optimizer.lr=0.1"),
        ("steps=3", "beta='0.2'", "optimizer.lr=0.1"),
        ("steps=3", "beta='0.5'", "optimizer.lr=0.1"),
        ("steps=3", "beta='0.1'", "optimizer.lr=0.5"),
    ]


def test_numbers_are_short_but_never_outside() -> None:
    interval = Interval("x", 0.123456, 0.9, False, None, True)
    assert shorten(0.3333333, interval) == 0.3333
    assert shorten(0.1234561, Interval("x", 0.12346, 0.9, False, None, True)) == 0.1235
    assert shorten(0.8999999, Interval("x", 0.1, 0.89999995, False, None, True)) == 0.8999999
    assert interval.text(0.5) == "'0.5'"
