"""The command `rlhf`: verbs, exit codes, one-line errors, and nothing imported too early."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from rlhf_cli import __version__, cli
from rlhf_cli.errors import Stopped, UserError
from tests.support import Outcome

Answer = Callable[[list[str]], int]


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], None]:
    """Lets `rlhf train` be any function."""

    def stand_in(main: Answer) -> None:
        module: Any = types.ModuleType("rlhf_cli.commands.training.train")
        module.main = main
        monkeypatch.setitem(sys.modules, "rlhf_cli.commands.training.train", module)

    return stand_in


def raising(error: BaseException) -> Answer:
    def main(argv: list[str]) -> int:
        raise error

    return main


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert [cli.run(["--help"]), cli.run(["-h"]), cli.run([])] == [0, 0, 2]
    out, err = capsys.readouterr()
    first, *rest = out.split("usage: ")[1:]
    assert rest == [first] * 2
    assert all(f"\n  {verb} " in first for verb in cli.ROOM_OF)
    assert max(map(len, first.splitlines())) <= 80
    assert err == ""


@pytest.mark.parametrize("verb", ["", "report"])
def test_help_may_be_asked_for_in_front(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    outputs = []
    for argv in (["help", *filter(None, [verb])], [*filter(None, [verb]), "--help"]):
        with suppress(SystemExit):  # argparse's own help
            assert cli.run(argv) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    assert f"usage: rlhf {verb or 'VERB'}" in outputs[0]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out == f"rlhf-cli {__version__}\n"


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["trian"], "error: unknown verb 'trian'; did you mean train?"),
        (["xyz", "--debug"], "error: unknown verb 'xyz'; rlhf --help lists the verbs"),
        (["config=tiny"], "error: unknown verb 'config=tiny'; did you mean rlhf train config=tiny?"),
        (["./my run.yaml"], "error: unknown verb './my run.yaml'; did you mean rlhf train config='./my run.yaml'?"),
        (["grpo"], "error: unknown verb 'grpo'; did you mean rlhf train algorithm=grpo?"),
        (["resume", "outputs/a"], "error: unknown verb 'resume'; did you mean rlhf train resume=RUN?"),
        (["--foo"], "error: unknown verb '--foo'; rlhf --help lists the verbs"),
        (["generate"], "error: the following arguments are required: RUN (rlhf generate); fix: rlhf generate --help"),
        (["skill", ""], "error: unrecognized arguments:  (rlhf skill); fix: rlhf skill --help"),
    ],
)
def test_an_unknown_verb_or_argument(argv: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(argv) == 2
    assert capsys.readouterr().err.splitlines()[-1] == line


@pytest.mark.parametrize("argv", [["merge", "run\0", "out"], ["presets", "copy", "tiny", "a\0b"], ["label", "\0"]])
def test_no_argument_of_any_verb_holds_a_nul(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(argv) == 2
    line = "error: an argument holds a NUL character, which no path or setting may; fix: leave it out"
    assert capsys.readouterr().err.splitlines() == [line]


def test_a_verb_gets_its_arguments_without_debug(verb: Callable[[Answer], None]) -> None:
    seen: list[list[str]] = []

    def main(argv: list[str]) -> int:
        seen.append(argv)
        return 7

    verb(main)
    assert cli.run(["train", "a=1", "--debug", "-m"]) == 7
    assert seen == [["a=1", "-m"]]


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (
            UserError("no rows", where="p.jsonl:3", fix="add some", exit_code=3),
            3,
            "error: no rows (p.jsonl:3); fix: add some\n",
        ),
        (Stopped("SIGTERM at step 3", resumable=True), 75, "stopped: SIGTERM at step 3\n"),
        (Stopped("SIGTERM at step 3"), 130, "stopped: SIGTERM at step 3\n"),
        (KeyboardInterrupt(), 130, "stopped: interrupted\n"),
    ],
)
def test_errors_are_one_line(
    error: BaseException, code: int, line: str, verb: Callable[[Answer], None], capsys: pytest.CaptureFixture[str]
) -> None:
    verb(raising(error))
    assert cli.run(["train"]) == code
    assert capsys.readouterr() == ("", line)


@pytest.mark.parametrize(
    "argv",
    [("train", "resume={}"), ("generate", "{}", "Hello"), ("runs", "{}"), ("verify-resume", "{}"), ("audit", "{}"),
     ("report", "{}"), ("oracle", "config=tiny", "data.path={}"), ("train", "config=tiny", "run_dir={}")],
    ids=" ".join,
)  # fmt: skip
def test_a_path_that_no_disk_takes_is_one_line(argv: tuple[str, ...], rlhf: Callable[..., Outcome]) -> None:
    outcome = rlhf(*(word.format("x" * 300) for word in argv))
    assert outcome.code == 6
    assert outcome.err.startswith("error: the disk refuses: File name too long ("), outcome.err
    assert outcome.err.endswith("); fix: give a shorter path\n")
    assert outcome.err.count("\n") == 1


def test_debug_adds_the_traceback(verb: Callable[[Answer], None], capsys: pytest.CaptureFixture[str]) -> None:
    verb(raising(UserError("no rows")))
    assert cli.run(["--debug", "train"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert err.endswith("error: no rows\n")


def test_a_bug_has_its_traceback(verb: Callable[[Answer], None], capsys: pytest.CaptureFixture[str]) -> None:
    verb(raising(ZeroDivisionError("oh")))
    assert cli.run(["train"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert err.endswith("ZeroDivisionError: oh\n")


def python(code: str, *argv: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, text=True, cwd=cwd, check=False)


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    code = "import sys; from rlhf_cli.cli import run; run(['--help']); print(*sys.modules)"
    loaded = python(code, cwd=tmp_path).stdout.splitlines()[-1].split()
    assert not {"torch", "hydra", "omegaconf", "pydantic", "yaml", "rich", "httpx2", "rlhf_cli.schema"} & set(loaded)


def test_a_closed_pipe_is_quiet(tmp_path: Path) -> None:
    code = "import os; from rlhf_cli.cli import main; r, w = os.pipe(); os.dup2(w, 1); os.close(r); os.close(w); main()"
    done = python(code, "--help", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_typo_ends_before_torch_is_loaded(tmp_path: Path) -> None:
    code = "import sys; from rlhf_cli.cli import run; print(run(sys.argv[1:]), 'torch' in sys.modules)"
    done = python(code, "train", "stpes=3", cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("2 False\n", "error: unknown setting 'stpes'; did you mean steps?\n")
    assert list(tmp_path.iterdir()) == []


def test_completion_knows_the_verbs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COMP_LINE", "rlhf ")
    assert cli.run(["-sc", "query=bash"]) == 0
    assert capsys.readouterr().out.split() == sorted(cli.ROOM_OF)


def test_a_signal_while_python_ends_changes_no_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int] = []
    monkeypatch.setattr(cli, "run", lambda argv: 75)
    monkeypatch.setattr(os, "_exit", codes.append)
    monkeypatch.setattr(atexit, "register", lambda function: function)
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(SystemExit, match="75"):
            cli.main()
        for number in former:
            signal.raise_signal(number)
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
    assert codes == [75, 75]


def test_the_end_calls_what_libraries_registered_and_frees_no_module(tmp_path: Path) -> None:
    code = """
