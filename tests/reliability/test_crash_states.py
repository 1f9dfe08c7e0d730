"""A save cut short at every one of its operations, in every way: a valid checkpoint is there, and none was lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from rlhf_cli.errors import EXIT_DISK
from rlhf_cli.models.policy import Policy
from rlhf_cli.pipeline import saving
from rlhf_cli.pipeline.saving import SaveFailed, Saver
from rlhf_cli.pipeline.state import Best, TrainState
from rlhf_cli.runs.checkpoint import find_newest, list_checkpoints, step_of, why_invalid
from rlhf_cli.runs.disk import Disk
from rlhf_cli.runs.logbook import JsonlLog, Mark
from rlhf_cli.schema import Checkpoint
from tests.reliability.crashing import CrashingDisk, Fault, Killed, QuickDisk
from tests.unit.support import build, tiny

CUTS = [{"empty": empty, "undo": undo} for empty, undo in product([True, False], repeat=2)]
POWER: tuple[dict[str, bool] | None, ...] = (None, *CUTS)
"""What happens after the kill: nothing more, or a power cut that loses what was not synced."""


@pytest.fixture(scope="module")
def trained() -> tuple[Policy, torch.optim.AdamW]:
    """Something small to save, moments included."""
    policy = build(tiny(layers=1, target_modules=["q_proj"]))
    optimizer = torch.optim.AdamW(policy.parameters().values(), lr=0.01)
    for parameter in policy.parameters().values():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return policy, optimizer


@pytest.fixture(autouse=True, scope="module")
def serialised_once() -> Iterator[None]:
    """The same state is the same bytes: they are made once, and written hundreds of times."""
    made: dict[str, dict[str, bytes]] = {}

    def serialise(state: TrainState, *what: Any) -> dict[str, bytes]:
        if repr(state) not in made:
            made[repr(state)] = plain(state, *what)
        return made[repr(state)]

    plain = saving.serialise
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(saving, "serialise", serialise)
        yield


class Run:
    """A run in a folder, and how it goes on."""

    def __init__(self, folder: Path, trained: tuple[Policy, torch.optim.AdamW]) -> None:
        self.folder, self.trained, self.notes = folder, trained, list[str]()
        self.log = JsonlLog(folder / "metrics.jsonl")

    def save(self, step: int, disk: Disk, *, needed: bool = True, keep: int = 2, failures: int = 0) -> Saver:
        self.log.write({"step": step})
        settings = Checkpoint(every=2, keep=keep, keep_best=True, max_failures=3)
        saver = Saver(self.folder, settings, self.notes.append, disk, failures)
        logs: dict[str, Mark] = {"metrics": self.log.mark()}
        saver.save(TrainState(step=step, best=Best(2, 1.0, 0.0), logs=logs), *self.trained, lambda: None, needed=needed)
        return saver

    @property
    def steps(self) -> list[int]:
        return [
            step_of(folder) for folder in list_checkpoints(self.folder / "checkpoints") if why_invalid(folder) is None
        ]


@pytest.fixture(scope="module")
def begun(trained: tuple[Policy, torch.optim.AdamW], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with checkpoints of the steps 2 (the best) and 4, two being kept; leave it as it is."""
    run = Run(tmp_path_factory.mktemp("begun"), trained)
    for step in (0, 2, 4):
        run.save(step, QuickDisk())
    run.log.close()
    return run.folder


@pytest.fixture
def copy(begun: Path, trained: tuple[Policy, torch.optim.AdamW], tmp_path: Path) -> Iterator[Callable[[], Run]]:
    """Copies of that run, each in a folder of its own."""
    copies: list[Run] = []

    def another() -> Run:
        copies.append(Run(shutil.copytree(begun, tmp_path / str(len(copies))), trained))
        return copies[-1]

    yield another
    for run in copies:
        run.log.close()


def operations(run: Run, step: int) -> int:
    """How many a save has."""
    disk = CrashingDisk(at=10**9, fault="fails")
    run.save(step, disk)
    return disk.done


