"""Mutation testing, room by room: mutate.py [ROOM|FILE ...] [--list] [--at FILE:LINE] [--workers N]

A mutant is a module with one small mistake: a sign, a bound, a forgotten term. The tests of its room run against each
mutant. If they all pass, the mutant survives: either it is equivalent to the original, or a test is missing.
equivalent.txt lists the mutants that are known to be equivalent, with the reason. The exit code is 0 if exactly these
survive.

Importing torch takes longer than the tests, so this process imports every library once and forks for each mutant. It
never imports rlhf_cli itself: each fork does, and finds the mutant in the place of its module. A process that a test
starts afresh finds the original. Most mutants die sooner: those in a function are tried first by a process that has
collected the room's unit tests, in forks of it that swap the function's code.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Final

import pytest
from _pytest.runner import runtestprotocol
from hypothesis import Phase, settings
from mutants import ROOT, Mutant, mutants
from swap import swap_functions

OF_A_STEP: Final = (
    "tests/unit/algorithms",
    *(f"tests/unit/pipeline/test_{name}.py" for name in ("update", "scoring", "step", "measures")),
    "tests/properties",
    "--ignore-glob=*/test_files.py",
    "--ignore-glob=*/properties/test_data.py",
    "--ignore-glob=*/test_thresholds.py",  # half a minute, and what it notices the exact gradients notice first
)
ROOMS: Final = {
    "functional": (*OF_A_STEP, "tests/unit/engine/test_reading.py"),
    "algorithms": OF_A_STEP,
    "schedules": ("tests/properties/test_schedules.py",),
    "evaluation": ("tests/properties/test_functional.py",),
    "prompts": (
        "tests/unit/data/test_labelled.py",
        *(f"tests/unit/supervised/test_{name}.py" for name in ("examples", "texts")),
        "tests/unit/commands/parts/test_chatting.py",
        "tests/integration/test_data.py",
    ),
    "data": (
        "tests/unit/prompts",
        "tests/unit/supervised/test_lessons.py",
        "tests/properties/test_data.py",
        "tests/integration/test_data.py",
        "--ignore-glob=*/test_large.py",  # seconds
    ),
    "sweep": (
        "tests/unit/display/test_sweep.py",
        "tests/unit/report/test_sweep_page.py",
        "tests/unit/commands/parts/test_sweeping.py",
        "tests/unit/config/test_growth.py",
    ),
    "verify": ("tests/integration/test_check.py",),
    "runs": ("tests/unit/pipeline/test_record.py",),
    "health": ("tests/unit/scripts/test_alarms.py", "tests/integration/test_doctor.py"),
}
"""The rooms that have mutants, and the tests beside tests/unit/ROOM that notice them."""
EQUIVALENT: Final = ROOT / "scripts" / "mutation" / "equivalent.txt"
SECONDS: Final = 900
"""Of the tests of a room beyond which they do not end, and the mutant counts as killed."""
SECONDS_A_TEST: Final = 12
"""CPU seconds of a single test beyond which it does not end either: a loop is noticed long before the alarm."""
MEMORY: Final = 8 * 2**30
"""Bytes of data that a mutant may have: a loop that forgets its end must not take the machine with it."""


class Mutated(SourceFileLoader):
    """An import finder, asked before all others, that serves the mutant in the place of its module."""

    def __init__(self, mutant: Mutant) -> None:
        name = mutant.file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        super().__init__(name, str(ROOT / mutant.file))
        self.mutant = mutant

    def find_spec(self, name: str, path: object = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Find the mutant, if its module is wanted."""
        return spec_from_file_location(name, self.path, loader=self) if name == self.name else None

    def get_code(self, fullname: str) -> CodeType:
        """Compile the mutant's source, without a cache."""
        return compile(self.mutant.source, self.path, "exec", dont_inherit=True)


class Impatience:
    """A pytest plugin that ends a test which takes too long, and asks hypothesis for no smaller failing example."""

    def pytest_sessionstart(self) -> None:
        """Set hypothesis' profile after conftest.py has chosen its own, and before any test is imported."""
        settings.register_profile("mutate", settings(), phases=(Phase.explicit, Phase.generate))
        settings.load_profile("mutate")
        self.pytest_runtest_logstart()

    def pytest_runtest_logstart(self) -> None:
        """Wind up the clock that ends this process; importing the tests has a time of its own."""
        signal.setitimer(signal.ITIMER_PROF, SECONDS_A_TEST)


