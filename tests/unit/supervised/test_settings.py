"""The settings of supervised training that do not fit together."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlhf_cli.config.jobs import compose_for
from rlhf_cli.errors import UserError
from rlhf_cli.verbs import DPO, REWARD_TRAIN, SFT, Verb


@pytest.mark.parametrize(
    ("verb", "override", "what"),
    [
        (SFT, "data.template='{prompt} {completion}'", "data.template: shows the column completion"),
        (DPO, "data.template='{prompt} {rejected}'", "data.template: shows the column rejected"),
        (SFT, "data.prompt=completion", "data.prompt: shows the column completion"),
        (REWARD_TRAIN, "objective.chosen=prompt", "data.prompt: shows the column prompt"),
        (DPO, "objective.rejected=chosen", "objective: chosen and rejected name one column, chosen"),
        (SFT, "evaluate.every=0", "patience: needs held-out losses"),
        (SFT, "checkpoint.keep_best=false", "patience: exports the best step"),
        (DPO, "objective.beta=2e9", "objective.beta: must be at most 1e\\+09"),
        (REWARD_TRAIN, "objective.centre=2e9", "objective.centre: must be at most 1e\\+09"),
        (SFT, "shards=99", "shards: a shard has whole prompts, and a step has"),
        (REWARD_TRAIN, "processes=99", "processes: 99 processes need as many shards, and there are"),
    ],
)
def test_what_does_not_fit_is_refused(verb: Verb, override: str, what: str) -> None:
    with pytest.raises(UserError, match=f"^{what}"):
        compose_for(verb, ["config=tiny", "patience=2", override])


@pytest.mark.parametrize("verb", [SFT, DPO, REWARD_TRAIN])
def test_an_example_of_data_is_one_to_type(verb: Verb, tmp_path: Path) -> None:
    """The default of rlhf sft has values over its option."""
    file = tmp_path / "x.yaml"
    file.write_text("model: tiny\n")
    with pytest.raises(UserError, match=r"nothing is chosen for data .*; add for example `data: jsonl`$"):
        compose_for(verb, [f"config={file}"])


def test_a_template_of_other_columns_is_fine() -> None:
    assert compose_for(SFT, ["config=tiny", "data.template='{prompt}:'"]).objective.kind == "sft"


@pytest.mark.parametrize(
    ("verb", "columns"),
    [
        (SFT, {"completion", "messages"}),
        (DPO, {"chosen", "rejected", "messages"}),
        (REWARD_TRAIN, {"chosen", "rejected", "messages"}),
    ],
)
def test_the_columns_that_are_learned_are_those_that_are_read(verb: Verb, columns: set[str]) -> None:
    assert set(compose_for(verb, ["config=tiny"]).columns_read) == columns
