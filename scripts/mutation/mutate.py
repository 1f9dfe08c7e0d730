"""Mutation testing of the mathematics: python scripts/mutation/mutate.py [FILE ...] [--list] [--at FILE:LINE]

A mutant is a module with one small mistake: a sign, a bound, a forgotten term. The tests of the mathematics run against
each mutant. If they all pass, the mutant survives: either it is equivalent to the original, or a test is missing.
equivalent.txt lists the mutants that are known to be equivalent, with the reason. The exit code is 0 if exactly these
survive.

Importing torch takes longer than the tests, so this process imports every library once and forks for each mutant. It
never imports rlhf_cli itself: each fork does, and finds the mutant in the place of its module.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Final

import pytest
from hypothesis import Phase, settings
from mutants import ROOT, Mutant, mutants

ROOMS: Final = ("functional", "algorithms", "schedules", "evaluation")
TESTS: Final = (
    *(f"tests/unit/{room}" for room in ROOMS),
    *(f"tests/unit/pipeline/test_{name}.py" for name in ("update", "scoring", "step", "measures")),
    "tests/unit/engine/test_reading.py",
    "tests/properties",
    "--ignore-glob=*/test_files.py",
    "--ignore-glob=*/test_data.py",
    "--ignore-glob=*/test_thresholds.py",  # half a minute, and what it notices the exact gradients notice first
)
EQUIVALENT: Final = ROOT / "scripts" / "mutation" / "equivalent.txt"
SECONDS: Final = 60
"""More than that beyond three times what the tests take without a mutant: it does not end, and counts as killed."""


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


class NoShrinking:
    """A pytest plugin that turns off hypothesis' search for the smallest failing example."""

    def pytest_sessionstart(self) -> None:
        """Set it after conftest.py has chosen its profile, and before any test is imported."""
        settings.register_profile("mutate", settings(), phases=(Phase.explicit, Phase.generate))
        settings.load_profile("mutate")


def run_tests(
    tests: Sequence[str], mutant: Mutant | None = None, seconds: int = 0, imported: Path | None = None
) -> bool:
    """Whether the tests pass in a fork, within `seconds` (0: no limit). The fork writes its modules to `imported`."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == 0
    status = 1
    try:
        signal.alarm(seconds)
        options = ["-x", "-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
        if mutant:
            sys.meta_path.insert(0, Mutated(mutant))
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
            options.append("--tb=no")
        status = pytest.main([*options, *tests], plugins=[NoShrinking()])
        if imported:
            imported.write_text("\n".join(sys.modules), encoding="utf-8")
    except BaseException:  # a mistake in this script: the fork must not go on as if it were its parent
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(status)


def survives(mutant: Mutant, seconds: int) -> bool:
    """Whether all tests pass with the mutant; the module's own run first, since they are quick and likely to fail."""
    _, room, *_, name = Path(mutant.file).parts
    folder = f"tests/unit/{room}"
    own = f"{folder}/test_{name}" if (ROOT / folder / f"test_{name}").exists() else folder
    return run_tests([own], mutant, seconds) and run_tests(TESTS, mutant, seconds)


def prepare() -> float:
    """Run the tests without a mutant, import the libraries that they need, and return the seconds of a second run."""
    with tempfile.TemporaryDirectory() as folder:
        imported = Path(folder) / "imported"
        if not run_tests(TESTS, imported=imported):
            sys.exit("error: the tests do not pass as they are; fix: mend them first")
        for name in imported.read_text(encoding="utf-8").split("\n"):
            if name.partition(".")[0] not in ("rlhf_cli", "tests", "conftest", "__main__", "_hypothesis_pytestplugin"):
                with suppress(ImportError):
                    importlib.import_module(name)
    assert "rlhf_cli" not in sys.modules, "the forks would not see their mutants"
    gc.freeze()
    began = time.monotonic()
    run_tests(TESTS)
    return time.monotonic() - began


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


def main() -> int:
    """Try the mutants and print those that survive."""
    parser = argparse.ArgumentParser(description="Find mistakes that no test would notice.")
    parser.add_argument("files", nargs="*", help="modules to mutate; all of the mathematics by default")
    parser.add_argument("--list", action="store_true", help="only list the mutants")
    parser.add_argument("--at", metavar="FILE:LINE", help="only the mutants of this line")
    chosen = parser.parse_args()
    at_file, _, at_line = (chosen.at or "").rpartition(":")
    paths = [Path(name).resolve() for name in [*chosen.files, at_file] if name] or sorted(
        path for room in ROOMS for path in (ROOT / "rlhf_cli" / room).glob("*.py")
    )
    files = [str(path.relative_to(ROOT)) for path in paths]
    every = [mutant for file in files for mutant in mutants(file)]
    known = known_equivalents(files)
    stale = known - {mutant.key for mutant in every}
    tried = [mutant for mutant in every if not at_line or mutant.line == int(at_line)]
    if chosen.list:
        print(*(f"{mutant.file}:{mutant.line}  {mutant.text}" for mutant in tried), sep="\n")
        return 0

    os.chdir(ROOT)
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    sys.path.insert(0, str(ROOT))
    usual = prepare()
    print(f"{len(tried)} mutants; the tests take {usual:.1f} s", flush=True)
    began, survivors = time.monotonic(), []
    for mutant in tried:
        if survives(mutant, SECONDS + 3 * int(usual)):
            survivors.append(mutant)
            if mutant.key not in known:
                print(f"{mutant.file}:{mutant.line}  {mutant.text}", flush=True)
    seconds = time.monotonic() - began
    stale |= (known & {mutant.key for mutant in tried}) - {mutant.key for mutant in survivors}
    for file, text in sorted(stale):
        print(f"{EQUIVALENT.name}: killed, or no longer there: {file} | {text}")
    unknown = [mutant for mutant in survivors if mutant.key not in known]
    print(
        f"killed {len(tried) - len(survivors)}, survived {len(survivors)}, of them known to be equivalent "
        f"{len(survivors) - len(unknown)}; {seconds:.0f} s, {seconds / max(len(tried), 1):.1f} s a mutant"
    )
    return 1 if unknown or stale else 0


if __name__ == "__main__":
    sys.exit(main())