class Trials:
    """A pytest plugin that runs the collected tests against each mutant, in a fork that swaps its functions' code."""

    def __init__(self, tried: Sequence[Mutant], workers: int, survivors: Path) -> None:
        self.tried, self.workers, self.survivors = tried, workers, survivors

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Write the places of the survivors, one a line."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        places = {mutant: place for place, mutant in enumerate(self.tried)}
        with self.survivors.open("w", encoding="utf-8") as lines:
            for mutant in find_survivors(self.tried, self.workers, lambda mutant: self._survives(mutant, session)):
                print(places[mutant], file=lines, flush=True)
        return True

    def _survives(self, mutant: Mutant, session: pytest.Session) -> bool:
        name = mutant.file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        signal.alarm(SECONDS)
        try:
            swap_functions(importlib.import_module(name), mutant.source)
        except Exception:  # a function that cannot be swapped, or a module that is none
            return True  # the slow way decides
        own = f"test_{Path(mutant.file).name}"
        items = sorted(session.items, key=lambda item: item.path.name != own)
        for item, following in zip(items, [*items[1:], None], strict=True):
            signal.setitimer(signal.ITIMER_PROF, SECONDS_A_TEST)
            if any(report.failed for report in runtestprotocol(item, log=False, nextitem=following)):
                return False
        return True


def run_tests(
    tests: Sequence[str],
    mutant: Mutant | None = None,
    seconds: int = 0,
    imported: Path | None = None,
    trials: Trials | None = None,
) -> bool:
    """Whether the tests pass in a fork, within `seconds` (0: no limit). The fork writes its modules to `imported`."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == 0
    status = 1
    try:
        signal.alarm(seconds)
        options = [
            "-x",
            "-q",
            "-m",
            "not slow",
            "-p",
            "no:cacheprovider",
            "-W",
            "ignore::pytest.PytestAssertRewriteWarning",
        ]
        if mutant:
            sys.meta_path.insert(0, Mutated(mutant))
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
            options.append("--tb=no")
        status = pytest.main([*options, *tests], plugins=[Impatience(), *filter(None, [trials])])
        if imported:
            imported.write_text("\n".join(sys.modules), encoding="utf-8")
    except BaseException:  # a mistake in this script: the fork must not go on as if it were its parent
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(status)


def tests_of(room: str) -> list[str]:
    """The tests that notice the mutants of a room, as pytest takes them."""
    return [f"tests/unit/{room}", *ROOMS[room]]


def survives(mutant: Mutant) -> bool:
    """Whether all tests pass with the mutant; the module's own run first, since they are quick and likely to fail."""
    room, name = room_of(mutant.file), Path(mutant.file).name
    own = f"tests/unit/{room}/test_{name}"
    return (not (ROOT / own).exists() or run_tests([own], mutant, SECONDS)) and run_tests(
        tests_of(room), mutant, SECONDS
    )


def find_survivors(tried: Sequence[Mutant], workers: int, is_alive: Callable[[Mutant], bool]) -> Iterator[Mutant]:
    """Yield the mutants that survive, `workers` at a time; what a mutant's tests leave running ends with them."""
    waiting, running = list(reversed(tried)), dict[int, Mutant]()
    try:
        while waiting or running:
            if waiting and len(running) < workers:
                mutant, process = waiting.pop(), os.fork()
                if not process:
                    os.setsid()
                    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
                    status = 1
                    with suppress(BaseException):  # a mistake that no test sees before it is one
                        status = not is_alive(mutant)
                    os._exit(status)
                running[process] = mutant
                continue
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
            assert ended is not None
            mutant = running.pop(ended.si_pid)
            os.killpg(ended.si_pid, signal.SIGKILL)  # while it waits to be collected, its number is nobody else's
            if os.waitpid(ended.si_pid, 0)[1] == 0:
                yield mutant
    finally:
        for process in running:
            os.killpg(process, signal.SIGKILL)


def prepare(tests: Sequence[str]) -> None:
    """Run the tests without a mutant, and import the libraries that they need."""
    with tempfile.TemporaryDirectory() as folder:
        imported = Path(folder) / "imported"
        if not run_tests(tests, imported=imported):
            sys.exit("error: the tests do not pass as they are; fix: mend them first")
        for name in imported.read_text(encoding="utf-8").split("\n"):
            if name.partition(".")[0] not in ("rlhf_cli", "tests", "conftest", "__main__", "_hypothesis_pytestplugin"):
                with suppress(ImportError):
                    importlib.import_module(name)
    assert "rlhf_cli" not in sys.modules, "the forks would not see their mutants"
    gc.freeze()


