"""What is refused before a run begins."""

from __future__ import annotations

from typing import Any

import pytest

from rlhf_cli.commands import ready
from rlhf_cli.config.jobs import compose_config
from rlhf_cli.errors import UserError


def test_jobs_that_share_their_prompts_read_them_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []
    read_rows = ready.read_rows
    monkeypatch.setattr(ready, "read_rows", lambda config: reads.append(config) or read_rows(config))
    checked: list[tuple[Any, ...]] = []
    for beta in (0.1, 0.2):
        ready.check_new_run(compose_config(["config=tiny", f"beta={beta}"]), checked)
    assert len(reads) == 1
    ready.check_new_run(compose_config(["config=tiny", "evaluate.every=0"]), checked)
    assert len(reads) == 2
    with pytest.raises(UserError, match="fewer than prompts_per_step=100000"):
        ready.check_new_run(compose_config(["config=tiny", "prompts_per_step=100000"]), checked)