@pytest.mark.case(15)
@pytest.mark.parametrize(
    ("fault", "keep"), [("fails", 1), ("fails for good", 2), ("killed", 1), ("killed", 2), ("torn", 2)]
)
def test_cut_short_anywhere(fault: Fault, keep: int, copy: Callable[[], Run]) -> None:
    whole = copy()
    count = operations(whole, 6)
    assert whole.steps == [6, 4, 2]
    assert count > 15
    states = 0
    powers = (
        (None,) if fault.startswith("fails") else POWER if (fault, keep) == ("killed", 2) else POWER[:2]
    )  # tidying up loses nothing more
    for at, power in product(range(count), powers):
        run = copy()
        disk, acknowledged = CrashingDisk(at, fault), False
        try:
            run.save(6, disk, keep=keep)
            acknowledged = True
        except (Killed, SaveFailed):
            pass
        if power is not None:
            disk.cut_power(**power)
        states += 1
        newest = find_newest(run.folder / "checkpoints").folder
        assert newest is not None, (at, power)
        assert step_of(newest) in ((6,) if acknowledged else (4, 6)), (at, power)
        assert 2 in run.steps, (at, power)  # the best
        for step in (6, 8):  # and whatever was left behind is in nobody's way
            run.save(step, QuickDisk(), keep=keep)
            assert run.steps[0] == step, (at, power)
        assert run.steps == [*[8, 6][:keep], 2], (at, power)
        assert not [path for path in (run.folder / "checkpoints").glob(".*") if not path.name.startswith(".bad-")]
    assert states == count * len(powers)


@pytest.mark.case(17)
@pytest.mark.parametrize("fault", ["killed", "torn"])
def test_with_one_kept_the_older_one_stays_until_the_new_one_is_whole(fault: Fault, copy: Callable[[], Run]) -> None:
    seen = set()
    for at in range(40):
        run = copy()
        try:
            run.save(6, CrashingDisk(at, fault), keep=1)
        except Killed:
            seen.add(tuple(step for step in run.steps if step > 2))
    assert seen == {(4,), (6, 4), (6,)}  # never none


@pytest.mark.case(32)
def test_a_full_disk_is_borne_named_and_forgotten_once_there_is_room(copy: Callable[[], Run]) -> None:
    run = copy()
    full = CrashingDisk(0, "fails for good")
    assert run.save(6, full, needed=False).failures == 1
    assert run.notes == [
        "the checkpoint of step 6 cannot be written: No space left on device; the run goes on and tries again at the "
        "next one; newest valid checkpoint: step 4"
    ]
    with pytest.raises(SaveFailed) as caught:
        run.save(8, full, needed=False, failures=2)
    assert caught.value.exit_code == EXIT_DISK
    assert caught.value.what == (
        "the checkpoint of step 8 cannot be written: No space left on device, as 3 times in a row"
    )
    with pytest.raises(SaveFailed, match="the checkpoint of step 8 cannot be written"):
        run.save(8, full, needed=True)
    assert run.save(10, QuickDisk(), needed=False, failures=2).failures == 0
    assert run.steps == [10, 4, 2]


@pytest.mark.case(32)
def test_what_cannot_be_tidied_up_does_not_stop_a_run(copy: Callable[[], Run]) -> None:
    run = copy()

    class Sticky(Disk):
        def remove(self, folder: Path) -> None:
            raise PermissionError(13, "Permission denied")

    assert run.save(6, Sticky(), keep=1).failures == 0
    assert run.notes == ["step 6 is saved, but the checkpoints cannot be tidied up: Permission denied"]
    assert run.steps == [6, 2]


@pytest.mark.case(43)
@pytest.mark.parametrize("moments", [False, True])
def test_what_is_not_finite_is_never_published(moments: bool, copy: Callable[[], Run]) -> None:
    run = copy()
    policy, optimizer = run.trained
    parameter = next(iter(policy.parameters().values()))
    tensor = optimizer.state[parameter]["exp_avg"] if moments else parameter.data
    before = tensor.clone()
    tensor.view(-1)[3] = torch.nan
    try:
        with pytest.raises(SaveFailed, match=r"^the weights after step 6 are not finite") as caught:
            run.save(6, QuickDisk(), needed=False)
    finally:
        tensor.copy_(before)
    assert caught.value.exit_code == 7
    assert run.steps == [4, 2]


def test_the_crashing_disk_crashes(copy: Callable[[], Run]) -> None:
    """The enumeration means something: without fsync, a power cut would have lost an acknowledged checkpoint."""

    class Careless(CrashingDisk):
        def sync(self, path: Path) -> None:
            """Nothing."""

    run, disk = copy(), Careless(10**9, "killed")
    run.save(6, disk)
    disk.cut_power(empty=True, undo=False)
    assert 6 not in run.steps