def try_quickly(room: str, tried: Sequence[Mutant], workers: int) -> list[Mutant]:
    """The mutants in functions that the unit tests of their room do not notice."""
    with tempfile.TemporaryDirectory() as folder:
        survivors = Path(folder) / "survivors"
        if not run_tests([f"tests/unit/{room}"], trials=Trials(tried, workers, survivors)):
            sys.exit(f"error: the tests of {room} could not be collected")
        return [tried[int(line)] for line in survivors.read_text(encoding="utf-8").split()]


def known_equivalents(files: Sequence[str]) -> set[tuple[str, str]]:
    """The mutants in the list that belong to one of the files, by key."""
    lines = EQUIVALENT.read_text(encoding="utf-8").splitlines()
    keys = set()
    for line in lines:
        file, _, rest = line.partition(" | ")
        text, _, reason = rest.rpartition(" | ")
        if not (text and reason):
            sys.exit(f"error: {EQUIVALENT.name}: not `file | original -> mutant | reason`: {line}")
        keys.add((file, text))
    return {key for key in keys if key[0] in files}


def room_of(file: str) -> str:
    """The room of a module, which is the first folder below rlhf_cli."""
    return Path(file).parts[1]


def files_of(names: Sequence[str]) -> list[str]:
    """The modules that rooms consist of, and modules by path, each from the root of the repository."""
    paths: list[Path] = []
    for name in names:
        room = ROOT / "rlhf_cli" / name
        paths += sorted(room.glob("*.py")) if name in ROOMS else [Path(name).resolve()]
    files = [str(path.relative_to(ROOT)) for path in paths]
    for file in files:
        if not (ROOT / file).is_file() or room_of(file) not in ROOMS:
            sys.exit(f"error: {file}: no module of {', '.join(ROOMS)}; fix: name one, or a room")
    return files


def main() -> int:
    """Try the mutants and print those that survive."""
    parser = argparse.ArgumentParser(description="Find mistakes that no test would notice.")
    parser.add_argument("names", nargs="*", help="rooms or modules to mutate; every room by default")
    parser.add_argument("--list", action="store_true", help="only list the mutants")
    parser.add_argument("--at", metavar="FILE:LINE", help="only the mutants of this line")
    parser.add_argument("--unknown", action="store_true", help="without those that are known to be equivalent")
    parser.add_argument("--workers", type=int, default=1, help="mutants to try at a time")
    chosen = parser.parse_args()
    at_file, _, at_line = (chosen.at or "").rpartition(":")
    files = files_of([at_file] if at_file else chosen.names or list(ROOMS))
    every = [mutant for file in files for mutant in mutants(file)]
    known = known_equivalents(files)
    stale = known - {mutant.key for mutant in every}
    tried = [mutant for mutant in every if not at_line or mutant.line == int(at_line)]
    if chosen.unknown:
        tried = [mutant for mutant in tried if mutant.key not in known]
    if chosen.list:
        print(*(f"{mutant.file}:{mutant.line}  {mutant.text}" for mutant in tried), sep="\n")
        return 0

    os.chdir(ROOT)
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    sys.path.insert(0, str(ROOT))
    rooms = list(dict.fromkeys(map(room_of, files)))
    began, survivors = time.monotonic(), list[Mutant]()
    for room in rooms:
        own = [mutant for mutant in tried if room_of(mutant.file) == room]
        prepare(tests_of(room))
        alive = try_quickly(room, [mutant for mutant in own if mutant.in_function], chosen.workers)
        print(f"{room}: {len(own)} mutants, {len(alive)} of those in functions survive its unit tests", flush=True)
        left = [mutant for mutant in own if not mutant.in_function] + alive
        for mutant in find_survivors(left, chosen.workers, survives):
            survivors.append(mutant)
            if mutant.key not in known:
                print(f"{mutant.file}:{mutant.line}  {mutant.text}", flush=True)
    seconds = time.monotonic() - began
    stale |= (known & {mutant.key for mutant in tried}) - {mutant.key for mutant in survivors}
    for file, text in sorted(stale):
        print(f"{EQUIVALENT.name}: killed, or no longer there: {file} | {text}")
    for room in rooms:
        count, alive = (sum(room_of(mutant.file) == room for mutant in some) for some in (tried, survivors))
        equivalent = sum(room_of(mutant.file) == room and mutant.key in known for mutant in survivors)
        print(
            f"{room}: {count} mutants, {count - alive} killed, {equivalent} known to be equivalent, "
            f"{alive - equivalent} survive"
        )
    print(f"{seconds:.0f} s, {seconds / max(len(tried), 1):.1f} s a mutant")
    return 1 if stale or any(mutant.key not in known for mutant in survivors) else 0


if __name__ == "__main__":
    sys.exit(main())
