"""A user's function under its judge: what it is given, what it may return, and what becomes of everything else."""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from rlhf_cli.errors import EXIT_REWARD, EXIT_USAGE, Stopped, UserError
from rlhf_cli.rewards.execution import process
from rlhf_cli.rewards.execution.retrying import ScoreRequest
from rlhf_cli.rewards.execution.scorer import Scores, SourceScorer
from rlhf_cli.rewards.kinds.characters import Characters
from rlhf_cli.rewards.kinds.python import Python
from rlhf_cli.types import Message, PromptRow
from tests.support import gone

ROWS = [PromptRow(f"prompt {i}", {"answer": i, "topic": None}, f"p.jsonl:{i}") for i in range(1, 4)]
TEXTS = ["a", "bb", "ccc", "dddd"]
"""Two of each of the first two prompts."""
SEE = "; fix: mend it (see reward.log), or leave such prompts out: reward.on_error=mask"

Opened = Callable[..., SourceScorer]
Saying = Callable[[str, str], Scores]


def judge_of(folder: Path, code: str, *, columns: Sequence[str] = ("answer", "topic"), **settings: Any) -> SourceScorer:
    """A judge, yet to be entered, whose function `f` is in rewards.py."""
    (folder / "rewards.py").write_text(textwrap.dedent(code))
    reward = python_of(**{"function": f"{folder}/rewards.py:f"} | settings)
    return SourceScorer(reward, columns, folder / "reward.log")


def python_of(function: str, **settings: Any) -> Python:
    """Its settings."""
    given = {"function": function, "best": None, "timeout_s": 5.0, "retries": 1, "on_error": "stop"}
    return Python(**{"kind": "python", "error_value": -7.0} | given | settings)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    """`opened(code, on_error="mask", ...)`: see `judge_of`."""
    with ExitStack() as stack:
        yield lambda code, **settings: stack.enter_context(judge_of(tmp_path, code, **settings))


@pytest.fixture(scope="module")
def saying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Saying]:
    """`saying(on_error, expression)`: what becomes of four completions when that is what the function returns."""
    code = "import numpy as np\ndef f(completions, answer):\n    return eval(answer[0])"
    with ExitStack() as stack:
        judges = {
            on_error: stack.enter_context(judge_of(tmp_path_factory.mktemp(on_error), code, on_error=on_error))
            for on_error in ("stop", "mask", "value")
        }

        def say(on_error: str, expression: str) -> Scores:
            prompts = [PromptRow(row.prompt, {"answer": expression}, row.where) for row in ROWS[:2] for _ in range(2)]
            judge = judges[on_error]
            return ask(judge, prompts=prompts)

        yield say


