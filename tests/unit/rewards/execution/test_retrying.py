"""One source under its asker: what its function gets, and what becomes of every failure."""

from __future__ import annotations

import hashlib
import json
import math
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from rlhf_cli.errors import EXIT_REWARD, EXIT_USAGE, UserError
from rlhf_cli.rewards.execution import retrying
from rlhf_cli.rewards.execution.messages import CallFailed
from rlhf_cli.rewards.execution.retrying import RetryingSource, ScoreRequest, SourceScores
from rlhf_cli.rewards.kinds.characters import Characters
from rlhf_cli.rewards.kinds.python import Python
from rlhf_cli.types import Message, PromptRow
from tests.unit.rewards.execution.support import ROWS, SEE, TEXTS, Opened, ask, python_of, refused
from tests.unit.rewards.support import made

SEEN = "import json\ndef f({}):\n    print(json.dumps(seen := locals(), sort_keys=True))\n    return [0, 0, 0, 0]\n"

TROUBLE = [
    ("1 / 0", "raised ZeroDivisionError: division by zero at rewards.py:4"),
    ("raise ValueError('two\\nlines  of it')", "raised ValueError: two lines of it at rewards.py:4"),
    ("raise ValueError('\\ud800')", "raised ValueError: \\ud800 at rewards.py:4"),
    ("helper()", "raised KeyError: 'x' at rewards.py:7"),
    ("json.loads('')", "raised JSONDecodeError: Expecting value: line 1 column 1 (char 0) at rewards.py:4"),
    ("raise KeyboardInterrupt", "raised KeyboardInterrupt at rewards.py:4"),
    ("sys.exit(0)", "called sys.exit(0) at rewards.py:4"),
    ("sys.exit()", "called sys.exit() at rewards.py:4"),
    ("os._exit(3)", "ended its process with exit code 3"),
    ("os.kill(os.getpid(), 9)", "had its process killed by SIGKILL, most likely for want of memory"),
    ("os.abort()", "had its process killed by SIGABRT"),
]
ON_CCC = """
import json, os, sys
def f(completions):
    if "ccc" in completions: {}
    return [len(text) for text in completions]
def helper():
    return {{}}["x"]
"""


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
def test_only_what_it_takes(opened: Opened, tmp_path: Path, parameters: str, expected: dict[str, Any]) -> None:
    ask(opened(SEEN.format(parameters)))
    assert json.loads((tmp_path / "reward.log").read_text()) == expected


def test_arguments_and_columns_that_do_not_meet_are_said(opened: Opened) -> None:
    source = opened(SEEN.format("completions, answers=None, scale=2.0, topic=None"))
    assert source.notes == [
        "rewards.py:f takes answers, scale, which the data does not have: the default is used",
    ]
    assert opened(SEEN.format("completions, topic=None"), columns=("topic", "prompts")).notes == [
        "reward does not get the column prompts of the data: the name is taken"
    ]
    assert not opened(SEEN.format("prompts, completions, completion_ids=None, **rest")).notes


def test_a_column_with_the_name_of_an_argument_does_not_take_its_place(opened: Opened, tmp_path: Path) -> None:
    ask(opened(SEEN.format("prompts, completions"), columns=["prompts", "completions"]))
    expected = {"completions": TEXTS, "prompts": ["prompt 1"] * 2 + ["prompt 2"] * 2}
    assert json.loads((tmp_path / "reward.log").read_text()) == expected


