"""launch: trials are handed to the sweep, complete."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rlhf_cli.config.jobs import compose_config
from rlhf_cli.config.launch import Launch, RunTrials, launch
from rlhf_cli.sweep.record import SweepRecord

from .conftest import accept, not_started

Started = Callable[..., list[Launch]]
Refused = Callable[..., str]


def test_our_launcher_hands_all_trials_over_at_once(cwd: Path) -> None:
    given: list[SweepRecord | Sequence[Launch]] = []

    @contextmanager
    def opened(sweep: SweepRecord) -> Iterator[RunTrials]:
        given.append(sweep)
        yield lambda launches, launcher: given.append(launches)
        given.append([])

    argv = ["config=tiny", "-m", "beta=0.1,0.2", "seeds=2", "data.path='a b'", "data=jsonl"]
    launch(argv, not_started, check=accept, sweep=opened)
    sweep, trials, last = given
    assert isinstance(sweep, SweepRecord)
    assert last == []
    assert sweep.command == "rlhf train config=tiny -m beta=0.1,0.2 seeds=2 'data.path='\"'\"'a b'\"'\"'' data=jsonl"
    folders = [Path(str(trial.config.run_dir)) for trial in trials]
    assert folders == [sweep.path(trial) for trial in sweep.trials]
    assert [trial.told for trial in sweep.trials] == [
        {"beta": beta, "seed": seed} for beta in ("0.1", "0.2") for seed in ("0", "1")
    ]
    # what a trial's process is given composes the same config, and is one run
    for trial in trials:
        first, *rest = trial.arguments
        assert first == "train"
        alone = compose_config(rest)
        assert alone.model_copy(update={"seeds": 2, "display": "auto"}) == trial.config
