"""The deadline of one completion."""

from __future__ import annotations

import contextlib
import re
import signal
import time
from pathlib import Path

import pytest

from rlhf_cli.rewards.deadline import score_in_time
from rlhf_cli.rewards.execution.retrying import ScoreRequest
from rlhf_cli.rewards.execution.scorer import SourceScorer
from rlhf_cli.types import PromptRow
from tests.unit.rewards.support import made

SLOW = re.compile("(a|a)+$")


def stubborn(text: str) -> float:
    """Swallows what is raised in it, twice."""
    for _ in range(2):
        with contextlib.suppress(BaseException):
            time.sleep(9)
    time.sleep(9)
    return 1.0


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize(
    "judge",
    [
        pytest.param(lambda text: time.sleep(9), id="sleep"),
        pytest.param(lambda text: SLOW.match("a" * 60 + "b"), id="regular expression"),
        pytest.param(lambda text: 7**10**9 % 2, id="long integers"),
        pytest.param(lambda text: sum(0 for _ in iter(int, 1)), id="loop"),
        pytest.param(stubborn, id="stubborn"),
    ],
)
def test_what_takes_too_long_has_no_score(judge: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert callable(judge)
    start = time.monotonic()
    assert score_in_time(0.05, judge, "x\n" * 150) is None
    assert time.monotonic() - start < 8  # of 9
    shown = "x" + r"\nx" * 99 + r"\n"  # 200 characters
    assert capsys.readouterr().err == f"no score within 0.05 s: '{shown}'\n"


def test_what_is_quick_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert score_in_time(0.05, len, "abc") == 3
    assert score_in_time(0.05, lambda text: None, "abc") is None
    time.sleep(0.2)  # nothing rings afterwards
    assert capsys.readouterr().err == ""


def test_errors_pass_and_the_old_handler_is_back() -> None:
    def own(number: int, frame: object) -> None:
        raise AssertionError

    before = signal.signal(signal.SIGALRM, own)
    try:
        with pytest.raises(ZeroDivisionError):
            score_in_time(0.05, lambda text: 1 / 0, "abc")
        assert signal.getsignal(signal.SIGALRM) is own
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
        assert score_in_time(0.01, lambda text: time.sleep(9), "abc") is None
        assert signal.getsignal(signal.SIGALRM) is own
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_in_the_process_of_a_reward_it_rings_too(tmp_path: Path) -> None:
    settings = made("regex", pattern="(a|a)+$", match="fullmatch", seconds=0.05).model_dump()
    (tmp_path / "rewards.py").write_text(
        f"from rlhf_cli.rewards.kinds.regex import make_score\nf = make_score(**{settings})\n"
    )
    reward = made("python", function=f"{tmp_path}/rewards.py:f", on_error="value", error_value=-7.0)
    with SourceScorer(reward, [], tmp_path / "reward.log") as scorer:
        rows, texts = [PromptRow("p", {}, "f:1")] * 3, ["aaa", "a" * 60 + "b", "b"]
        found = scorer.score_texts(ScoreRequest(rows, texts, None, 0, lambda: None, "step 1"), 1)
    assert (found.values, found.failures, found.retries) == ((1.0, -7.0, 0.0), 1, 0)
    assert (tmp_path / "reward.log").read_text() == f"no score within 0.05 s: '{'a' * 60}b'\n"