def ask(
    judge: SourceScorer,
    texts: Sequence[str] = TEXTS,
    *,
    prompts: Sequence[PromptRow] | None = None,
    seed: int = 0,
    tick: Callable[[], None] = lambda: None,
) -> Scores:
    """Two completions a prompt."""
    rows = [ROWS[row // 2] for row in range(len(texts))] if prompts is None else prompts
    return judge.score_texts(ScoreRequest(rows, texts, None, seed, tick, "step 3"), 2)


def scores_of(values: Sequence[float], retries: int = 0) -> Scores:
    """Where nothing failed."""
    return Scores(tuple(values), frozenset(), {}, 0, retries, None)


def refused(judge: Callable[[], Any]) -> str:
    """The error of a run that is stopped."""
    with pytest.raises(UserError) as caught:
        judge()
    assert caught.value.exit_code == EXIT_REWARD == 4
    assert "\n" not in caught.value.line()
    return caught.value.line()


class TestGiven:
    """What the function is called with."""

    SEEN = "import json\ndef f({}):\n    print(json.dumps(seen := locals(), sort_keys=True))\n    return [0, 0, 0, 0]\n"

    @pytest.mark.parametrize(
        ("parameters", "expected"),
        [
            ("completions", {"completions": TEXTS}),
            ("prompts, completions", {"completions": TEXTS, "prompts": ["prompt 1"] * 2 + ["prompt 2"] * 2}),
            ("completions, answer", {"completions": TEXTS, "answer": [1, 1, 2, 2]}),
            ("completions, *, topic=3, other=5", {"completions": TEXTS, "topic": [None] * 4, "other": 5}),
            (
                "completions, **rest",
                {
                    "completions": TEXTS,
                    "rest": {
                        "answer": [1, 1, 2, 2],
                        "prompts": ["prompt 1"] * 2 + ["prompt 2"] * 2,
                        "topic": [None] * 4,
                    },
                },
            ),
        ],
    )
    def test_only_what_it_takes(
        self, opened: Opened, tmp_path: Path, parameters: str, expected: dict[str, Any]
    ) -> None:
        ask(opened(self.SEEN.format(parameters)))
        assert json.loads((tmp_path / "reward.log").read_text()) == expected

    def test_a_chat_is_given_as_messages(self, opened: Opened, tmp_path: Path) -> None:
        judge = opened(self.SEEN.format("prompts, completions").replace("[0, 0, 0, 0]", "[0]"))
        chat = PromptRow((Message("system", "Be brief."), Message("user", "Hi\ud800")), {}, "p.jsonl:1")
        ask(judge, ["\x00é\u2028"], prompts=[chat])
        assert json.loads((tmp_path / "reward.log").read_text()) == {
            "prompts": [[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi\ud800"}]],
            "completions": [[{"role": "assistant", "content": "\x00é\u2028"}]],
        }

    def test_a_column_that_only_some_rows_have_is_none_in_the_others(self, opened: Opened, tmp_path: Path) -> None:
        ask(opened(self.SEEN.format("completions, hint"), columns=["hint"]))
        assert json.loads((tmp_path / "reward.log").read_text())["hint"] == [None] * 4

    def test_a_column_that_no_row_has_is_missed_before_anything_else_happens(self, opened: Opened) -> None:
        with pytest.raises(UserError) as caught:
            opened("def f(completions, anwser, x, y=1): pass")
        assert caught.value.line() == (
            "rewards.py:f takes anwser, x, which the data does not have; its columns: answer, topic (reward.function)"
        )
        assert caught.value.exit_code == EXIT_REWARD

    def test_the_random_numbers_follow_from_the_seed(self, opened: Opened) -> None:
        judge = opened(
            """
            import random
            import numpy
            def f(completions):
                return [random.random() + numpy.random.rand() for _ in completions]
            """
        )
        one, same, other = (ask(judge, seed=seed).values for seed in (2**63 - 1, 2**63 - 1, 6))
        assert one == same != other

    def test_sets_come_in_the_same_order_in_every_process(self, opened: Opened) -> None:
        code = "def f(completions):\n    return [int(word[5:]) for word in {f'word {i}' for i in range(99)}][:4]"
        assert ask(opened(code)) == ask(opened(code))


class TestReturned:
    """What counts as a list of scores."""

    @pytest.mark.parametrize(
        "result",
        [
            "[1, 0.5, True, -2]",
            "(1, 0.5, True, -2)",
            "np.array([1, 0.5, 1, -2])",
            "np.array([1, 0.5, 1, -2], dtype=np.float32)",
            "[np.float32(1), np.float64(0.5), np.bool_(True), np.int64(-2)]",
            "[np.array(1.0), 0.5, True, -2]",
        ],
    )
    def test_numbers_of_any_kind(self, saying: Saying, result: str) -> None:
        assert saying("stop", result) == scores_of([1.0, 0.5, 1.0, -2.0])

    def test_tensors(self, opened: Opened) -> None:
        judge = opened(
            """
            import torch
            def f(completions):
                whole = torch.tensor([1.0, 0.5, torch.rand(()), -2], requires_grad=True)
                return whole if len(completions) > 3 else list(whole[:3])
            """,
            timeout_s=60.0,
        )
        seeded = ask(judge, seed=3).values
        assert (seeded[0], seeded[1], seeded[3]) == (1.0, 0.5, -2.0)
        assert ask(judge, TEXTS[:3], seed=3).values == seeded[:3]

    def test_an_async_function_and_one_that_keeps_its_loop(self, opened: Opened) -> None:
        judge = opened(
            """
            import asyncio
            lock = None
            async def f(completions):
                global lock
                lock = lock or (asyncio.Event(), asyncio.get_running_loop())
                assert lock[1] is asyncio.get_running_loop()
                return await asyncio.gather(*map(one, completions))
            async def one(text):
                await asyncio.sleep(0)
                return len(text)
            """
        )
        assert ask(judge).values == ask(judge).values == (1.0, 2.0, 3.0, 4.0)

    @pytest.mark.parametrize("on_error", ["stop", "mask", "value"])
    @pytest.mark.parametrize(
        ("result", "said"),
        [
            ("None", "returned None, not a list of 4 scores"),
            ("0.5", "returned a value of type float, not a list of 4 scores"),
            ("np.array(0.5)", "returned a value of type float, not a list of 4 scores"),
            ("'good'", "returned a value of type str, not a list of 4 scores"),
            ("{}", "returned a value of type dict, not a list of 4 scores"),
            ("(1 for _ in completions)", "returned a value of type generator, not a list of 4 scores"),
            ("[]", "returned 0 scores for 4 completions"),
            ("[1] * 5", "returned 5 scores for 4 completions"),
            ("[[1], [1], [1], [1]]", "returned a value of type list as score 1 of 4, not a number or None"),
            ("np.ones((4, 1))", "returned a value of type list as score 1 of 4, not a number or None"),
            ("[1, 1, '1', 1]", "returned a value of type str as score 3 of 4, not a number or None"),
            ("[1, 1, np.ones(2), 1]", "returned a value of type ndarray as score 3 of 4, not a number or None"),
            ("[1, 1, 1, 1j]", "returned a value of type complex as score 4 of 4, not a number or None"),
        ],
    )
    def test_anything_else_stops_the_run(self, saying: Saying, on_error: str, result: str, said: str) -> None:
        fix = "return a list with one number (or None) for each completion"
        assert refused(lambda: saying(on_error, result)) == f"rewards.py:f {said} (step 3); fix: {fix}"


UNUSABLE = [
    ("None", "None"),
    ("float('nan')", "nan"),
    ("float('inf')", "inf"),
    ("-float('inf')", "-inf"),
    ("1e38", "1e+38 (the limit is 1e+18)"),
    ("-10**400", "-inf"),
    ("-1.001e18", "-1.001e+18 (the limit is 1e+18)"),
]


class TestUnusable:
    """Scores that cannot be learned from."""

    @pytest.mark.parametrize(("value", "said"), UNUSABLE)
    def test_they_stop_the_run(self, saying: Saying, value: str, said: str) -> None:
        line = refused(lambda: saying("stop", f"[1, 1, {value}, 1]"))
        assert line == f"rewards.py:f gave {said} for the completion 'ccc' (step 3, p.jsonl:2){SEE}"

    def test_the_limit_itself_can_be_learned_from(self, saying: Saying) -> None:
        assert saying("stop", "[1e18, -1e18, 0, -0.0]").values == (1e18, -1e18, 0, 0)

    @pytest.mark.parametrize(("value", "said"), UNUSABLE)
    def test_or_their_prompt_is_left_out(self, saying: Saying, value: str, said: str) -> None:
        found = saying("mask", f"[{value}, 1, 2, 3]")
        assert (found.left_out, found.values) == ({0}, (2.0, 3.0))
        assert (found.failures, found.retries) == (1, 0)
        assert found.first_failure == f"rewards.py:f gave {said} for the completion 'a' (p.jsonl:1)"

    def test_or_they_are_given_a_value(self, saying: Saying) -> None:
        found = saying("value", "[None, 1, float('nan'), 3]")
        assert found.values == (-7.0, 1.0, -7.0, 3.0)
        assert (found.failures, found.first_failure) == (2, "rewards.py:f gave None for the completion 'a' (p.jsonl:1)")

    def test_a_long_completion_is_cut_and_control_characters_are_made_harmless(self, opened: Opened) -> None:
        judge = opened("def f(completions):\n    return [None]")
        line = refused(lambda: ask(judge, ["\x1b[2J" * 99]))
        assert "\x1b" not in line
        # 200 characters: the quote, 28 times \x1b[2J, and three of the next
        assert line.startswith(f"rewards.py:f gave None for the completion '{chr(92)}x1b[2J")
        assert f"[2J{chr(92)}x1… (step 3" in line

    def test_those_of_a_reward_of_ours_stop_the_run_as_well(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with SourceScorer(Characters(kind="characters", characters="a"), [], None) as judge:
            assert ask(judge).values == (1.0, 0.0, 0.0, 0.0)
            monkeypatch.setattr(Characters, "score", lambda self, prompts, completions: [0.0, 0.0, math.nan, 1.0])
            assert (
                refused(lambda: ask(judge)) == "reward=characters gave nan for the completion 'ccc' (step 3, p.jsonl:2)"
            )
            monkeypatch.setattr(Characters, "score", lambda self, prompts, completions: 1 / 0)
            with pytest.raises(ZeroDivisionError):  # our mistake, not the user's
                ask(judge)


TROUBLE = [
    ("1 / 0", "raised ZeroDivisionError: division by zero at rewards.py:4"),
    ("raise ValueError('two\\nlines  of it')", "raised ValueError: two lines of it at rewards.py:4"),
    ("helper()", "raised KeyError: 'x' at rewards.py:7"),
    ("json.loads('')", "raised JSONDecodeError: Expecting value: line 1 column 1 (char 0) at rewards.py:4"),
    ("raise KeyboardInterrupt", "raised KeyboardInterrupt at rewards.py:4"),
    ("sys.exit(0)", "called sys.exit(0) at rewards.py:4"),
    ("sys.exit()", "called sys.exit() at rewards.py:4"),
    ("os._exit(3)", "ended its process with exit code 3"),
    ("os.kill(os.getpid(), 9)", "had its process ended by SIGKILL (out of memory?)"),
    ("os.abort()", "had its process ended by SIGABRT"),
]
ON_CCC = """
import json, os, sys
def f(completions):
    if "ccc" in completions: {}
    return [len(text) for text in completions]
def helper():
    return {{}}["x"]
"""


class TestTrouble:
    """Calls that end without a result."""

    @pytest.mark.parametrize(("line", "said"), TROUBLE)
    def test_the_completion_is_found_and_named(self, opened: Opened, line: str, said: str) -> None:
        judge = opened(ON_CCC.format(line).lstrip("\n").replace("import", "\nimport", 1))
        assert refused(lambda: ask(judge)) == f"rewards.py:f {said} for the completion 'ccc' (step 3, p.jsonl:2){SEE}"

    @pytest.mark.parametrize("line", ["1 / 0", "sys.exit(0)", "os._exit(0)"])
    def test_it_does_not_cost_the_others(self, opened: Opened, line: str) -> None:
        found = ask(opened(ON_CCC.format(line), on_error="value"))
        assert found.values == (1.0, 2.0, -7.0, 4.0)
        assert (found.failures, found.retries) == (1, 2)  # the batch once more, the completion once more
        found = ask(opened(ON_CCC.format(line), on_error="mask", retries=0))
        assert (found.left_out, found.values) == ({1}, (1.0, 2.0))
        assert (found.failures, found.retries) == (1, 0)

    @pytest.mark.parametrize("line", ["raise OSError", "os._exit(1)", "time.sleep(99)"])
    def test_what_passes_is_tried_again(self, opened: Opened, tmp_path: Path, line: str) -> None:
        code = f"""
            import os, time
            def f(completions):
                with open({str(tmp_path / "calls")!r}, "a") as calls:
                    print("call", file=calls)
                if os.stat(calls.name).st_size < 6: {line}
                return [7] * len(completions)
            """
        judge = opened(code, timeout_s=0.4)
        assert ask(judge) == scores_of([7.0] * 4, retries=1)
        assert ask(judge).retries == 0

    def test_a_hang_ends_at_its_deadline(self, opened: Opened, tmp_path: Path) -> None:
        code = "import time\ndef f(completions):\n    time.sleep(99)"
        start = time.monotonic()
        judge = opened(code, timeout_s=0.2)
        line = refused(lambda: ask(judge))
        assert time.monotonic() - start < 2
        assert line == f"rewards.py:f did not answer within 0.2 s (reward.timeout_s) (step 3){SEE}"
        assert f'File "{tmp_path}/rewards.py", line 3 in f' in (tmp_path / "reward.log").read_text()
        found = ask(opened(code, timeout_s=0.2, retries=0, on_error="mask"))
        assert (found.left_out, found.values) == ({0, 1}, ())
        assert (found.failures, found.retries) == (4, 0)
        assert found.first_failure == "rewards.py:f did not answer within 0.2 s (reward.timeout_s)"

    def test_one_completion_alone_that_hangs_is_named(self, opened: Opened) -> None:
        judge = opened("import time\ndef f(completions):\n    time.sleep(99)", timeout_s=0.2, retries=0)
        with pytest.raises(UserError, match=r"for the completion 'a' \(step 3, p\.jsonl:1\)"):
            ask(judge, ["a"])

    def test_a_stop_is_heard_while_it_hangs_and_takes_its_children_along(
        self, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # what it prints is in the log all the same
        judge = opened(
            """
            import os, subprocess
            def f(completions):
                child = subprocess.Popen(["sleep", "99"])
                print(os.getpid(), child.pid)
                child.wait()
            """
        )
        log, start = tmp_path / "reward.log", time.monotonic()

        def stop() -> None:
            if log.read_text().endswith("\n"):
                raise Stopped("SIGTERM")

        with pytest.raises(Stopped):
            ask(judge, tick=stop)
        assert time.monotonic() - start < 2
        assert all(gone(int(pid)) for pid in log.read_text().split())

    def test_a_child_that_holds_the_pipes_does_not_hide_the_end(self, opened: Opened) -> None:
        judge = opened(
            """
            import os, time
            def f(completions):
                os.fork() or time.sleep(99)
                os._exit(5)
            """,
            retries=0,
        )
        start = time.monotonic()
        assert "ended its process with exit code 5" in refused(lambda: ask(judge))
        assert time.monotonic() - start < 3

    def test_a_function_that_closes_our_pipes(self, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(process, "GRACE_S", 0.1)
        code = "import os, time\ndef f(completions):\n    os.closerange(3, 99)\n    time.sleep(99)"
        judge = opened(code, retries=0)
        assert "closed the pipe of its answers" in refused(lambda: ask(judge))

    def test_an_answer_without_end_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "r.py").write_text("def f(completions):\n    return [1.0] * len(completions)")
        monkeypatch.setattr(process, "LARGEST_ANSWER", 2**20)
        worker = process.RewardProcess(f"{tmp_path}/r.py:f", None, 5.0, None)
        worker.start(lambda: None)
        with pytest.raises(process.Trouble, match=r"^answered with more than 1 MiB$"):
            worker.call({"completions": ["a"] * 300_000}, 300_000, 0, lambda: None)  # five bytes each
        worker.close()


class TestImport:
    """What can be told before there is anything to judge."""

    @pytest.mark.parametrize(
        ("code", "said"),
        [
            ("def f(:", "cannot be imported: it raised SyntaxError: invalid syntax at rewards.py:1"),
            (
                "\nimport nope",
                "cannot be imported: it raised ModuleNotFoundError: No module named 'nope' at rewards.py:2",
            ),
            ("import sys\nsys.exit(0)", "cannot be imported: it called sys.exit(0) at rewards.py:2"),
            ("import os\nos._exit(0)", "cannot be imported: it ended its process with exit code 0"),
            ("while True: pass", "cannot be imported: it did not answer within 0.3 s (reward.timeout_s)"),
            ("g = 1", "cannot be called: f is not there"),
            ("f = 1", "cannot be called: f is no function"),
        ],
    )
    def test_one_line(self, opened: Opened, code: str, said: str) -> None:
        with pytest.raises(UserError) as caught:
            opened(code, timeout_s=0.3)
        fix = "; fix: mend it (see reward.log)" if "imported" in said else ""
        assert caught.value.line() == f"rewards.py:f {said} (reward.function){fix}"
        assert caught.value.exit_code == EXIT_REWARD

    def test_no_such_file(self, opened: Opened, tmp_path: Path) -> None:
        with pytest.raises(UserError) as caught:
            opened("", function=str(tmp_path / "reward.py:f"))
        assert (
            caught.value.line() == f"no such file: {tmp_path}/reward.py (reward.function); fix: give file.py:function"
        )
        assert caught.value.exit_code == EXIT_USAGE == 2

    def test_a_module_is_found_in_the_working_directory(
        self, opened: Opened, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        judge = opened("def f(completions):\n    return [3] * 4", function="rewards:f")
        assert ask(judge).values == (3.0,) * 4
        assert judge.name == "rewards:f"
        with pytest.raises(
            UserError, match=r"^nope:f cannot be imported: it raised ModuleNotFoundError: No module named"
        ):
            opened("", function="nope:f")

    def test_what_stands_beside_the_file_can_be_imported(self, opened: Opened, tmp_path: Path) -> None:
        (tmp_path / "beside.py").write_text("score = 3")
        assert ask(opened("import beside\ndef f(completions):\n    return [beside.score] * 4")).values == (3.0,) * 4

    def test_the_hash_is_that_of_the_file(self, opened: Opened) -> None:
        one, same, other = (opened(f"def f(completions): pass{end}").sha256 for end in ("", "", "\n# changed"))
        assert one == same != other
        assert one == hashlib.sha256(b"def f(completions): pass").hexdigest()
        assert SourceScorer(Characters(kind="characters", characters="a"), [], None).sha256 is None


class TestProcess:
    """The process itself."""

    @pytest.mark.parametrize("on_error", ["stop", "mask"])
    def test_a_file_that_changed_is_not_taken_over_when_it_starts_anew(
        self, on_error: str, opened: Opened, tmp_path: Path
    ) -> None:
        code = """
            import os
            def f(completions):
                "ccc" in completions and os._exit(1)
                return [1] * len(completions)
        """
        judge, file = opened(code, on_error=on_error, retries=0), tmp_path / "rewards.py"
        assert ask(judge, TEXTS[:2]).values == (1.0, 1.0)
        before = file.read_text()
        file.write_text(before.replace("[1]", "[2]"))
        assert ask(judge, TEXTS[:2]).values == (1.0, 1.0)  # of the process that there is
        fix = "bring it back, or resume with resume_allow=[reward]"
        changed = f"rewards.py:f changed while the run was going (step 3); fix: {fix}"
        assert refused(lambda: ask(judge)) == changed
        assert refused(lambda: ask(judge, TEXTS[:2])) == changed
        file.write_text(before)
        assert ask(judge, TEXTS[:2]).values == (1.0, 1.0)

    def test_what_it_prints_goes_to_the_log_and_it_reads_nothing(self, opened: Opened, tmp_path: Path) -> None:
        code = (
            "import sys\nprint('imported')\ndef f(completions):\n    print('called', sys.stdin.read(), sys.argv[1:])\n"
        )
        ask(opened(f"{code}    os = print('err', file=sys.stderr)\n    return [0] * 4"))
        assert (tmp_path / "reward.log").read_text() == "imported\ncalled  []\nerr\n"

    def test_it_imports_nothing_heavy(self, opened: Opened, tmp_path: Path) -> None:
        ask(opened("import sys\ndef f(completions):\n    print(*sys.modules)\n    return [0] * 4"))
        loaded = {name.partition(".")[0] for name in (tmp_path / "reward.log").read_text().split()}
        assert not loaded & {"torch", "numpy", "pydantic", "rlhf_cli", "hydra", "yaml"}

    def test_much_text_goes_through(self, opened: Opened) -> None:
        judge = opened("def f(completions):\n    print('x' * 300_000)\n    return [len(c) for c in completions]")
        assert ask(judge, ["é" * 1_000_000] * 4).values == (1e6,) * 4

    def test_nothing_is_left_open(self, opened: Opened) -> None:
        before = len(os.listdir("/proc/self/fd"))
        judge = opened("import os\ndef f(completions):\n    os._exit(1)", on_error="value")
        ask(judge)
        assert len(os.listdir("/proc/self/fd")) <= before + 2
        judge.__exit__(None, None, None)
        assert len(os.listdir("/proc/self/fd")) == before

    def test_it_leaves_in_order_and_its_children_are_ended(self, opened: Opened, tmp_path: Path) -> None:
        judge = opened(
            """
            import atexit, os, subprocess
            atexit.register(print, "left in order")
            child = subprocess.Popen(["sleep", "99"])
            def f(completions):
                print(os.getpid(), child.pid)
                return [0] * 4
            """
        )
        ask(judge)
        judge.__exit__(None, None, None)
        pids, left = (tmp_path / "reward.log").read_text().splitlines()
        assert left == "left in order"
        assert all(gone(int(pid)) for pid in pids.split())

    def test_one_that_does_not_leave_is_killed(self, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(process, "GRACE_S", 0.1)
        judge = opened("import atexit, time\natexit.register(time.sleep, 99)\ndef f(completions):\n    return [0] * 4")
        start = time.monotonic()
        judge.__exit__(None, None, None)
        assert time.monotonic() - start < 1

    @pytest.mark.parametrize(
        "line",
        [
            "time.sleep(999)",
            "import re; re.match(r'(a|a)+$', 'a' * 60 + 'b')",  # no other thread can run meanwhile
            "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(999)",
            "return [0]",
        ],
    )
    def test_it_ends_with_its_parent_however_that_ends(self, line: str, tmp_path: Path) -> None:
        (tmp_path / "r.py").write_text(
            "import os, subprocess, time\n"
            "def f(completions):\n"
            "    print(os.getpid(), subprocess.Popen(['sleep', '999']).pid)\n"
            f"    {line}"
        )
        log = tmp_path / "log"
        code = (
            "import sys, time; from pathlib import Path; from rlhf_cli.rewards.execution.process import RewardProcess\n"
            "worker = RewardProcess(sys.argv[1], None, 60.0, Path(sys.argv[2]))\n"
            "worker.start(lambda: None)\n"
            "worker.call({'completions': ['a']}, 1, 0, lambda: None)\n"
            "time.sleep(999)"
        )
        with subprocess.Popen([sys.executable, "-c", code, f"{tmp_path}/r.py:f", str(log)]) as parent:
            while not (log.is_file() and log.read_text()):
                assert parent.poll() is None
                time.sleep(0.01)
            parent.kill()
        assert all(gone(int(pid)) for pid in log.read_text().split())

    @pytest.mark.parametrize(("best", "highest"), [(2.5, 2.5), (None, math.inf)])
    def test_the_highest_score_is_what_the_user_says(self, best: float | None, highest: float) -> None:
        assert python_of("r.py:f", best=best).highest == highest
