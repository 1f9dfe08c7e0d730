"""Run the tests of the eighty cases and write docs/reliability.md: python scripts/crashes/reliability.py [--page]

A test names the one of the eighty cases that it shows by `@pytest.mark.case(number)`. The page names the tests' files,
but no times, so that it is the same every time. It is written only if every case has a test and no test fails.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parents[2]
TESTS: Final = ROOT / "tests"
PAGE: Final = ROOT / "docs" / "reliability.md"

TEXT: Final = """\
# Kill it anywhere

Kill a run at any instant: `kill -9`, out of memory, a power cut, a full disk. `rlhf train resume=RUN` continues from
the newest checkpoint that verifies, and every later line of metrics.jsonl, every completion and the final adapter are
byte for byte those of the run that was never interrupted: on a CPU, on the same machine type, with the same library
versions, the same config and a reward that gives the same completion the same score. A run that cannot be
continued so is refused, in one line.

How that is done: everything random is a pure function of the seed and its purpose
([`seeding.py`](../rlhf_cli/seeding.py)), so there is no generator to save; a checkpoint is written aside, hashed,
synced and published by one rename ([`checkpoint.py`](../rlhf_cli/runs/checkpoint.py)); a checkpoint holds
exactly the state of a run at the end of a step ([`state.py`](../rlhf_cli/pipeline/state.py)).

The files beside the checkpoints are bound to them ([`binding.py`](../rlhf_cli/runs/binding.py)): a config.json, a
run.json or an evaluations.jsonl that the run did not write, by a flipped bit, by hand or from another run, is refused
with exit 5 before a model is loaded. Settings change on the command line alone. A damaged result.json is made again.
A sweep's sweep.json has a hash of its own, and a wandb.id that the run did not write is not continued (a note says so).
Not bound, since no later step depends on them: timings.jsonl, reward.log, the copies in .hydra/, tb/, and a trial's
trial.json and log.txt, which only say why a trial is not finished; whether it is, its own files say.
A link in the place of a run's file is refused, since a stranger's run would have any file of yours written over.
In the place of a whole folder (checkpoints/, tb/, feedback/) it is followed, since people keep checkpoints on another
disk: there a run only adds files of its own names and removes checkpoints, never another file. A resume says once
where such a link leads.

To see it on a run of your own: `rlhf verify-resume RUN` resumes it from its last checkpoint but one in a temporary
folder, and compares the results bit for bit.

## Is a run what its files say?

    rlhf audit RUN                     # every file, and one stretch in twenty once more
    rlhf audit RUN --stretches 20
    rlhf audit RUN --all

Each checkpoint holds the SHA-256 of every log up to its step, of its own files and of config.json; run.json holds
those of the result, of the last evaluations and its own. `rlhf audit` checks them all. Somebody who edits a file and
forges all of these hashes still cannot make the steps repeat, so it also trains stretches, from one checkpoint that
is kept to the next, once more, and compares every line and tensor bit for bit. The stretches are chosen at random
(`--seed` chooses the same ones again), and the first one begins at the settings alone. It prints the chance that so
many stretches meet a change, if a tenth of the steps were changed and these lie in the fewest stretches that can hold
them. The last line of audits.jsonl, and the run's page, say what was checked.

The price follows from the number of stretches n: 44 of them give a chance of 99 % whatever n is, so a run with 880
checkpoints is audited for a twentieth of its cost, one with 100 for 36 %, and one with 20 almost whole (18 of 20).
Keep the checkpoints of a run that is to be audited: `checkpoint.every=1 checkpoint.keep=1000`. A fork is audited from
its parent's checkpoint on, a stretch from before a resume with more steps by the schedules of then. Seconds
(timings.jsonl) cannot be repeated, and the evaluation of a run that `stop` ended between two others is not; they are
covered by the hashes alone. What it cannot say: that the settings, the data or the reward are good ones.

