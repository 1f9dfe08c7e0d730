"""Which verb began a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rlhf_cli.errors import EXIT_RESUME, UserError
from rlhf_cli.runs.kind import check_verb, is_run, verb_of
from tests.unit.runs.samples import CONFIG


@pytest.mark.parametrize(
    ("config", "is_one"),
    [
        (CONFIG, True),
        (CONFIG | {"more": 1}, True),
        ({"steps": 8, "objective": {}}, True),
        ({"steps": 8, "reward": {}}, False),
        ({"objective": {}}, False),
        ({}, False),
    ],
)
def test_a_config_of_this_tool(config: dict[str, Any], is_one: bool) -> None:
    assert is_run(config) == is_one


def test_a_run_goes_on_by_its_own_verb() -> None:
    folder, config = Path("my runs"), {"steps": 8, "objective": {"kind": "bradley_terry"}}
    assert verb_of(CONFIG) == verb_of({"objective": 3}) == "train"
    check_verb(config, "reward train", folder)
    with pytest.raises(UserError) as caught:
        check_verb(config, "sft", folder)
    fix = "rlhf reward train resume='my runs'"
    assert caught.value.line() == f"a run of rlhf reward train, not of rlhf sft (my runs); fix: {fix}"
    assert caught.value.exit_code == EXIT_RESUME
    with pytest.raises(UserError, match=r"fix: another$"):
        check_verb(config, "train", folder, "another")
