"""Kill random processes of runs on several, resume each on another number of them, compare every byte:
scripts/kills --ranks [--kills N] [--seed S] [K=V]

Every process is a fork of this one, which has imported everything and made a run. A run has four shards and two to four
processes; one of them, drawn, gets kill -9 at an instant of a step that is drawn. Where that is not the first process
the run has to end by itself, with the exit code of one that can go on. Then it is resumed on one to four processes,
in every third case killed once more, and compared with the run that nothing disturbed, on one process.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import kills
import psutil

STEPS: Final = 8
SETTINGS: Final = (*kills.PRESETS["tiny"], f"steps={STEPS}", "evaluate.every=4", "shards=4", "threads=1")
SIZES: Final = (2, 3, 4)
ENDS_S: Final = 60.0
"""Longest time until a run has ended that lost a process."""
RESUMABLE: Final = (75, 130)
"""Exit codes of a run that can go on, and of one that had no checkpoint yet."""


@dataclass
class Attempt:
    """A run that is killed, and the text of what happened."""

    setup: tuple[str, ...]
    folder: Path
    draws: random.Random
    told: list[str] = field(default_factory=list)

    def begin(self, size: int) -> Any:
        """Start or resume the run on `size` processes."""
        from tests.processes import start

        return start("train", *self.setup, f"processes={size}", f"run_dir={self.folder}", "resume=auto", cwd=Path())

    def kill(self, size: int, step_s: float) -> str | None:
        """Kill one of `size` processes within a step of `step_s` seconds; say what was wrong, if anything was."""
        began, process, rank = time.time(), self.begin(size), self.draws.randrange(size)
        self._wait(process, self.draws.randint(0, STEPS))
        time.sleep(self.draws.uniform(0, step_s))
        members = _members(process, size)
        if len(members) <= rank:
            rank = 0  # the others have not been started, or have ended
        doing = kills.phase(self.folder, began)
        _kill(members[rank] if members else process.pid)
        try:
            _, err = process.communicate(timeout=ENDS_S)
        except subprocess.TimeoutExpired:
            return f"it had not ended {ENDS_S:g} s after rank {rank} was killed"
        if process.returncode == 0:
            return None
        self.told.append(f"rank {rank} of {size} {doing}")
        if process.returncode not in ((-signal.SIGKILL,) if rank == 0 else RESUMABLE):
            return f"exit code {process.returncode}: {err[-500:]}"
        _, alive = psutil.wait_procs(_running(members), timeout=ENDS_S)
        return f"{len(alive)} processes outlived the run" if alive else None

    def _wait(self, process: Any, lines: int) -> None:
        """Wait until the run has written so many lines of metrics, or has ended."""
        metrics = self.folder / "metrics.jsonl"
        while (
            process.poll() is None and lines and not (metrics.is_file() and metrics.read_bytes().count(b"\n") >= lines)
        ):
            time.sleep(0.01)

    def finish(self, size: int) -> str | None:
        """Let the run come to its end on `size` processes; say what was wrong, if anything was."""
        process = self.begin(size)
        _, err = process.communicate()
        self.told.append(f"ended on {size}")
        return f"exit code {process.returncode}: {err[-500:]}" if process.returncode else None

    def run(self, step_s: float, *, twice: bool) -> str | None:
        """Kill the run, resume it and let it end; say what was wrong, if anything was."""
        while not self.told:
            shutil.rmtree(self.folder, ignore_errors=True)  # it was over before it could be killed
            if wrong := self.kill(self.draws.choice(SIZES), step_s):
                return wrong
        if twice and (wrong := self.kill(self.draws.choice(SIZES), step_s)):
            return wrong
        return self.finish(self.draws.randint(1, SIZES[-1]))


def _members(process: Any, size: int) -> list[int]:
    """The ids of the run's processes by rank: the first starts the others in this order, before anything else."""
    try:
        others = [one.pid for one in psutil.Process(process.pid).children()]
    except psutil.NoSuchProcess:
        return []
    return [process.pid, *sorted(others)[: size - 1]]


def _kill(number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(number, signal.SIGKILL)


def _running(members: list[int]) -> list[psutil.Process]:
    """The processes of these ids that are there."""
    found = []
    for number in members:
        with suppress(psutil.NoSuchProcess):
            found.append(psutil.Process(number))
    return found


def main() -> int:
    """Kill, resume and compare runs, and print a line for each."""
    parser = argparse.ArgumentParser(description="Kill random processes of runs, resume them, and compare every byte.")
    parser.add_argument("--ranks", action="store_true", help="what this script does (scripts/kills has another)")
    parser.add_argument("--kills", type=int, default=20, metavar="N", help="runs that are killed (default 20)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="of the instants, the ranks and the numbers")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings of the runs")
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    sys.path.insert(0, str(Path(__file__).parents[2]))
    root = Path(tempfile.mkdtemp(prefix="rlhf-rank-kills-"))
    os.chdir(root)

    wholes = []
    for number, algorithm in enumerate(kills.ALGORITHMS):
        setup = (*SETTINGS, *algorithm, *options.overrides)
        whole, begun = Attempt(setup, root / f"whole-{number}", random.Random()), time.monotonic()
        if wrong := whole.finish(1):
            sys.exit(f"error: {wrong}")
        wholes.append((setup, kills.read(whole.folder), (time.monotonic() - begun) / STEPS))
    print(f"{'':>4}  {'':<9}  {'killed, and on how many processes it ended':<90}", flush=True)

    def try_one(number: int, folder: Path) -> tuple[str, str | None]:
        setup, files, step_s = wholes[number % len(wholes)]
        attempt = Attempt(setup, folder, random.Random(f"{options.seed}/{number}"))
        wrong = attempt.run(step_s, twice=number % 3 == 0) or kills.find_difference(files, kills.read(folder))
        name = kills.ALGORITHMS[number % len(wholes)][0].partition("=")[2]
        return f"{name:<9}  {'; '.join(attempt.told):<90}", wrong

    return kills.try_all(root, options.kills, try_one)


if __name__ == "__main__":
    sys.exit(main())