import atexit
from rlhf_cli import cli

class Module:
    def __del__(self):
        print("freed")

kept = Module()

def verb(argv):
    atexit.register(print, "registered")
    return 75

cli.run = verb
cli.main()
"""
    done = python(code, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (75, "registered\n", "")
    earlier = code.replace("import atexit", "import atexit; atexit.register(print, 'before')")
    done = python(earlier, cwd=tmp_path)  # as of a debugger: it must be called too
    assert (done.returncode, done.stdout, done.stderr) == (75, "registered\nbefore\nfreed\n", "")


def test_help_on_a_full_disk_is_one_line(tmp_path: Path) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        command = [sys.executable, "-c", "from rlhf_cli.cli import main; main()", "--help"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False)
    line = "error: the disk refuses: No space left on device; fix: free space"
    assert (done.returncode, done.stderr[: len(line)], done.stderr.count("\n")) == (6, line, 1)


@pytest.mark.parametrize(
    "verb_argv",
    [("check",), ("oracle",), ("data", "show"), ("verify-gradient",), ("reward", "test"), ("explain", "sft")],
)
def test_a_verb_about_settings_does_not_leave_a_run_out_in_silence(
    verb_argv: tuple[str, ...], rlhf: Callable[..., Outcome]
) -> None:
    outcome = rlhf(*verb_argv, "config=tiny", "resume=latest")
    line = "error: these are the settings of a new run (resume); fix: leave resume out\n"
    assert (outcome.code, outcome.out, outcome.err) == (2, "", line)


def test_a_result_and_a_mistake_that_nobody_reads_leave_the_exit_code(
    verb: Callable[[Answer], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def main(argv: list[str]) -> int:
        sys.stdout.write("a result\n")
        raise UserError("not identical", exit_code=5)

    verb(main)
    for name in ("stdout", "stderr"):
        reading, writing = os.pipe()
        os.close(reading)
        with monkeypatch.context() as patch, os.fdopen(writing, "w", buffering=1 if name == "stderr" else -1) as stream:
            patch.setattr(sys, name, stream)
            assert cli.run(["train"]) == 5


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_mistake_that_no_disk_takes_leaves_the_exit_code() -> None:
    """As with a log on a full disk."""
    command = [sys.executable, "-m", "rlhf_cli", "trian"]
    with open("/dev/full", "w") as full:
        assert subprocess.run(command, stderr=full, check=False).returncode == 2
