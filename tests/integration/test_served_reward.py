"""A run whose scores come from a server."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.score_server import ScoreServer, send
from tests.support import QUICK, Outcome, lines

Rlhf = Callable[..., Outcome]
TOKEN = "tkn-5f0c9a"


def test_a_run_is_scored_by_the_server_and_its_token_stands_nowhere(
    server: ScoreServer, rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCORES_TOKEN", TOKEN)
    few = (*QUICK, "steps=2", "evaluate.every=0", "display=plain", "run_dir=out")
    server.faults = [lambda handler, body: send(handler, {}, 503, Retry_After="0")]
    outcome = rlhf("train", *few, "reward=http", f"reward.url={server.url}", "reward.token_env=SCORES_TOKEN")
    assert outcome.code == 0, outcome.err
    assert [row["reward/retries"] for row in lines(tmp_path / "out" / "timings.jsonl")] == [1, 0]
    assert server.headers[-1]["Authorization"] == f"Bearer {TOKEN}"
    files = [Path(folder) / file for folder, _, files in os.walk(tmp_path) for file in files]
    assert len(files) > 5
    assert not any(TOKEN.encode() in file.read_bytes() for file in files)
    assert TOKEN not in outcome.out + outcome.err
    assert rlhf("train", *few[:-1], "run_dir=j", "reward=judge", f"reward.url={server.url}", "reward.model=m").code == 0
