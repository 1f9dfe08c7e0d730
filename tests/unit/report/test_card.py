"""The model card of a merged model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rlhf_cli.report.card import write_card
from tests.unit.report.samples import sample_run


def test_the_card_repeats_the_run_by_its_own_verb(tmp_path: Path) -> None:
    run = sample_run()
    write_card(tmp_path, replace(run, status=replace(run.status, verb="sft")), "float32")
    assert "\n    rlhf sft config=tiny beta=0.5\n" in (tmp_path / "README.md").read_text()
