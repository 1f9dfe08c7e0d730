"""`rlhf chat` over a pipe."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import Outcome

Rlhf = Callable[..., Outcome]


def test_a_pipe_is_a_chat_that_its_seed_repeats_and_whose_turns_are_prompts(
    finished: Path, rlhf: Rlhf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chat(*options: str, lines: str = "Hi.\n/temperature 1\nWhat is snow?\n") -> Outcome:
        monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
        return rlhf("chat", str(finished), *options)

    first = chat()
    assert first.code == 0, first.err
    assert "note: without a chat template, the model goes on with the text so far" in first.err
    greedy = rlhf("generate", str(finished), "Hi.").out
    assert first.out.startswith(greedy)
    assert len(first.out) > len(greedy)
    assert chat().out == first.out
    assert chat("--seed", "1").out != first.out
    beside = chat("--reference", lines="Hi.\n/save turns.jsonl\n")
    assert beside.out.startswith("reference  ")
    assert f"\npolicy     {greedy}" in beside.out
    assert beside.err.endswith("\n1 prompt in turns.jsonl\n")
    assert Path("turns.jsonl").read_text() == '{"prompt": "Hi."}\n'
    wrong = chat(lines="Hi.\n/tempo 1\n")
    assert (wrong.code, wrong.out) == (2, greedy)
    assert "no command /tempo (line 2 of stdin)" in wrong.err
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\n")))
    assert rlhf("chat", str(finished)).code == 2