`scripts/tampering` changed one thing of a finished run a hundred times (a digit, a text, a line, one bit of the weights
or of the moments, the state, a setting), in every second try with all hashes forged: `rlhf audit --all` found 100 of
100, and nothing in the run that nobody had changed, nor where all hashes were forged anew (2026-11-29).

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

- On a GPU nothing has been measured yet. In bfloat16, on an AMD CPU, `rlhf verify-resume` found the last 8 steps of the
  default (SmolLM2-135M-Instruct) identical, and one or two processes, threads and microbatches of 8 or all completions
  gave the same bytes (2026-11-30).
- A reward's process has a fixed hash seed, encoding, locale and time zone, and run.json has the other variables that
  may matter (`PYTHONPATH`, numbers of threads): a resume notes a difference. Other things that a reward reads from
  the environment are not compared.
- A reward has to be a function of its arguments (the generators of `random`, numpy and torch are seeded before every
  call): its own variables are not saved.
- Where memory runs out, the smaller microbatches round differently; a run resumed from before that instant repeats it
  only if the memory runs out again. The gradient is the same up to rounding; with `invariant` to the bit, while a
  microbatch still holds a unit of a step ([scaling.md](scaling.md)).
- Bytes are compared on one machine with one set of libraries and one build of rlhf-cli, by a hash of the code that
  calculates (`build` in run.json). A resume notes each difference, and the run continues.
- Texts are written to files as they came; on a terminal control characters are shown as `·`.

## The eighty cases

{rows}

The cases are in [tests/reliability](../tests/reliability/scorecard.py), their tests in the files
below [tests](../tests); `scripts/reliability` runs them and writes this page.
"""


def find_files() -> dict[int, list[str]]:
    """The test files that show each case, below tests/, by its number."""
    files: dict[int, list[str]] = {}
    for file in sorted(TESTS.rglob("test_*.py")):
        if "mark.case(" not in file.read_text(encoding="utf-8"):
            continue
        path = file.relative_to(ROOT).with_suffix("")
        module = import_module(".".join(path.parts))
        for number in sorted({number for test in _tests(module) for number in _cases(test)}):
            files.setdefault(number, []).append(file.relative_to(TESTS).as_posix())
    return files


def _tests(scope: ModuleType | type) -> Iterator[Any]:
    """The test functions of a module, those of its classes included."""
    for name, value in vars(scope).items():
        if name.startswith("test_"):
            yield value
        elif name.startswith("Test") and isinstance(value, type):
            yield from _tests(value)


def _cases(test: Any) -> Iterator[int]:
    """The cases that a test function is marked with, itself or some of its parameters."""
    marks = list(getattr(test, "pytestmark", ()))
    for mark in marks:
        if mark.name == "parametrize":
            marks += [other for values in mark.args[1] for other in getattr(values, "marks", ())]
        elif mark.name == "case":
            yield from mark.args


def make_page(cases: Mapping[int, Any], files: Mapping[int, list[str]]) -> str:
    """The page; `cases` as in the scorecard. Raises KeyError for a case without a test."""
    lines = ["| # | fault | promise | tests |", "|--:|---|---|---|"]
    for number, case in cases.items():
        lines.append(f"| {number} | {case.fault} | {case.promise} | {', '.join(files[number])} |")
    return TEXT.format(rows="\n".join(lines))


def main() -> int:
    """Run the tests, then write the page."""
    parser = argparse.ArgumentParser(description="Run the eighty cases and write docs/reliability.md.")
    parser.add_argument("--page", action="store_true", help="only write the page")
    options = parser.parse_args()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    from tests.reliability.scorecard import CASES

    files = find_files()
    if without := [str(number) for number in CASES if number not in files]:
        print(f"not written: {PAGE}; cases without a test: {' '.join(without)}")
        return 1
    if not options.page and pytest.main([str(TESTS), "-q", "-p", "no:cacheprovider", "-m", "case"]):
        print(f"not written: {PAGE}")
        return 1
    PAGE.write_text(make_page(CASES, files), encoding="utf-8")
    print(f"written to {PAGE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
