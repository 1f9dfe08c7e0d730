"""Run tests/reliability and write docs/reliability.md: python scripts/crashes/reliability.py [--cases]

A test says by `@pytest.mark.case(number)` which of the fifty cases it shows. The page is written only if every case has
a test and none of them fails.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs" / "reliability.md"
WORST: Final = ("failed", "skipped", "passed")

TEXT: Final = """\
# Kill it anywhere

Kill a run at any instant: `kill -9`, out of memory, a power cut, a full disk. `rlhf train resume=RUN` continues from
the newest checkpoint that verifies, and every later line of metrics.jsonl, every completion and the final adapter are
byte for byte those of the run that was never interrupted: on a CPU, on the same machine type, with the same library
versions, the same config and a reward that gives the same completion the same score. Whatever cannot be continued so
is refused, in one line.

How that is done: everything random is a pure function of the seed and what it is for
([`seeding.py`](../rlhf_cli/seeding.py)), so there is no generator to save; a checkpoint is written aside, hashed,
synced and published by one rename ([`checkpoint.py`](../rlhf_cli/runs/checkpoint.py)); what a run is at the end
of a step is exactly what a checkpoint holds ([`state.py`](../rlhf_cli/pipeline/state.py)).

To see it on a run of your own: `rlhf verify-resume RUN` resumes it from its last checkpoint but one in a temporary
folder, and compares what comes out, bit for bit.

## On a cluster

    #SBATCH --signal=B:USR1@120 --requeue
    exec rlhf train config=./my-run.yaml run_dir=runs/one resume=auto time_limit=11h50m

SIGUSR1, SIGTERM and the time limit save the last complete step and exit with 75; `resume=auto` starts the run or goes
on with it; with nothing left to do it exits with 0.

## Two hundred kills

`scripts/kills --kills 200 --seed 1`, 2026-11-22, 2 CPU cores: two hundred runs of 24 steps (PPO, and REINFORCE with a
running baseline and a beta that follows the KL) killed by `kill -9`: at an instant drawn uniformly over the run, within
30 ms after a checkpoint appeared, or while one was being written; every third killed once more while it was resumed.
200 of 200 came out byte for byte as the undisturbed run: metrics, completions, evaluations, result, adapter. Likewise
10 of 10 with SmolLM2-135M-Instruct (`scripts/kills --preset sentiment --kills 10 --seed 1`).

## What is not promised

- On a GPU, and in bfloat16, nothing has been measured yet.
- A reward has to be a function of what it is given (the generators of `random`, numpy and torch are seeded before every
  call): what it keeps in variables of its own is not saved.
- Where memory runs out, the smaller microbatches round differently; a run resumed from before that instant repeats it
  only if the memory runs out again. The gradient is the same up to rounding.
- Bytes are compared on one machine with one set of libraries. What differs is said on resume, and the run continues.
- Texts are written to files as they came; on a terminal control characters are shown as `·`.

## The fifty cases

{rows}

Shown by {tests} tests in {seconds:.0f} s on {date}, by `scripts/reliability` (which writes this page):
{machine}.
The tests are in [tests/reliability](../tests/reliability/scorecard.py).
"""


@dataclass
class Shown:
    """What the tests of one case came to."""

    tests: set[str] = field(default_factory=set)
    """Node ids."""
    outcomes: set[str] = field(default_factory=set)
    seconds: float = 0.0

    @property
    def where(self) -> str:
        """How many there are, by file."""
        files = Counter(Path(test.partition("::")[0]).name for test in self.tests)
        return ", ".join(f"{count} in {file}" for file, count in sorted(files.items()))

    @property
    def outcome(self) -> str:
        """The worst of them."""
        return next(outcome for outcome in WORST if outcome in self.outcomes)


class ByCase:
    """A pytest plugin: outcome and time of each case."""

    def __init__(self) -> None:
        self.shown: dict[int, Shown] = {}
        self.seconds: dict[str, float] = {}
        """Of each test, by its node id."""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Which tests show which case."""
        for item in items:
            for number in _cases(item):
                self.shown.setdefault(number, Shown()).tests.add(item.nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Iterator[Any]:
        """Set-up, call and tear-down all count."""
        report = yield
        self.seconds[item.nodeid] = self.seconds.get(item.nodeid, 0.0) + report.duration
        for number in _cases(item):
            self.shown[number].outcomes.add(report.outcome)
            self.shown[number].seconds += report.duration
        return report


def _cases(item: pytest.Item) -> set[int]:
    return {marker.args[0] for marker in item.iter_markers("case")}


def table(cases: Mapping[int, Any], shown: Mapping[int, Shown]) -> str:
    """One line a case; `cases` as in the scorecard."""
    lines = ["| # | fault | promise | tests | result |", "|--:|---|---|---|---|"]
    for number, case in cases.items():
        found = shown[number]
        result = f"{found.outcome}, {found.seconds:.1f} s"
        lines.append(f"| {number} | {case.fault} | {case.promise} | {found.where} | {result} |")
    return "\n".join(lines)


def machine() -> str:
    """Where it ran."""
    return (
        f"{os.cpu_count()} {platform.machine()} cores, {platform.system()}, Python {platform.python_version()}, "
        f"torch {version('torch')}, transformers {version('transformers')}, peft {version('peft')}"
    )


def main() -> int:
    """Run them and write the page, or count the tests of each case."""
    parser = argparse.ArgumentParser(description="Run the fifty cases and write docs/reliability.md.")
    parser.add_argument("--cases", action="store_true", help="only print the number of each case and of its tests")
    options = parser.parse_args()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    from tests.reliability.scorecard import CASES

    by_case = ByCase()
    arguments = ["tests/reliability", "-q", "-p", "no:cacheprovider"]
    if options.cases:
        code = pytest.main([*arguments, "--collect-only", "-qq"], plugins=[by_case])
        for number, found in sorted(by_case.shown.items()):
            print(f"case {number}: {found.where}")
        return int(code)
    code = pytest.main(arguments, plugins=[by_case])
    missing = [str(number) for number in CASES if number not in by_case.shown]
    not_shown = [str(number) for number, found in sorted(by_case.shown.items()) if found.outcome != "passed"]
    if code or missing or not_shown:
        print(f"not written: {PAGE}")
        print(f"cases without a test: {' '.join(missing) or 'none'}; not passed: {' '.join(not_shown) or 'none'}")
        return 1
    text = TEXT.format(
        rows=table(CASES, by_case.shown),
        tests=len(by_case.seconds),
        seconds=sum(by_case.seconds.values()),
        date=datetime.date.today().isoformat(),
        machine=machine(),
    )
    PAGE.write_text(text, encoding="utf-8")
    print(f"written to {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