def test_a_chat_is_given_as_messages(opened: Opened, tmp_path: Path) -> None:
    source = opened(SEEN.format("prompts, completions").replace("[0, 0, 0, 0]", "[0]"))
    chat = PromptRow((Message("system", "Be brief."), Message("user", "Hi\ud800")), {}, "p.jsonl:1")
    ask(source, ["\x00é\u2028"], prompts=[chat])
    assert json.loads((tmp_path / "reward.log").read_text()) == {
        "prompts": [[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi\ud800"}]],
        "completions": [[{"role": "assistant", "content": "\x00é\u2028"}]],
    }


def test_a_column_that_only_some_rows_have_is_none_in_the_others(opened: Opened, tmp_path: Path) -> None:
    ask(opened(SEEN.format("completions, hint"), columns=["hint"]))
    assert json.loads((tmp_path / "reward.log").read_text())["hint"] == [None] * 4


def test_a_column_that_no_row_has_is_missed_before_anything_else_happens(opened: Opened) -> None:
    with pytest.raises(UserError) as caught:
        opened("def f(completions, anwser, x, y=1): pass")
    assert caught.value.line() == (
        "rewards.py:f takes anwser, x, which the data does not have; its columns: answer, topic (reward.function); "
        "fix: name its parameters as the columns"
    )
    assert caught.value.exit_code == EXIT_REWARD


@pytest.mark.parametrize("parameters", ["", "prompts", "cmd, *, encoding=None"])
def test_a_function_without_completions_is_never_called(opened: Opened, parameters: str) -> None:
    """Settings and data of a stranger's would otherwise run subprocess:getoutput(cmd)."""
    with pytest.raises(UserError) as caught:
        opened(f"def f({parameters}):\n    return [1.0]", columns=["cmd"])
    assert caught.value.line() == (
        "rewards.py:f takes no completions, so that it cannot be a reward (reward.function); "
        "fix: write def f(prompts, completions, **columns)"
    )
    assert caught.value.exit_code == EXIT_REWARD


def test_a_long_completion_is_cut_and_control_characters_are_made_harmless(opened: Opened) -> None:
    source = opened("def f(completions):\n    return [None]")
    line = refused(lambda: ask(source, ["\x1b[2J" * 99]))
    assert "\x1b" not in line
    # 200 characters: the quote, 28 times \x1b[2J, and three of the next
    assert line.startswith(f"rewards.py:f gave None for the completion '{chr(92)}x1b[2J")
    assert f"[2J{chr(92)}x1… (step 3" in line


def test_those_of_a_reward_of_ours_stop_the_run_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    source = RetryingSource(Characters(kind="characters", characters="a"), "reward", [], None)
    source.open()
    assert ask(source).scores == [1.0, 0.0, 0.0, 0.0]
    monkeypatch.setattr(Characters, "score", lambda self, prompts, completions: [0.0, 0.0, math.nan, 1.0])
    assert refused(lambda: ask(source)) == "reward=characters gave nan for the completion 'ccc' (step 3, p.jsonl:2)"
    monkeypatch.setattr(Characters, "score", lambda self, prompts, completions: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # our mistake, not the user's
        ask(source)


@pytest.mark.parametrize(("line", "said"), TROUBLE)
def test_the_completion_is_found_and_named(opened: Opened, line: str, said: str) -> None:
    source = opened(ON_CCC.format(line).lstrip("\n").replace("import", "\nimport", 1))
    assert refused(lambda: ask(source)) == f"rewards.py:f {said} for the completion 'ccc' (step 3, p.jsonl:2){SEE}"


@pytest.mark.parametrize("line", ["1 / 0", "sys.exit(0)", "os._exit(0)"])
def test_it_does_not_cost_the_others(opened: Opened, line: str) -> None:
    found = ask(opened(ON_CCC.format(line), on_error="value"))
    assert found.scores == [1.0, 2.0, -7.0, 4.0]
    assert (list(found.failures), found.retries) == ([2], 2)  # the batch once more, the completion once more
    found = ask(opened(ON_CCC.format(line), on_error="mask", retries=0))
    assert found.scores == [1.0, 2.0, None, 4.0]
    assert (list(found.failures), found.retries) == ([2], 0)


class TestCalls:
    """The calls that failures cost, in this process."""

    @pytest.fixture
    def calls(self, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
        """The texts of each call; one with a `c` fails, and `wide` or `final` ones in their own way."""
        made: list[list[str]] = []

        def once(source: RetryingSource, request: ScoreRequest, rows: slice) -> list[float]:
            made.append([*request.completions[rows]])
            text = "".join(made[-1])
            if "c" in text:
                raise CallFailed("failed")
            if "wide" in text:
                raise CallFailed("is away", is_batch_wide=True, retry_after_s=0.5)
            if "final" in text:
                raise CallFailed("is gone", is_batch_wide=True, retry_after_s=None)
            return [1.0] * len(made[-1])

        monkeypatch.setattr(RetryingSource, "_score_once", once)
        return made

    @staticmethod
    def source(**settings: Any) -> RetryingSource:
        return RetryingSource(python_of("r.py:f", on_error="mask", **settings), "reward", (), None)

    def test_of_two_the_one_at_fault_is_found(self, calls: list[list[str]]) -> None:
        found = ask(self.source(retries=0), ["a", "c"])
        assert calls == [["a", "c"], ["a"], ["c"]]
        assert (found.scores, found.retries) == ([1.0, None], 0)
        assert found.failures == {1: "r.py:f failed for the completion 'c' (p.jsonl:1)"}

    def test_one_alone_is_at_fault_itself(self, calls: list[list[str]]) -> None:
        found = ask(self.source(retries=2), ["c"])
        assert calls == [["c"]] * 3
        assert (found.scores, found.retries) == ([None], 2)
        assert found.failures == {0: "r.py:f failed for the completion 'c' (p.jsonl:1)"}

    def test_a_batch_that_has_no_answer_is_asked_again_after_its_time(
        self, calls: list[list[str]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        slept, ticks, now = list[float](), list[int](), [1000.0]

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            now[0] += seconds

        monkeypatch.setattr(retrying.time, "sleep", sleep)
        monkeypatch.setattr(retrying.time, "monotonic", lambda: now[0])
        monkeypatch.setattr(retrying, "POLL_S", 0.2)
        found = ask(self.source(retries=1), ["wide", "a"], tick=lambda: ticks.append(1))
        assert calls == [["wide", "a"]] * 2
        assert (found.scores, found.retries) == ([None, None], 1)
        assert found.failures == dict.fromkeys((0, 1), "r.py:f is away")
        assert slept == pytest.approx([0.2, 0.2, 0.1])
        assert len(ticks) == 3

    def test_what_another_try_would_not_help_is_not_tried_again(self, calls: list[list[str]]) -> None:
        found = ask(self.source(retries=3), ["final", "a"])
        assert calls == [["final", "a"]]
        assert (found.scores, found.retries) == ([None, None], 0)


@pytest.mark.parametrize("line", ["raise OSError", "os._exit(1)", "time.sleep(99)"])
def test_what_passes_is_tried_again(opened: Opened, tmp_path: Path, line: str) -> None:
    code = f"""
        import os, time
        def f(completions):
            with open({str(tmp_path / "calls")!r}, "a") as calls:
                print("call", file=calls)
            if os.stat(calls.name).st_size < 6: {line}
            return [7] * len(completions)
        """
    source = opened(code, timeout_s=2.0 if "sleep" in line else 20.0)
    assert ask(source) == SourceScores([7.0] * 4, {}, retries=1)
    assert ask(source).retries == 0


def test_a_hang_ends_at_its_deadline(opened: Opened, tmp_path: Path) -> None:
    code = "import time\ndef f(completions):\n    time.sleep(99)"
    start = time.monotonic()
    source = opened(code, timeout_s=1.0)
    line = refused(lambda: ask(source))
    assert time.monotonic() - start < 20  # of 99
    assert line == f"rewards.py:f did not answer within 1 s (reward.timeout_s) (step 3){SEE}"
    assert f'File "{tmp_path}/rewards.py", line 3 in f' in (tmp_path / "reward.log").read_text()
    found = ask(opened(code, timeout_s=1.0, retries=0, on_error="mask"))
    failure = "rewards.py:f did not answer within 1 s (reward.timeout_s)"
    assert found == SourceScores([None] * 4, dict.fromkeys(range(4), failure), retries=0)


def test_settings_of_a_part_are_named_by_its_own_key(tmp_path: Path) -> None:
    (tmp_path / "rewards.py").write_text("import time\ntime.sleep(99)")
    part = python_of(f"{tmp_path}/rewards.py:f", timeout_s=1.0)
    line = refused(RetryingSource(part, "reward.parts.tone", (), None).open)
    assert "did not answer within 1 s (reward.parts.tone.timeout_s) (reward.parts.tone.function)" in line


def test_a_judge_names_its_columns_in_its_rubric() -> None:
    judge = made("judge", url="http://localhost:1", model="m", rubric="{question} {completion}")
    line = refused(RetryingSource(judge, "reward.parts.tone", ("answer",), None).open)
    assert line == (
        "reward.parts.tone=judge takes question, which the data does not have; its columns: answer "
        "(reward.parts.tone); fix: name columns of the data in reward.parts.tone.rubric"
    )


def test_one_completion_alone_that_hangs_is_named(opened: Opened) -> None:
    source = opened("import time\ndef f(completions):\n    time.sleep(99)", timeout_s=1.0, retries=0)
    with pytest.raises(UserError, match=r"for the completion 'a' \(step 3, p\.jsonl:1\)"):
        ask(source, ["a"])


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
        ("while True: pass", "cannot be imported: it did not answer within 1 s (reward.timeout_s)"),
        ("g = 1", "cannot be called: f is not there, nor is any function"),
        ("def g(): pass\ndef h(): pass", "cannot be called: f is not there, only g, h"),
        ("g = lambda: 0", "cannot be called: f is not there, only g"),
        ("f = 1", "cannot be called: f is no function"),
    ],
)
def test_one_line(opened: Opened, code: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        opened(code, timeout_s=1.0 if code.startswith("while") else 20.0)
    fix = "; fix: mend it (see reward.log)" if "imported" in said else ""
    assert caught.value.line() == f"rewards.py:f {said} (reward.function){fix}"
    assert caught.value.exit_code == EXIT_REWARD


def test_no_such_file(opened: Opened, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        opened("", function=str(tmp_path / "reward.py:f"))
    assert caught.value.line() == f"no such file: {tmp_path}/reward.py (reward.function); fix: give file.py:function"
    assert caught.value.exit_code == EXIT_USAGE == 2


def test_the_hash_is_that_of_the_file(opened: Opened) -> None:
    one, same, other = (opened(f"def f(completions): pass{end}").sha256 for end in ("", "", "\n# changed"))
    assert one == same != other
    assert one == hashlib.sha256(b"def f(completions): pass").hexdigest()
    assert RetryingSource(Characters(kind="characters", characters="a"), "reward", [], None).sha256 is None


VALUED = "def f(completions, values):\n    return values[0]\n"
UNUSABLE = [
    (None, "None"),
    (math.nan, "nan"),
    (math.inf, "inf"),
    (-math.inf, "-inf"),
    (1e38, "1e+38 (the limit is 1e+18)"),
    (-(10**400), "-inf"),
    (-1.001e18, "-1.001e+18 (the limit is 1e+18)"),
]


def answer(source: RetryingSource, values: list[Any]) -> SourceScores:
    """The scores of four completions whose function returns `values`."""
    return ask(
        source, prompts=[PromptRow(ROWS[n // 2].prompt, {"values": values}, ROWS[n // 2].where) for n in range(4)]
    )


def test_an_unusable_score_stops_the_run(opened: Opened) -> None:
    source = opened(VALUED, columns=("values",))
    for value, said in UNUSABLE:
        line = refused(partial(answer, source, [1, 1, value, 1]))
        assert line == f"rewards.py:f gave {said} for the completion 'ccc' (step 3, p.jsonl:2){SEE}"


def test_or_its_prompt_is_left_out(opened: Opened) -> None:
    source = opened(VALUED, columns=("values",), on_error="mask")
    for value, said in UNUSABLE:
        failure = f"rewards.py:f gave {said} for the completion 'a' (p.jsonl:1)"
        assert answer(source, [value, 1, 2, 3]) == SourceScores([None, 1.0, 2.0, 3.0], {0: failure}, retries=0)


def test_or_it_takes_a_value(opened: Opened) -> None:
    found = answer(opened(VALUED, columns=("values",), on_error="value"), [None, 1, math.nan, 3])
    assert found.scores == [-7.0, 1.0, -7.0, 3.0]
    assert found.failures == {
        0: "rewards.py:f gave None for the completion 'a' (p.jsonl:1)",
        2: "rewards.py:f gave nan for the completion 'ccc' (p.jsonl:2)",
    }


def test_the_limit_itself_can_be_learned_from(opened: Opened) -> None:
    found = answer(opened(VALUED, columns=("values",)), [1e18, -1e18, 0, -0.0])
    assert found == SourceScores([1e18, -1e18, 0.0, -0.0])


def test_a_row_without_a_right_answer_is_the_reason(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """A right answer that was not read before the run is told of as it would have been then."""
    monkeypatch.setattr(Python, "needs", ("topic",))
    source = opened("def f(completions, values, **others):\n    return values\n", columns=("values", "topic"))
    rows = [PromptRow("Q", {"values": value, "topic": topic}, "p.jsonl:7") for value, topic in ((1, "x"), (None, None))]
    with pytest.raises(UserError) as caught:
        ask(source, ["a", "b"], prompts=rows)
    assert caught.value.what.endswith(":f has no score, since topic is missing")
    assert caught.value.where == "step 3, p.jsonl:7"
    rows[1] = PromptRow("Q", {"values": None, "topic": "y"}, "p.jsonl:8")
    with pytest.raises(UserError, match="gave None for the completion 'b'"):
        ask(source, ["a", "b"], prompts=rows)


@pytest.mark.parametrize("on_error", ["stop", "mask", "value"])
def test_what_is_no_list_of_scores_stops_the_run(opened: Opened, on_error: str) -> None:
    source = opened(VALUED, columns=("values",), on_error=on_error)
    fix = "return a list with one number (or None) for each completion"
    line = refused(lambda: answer(source, [1, 1, "1", 1]))
    said = "returned a value of type str as score 3 of 4, not a number or None"
    assert line == f"rewards.py:f {said} (step 3); fix: {fix}"
