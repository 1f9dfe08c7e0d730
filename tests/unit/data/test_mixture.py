"""Mixtures: their parts and weights; a single source is a mixture of itself."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from rlhf_cli.data.mixture import Mixture
from tests.unit.support import data_fields, source_of


def mixture(**weights: float) -> Mixture:
    """The parts a and b, of which b has a file of held-out prompts."""
    parts = {"a": data_fields(path="a.jsonl"), "b": data_fields(path="b.jsonl", eval_path="e.jsonl")}
    fields = {"kind": "mixture", "parts": {n: parts[n] for n in weights if n in parts}, "weights": weights}
    return Mixture.model_validate(fields)


def test_one_part_is_enough_and_none_is_too_few() -> None:
    assert [*mixture(a=2.0).parts] == ["a"]
    with pytest.raises(ValidationError, match="at least 1 item"):
        mixture()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"weights": {"a": 1.0, "b": 1.0, "c": 1.0}}, "'c' has no part"),
        ({"weights": {"b": 1.0}}, "'a' has no weight"),
        ({"weights": {"c": 1.0}}, "'a' has no weight"),  # nor has b, and c has no part
        ({"weights": {"a": 1.0, "b": 0.0}}, "greater than 0"),
    ],
)
def test_parts_and_weights_have_the_same_names(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        Mixture.model_validate(mixture(a=1.0, b=1.0).model_dump() | changes)


def test_held_out_rows_are_set_aside_where_any_part_has_no_file_of_them() -> None:
    both, one = mixture(a=1.0, b=1.0), mixture(b=1.0)
    assert (both.sets_aside, one.sets_aside) == (True, False)
    assert both.place(held_out=False) == "a.jsonl, b.jsonl"
    assert both.place(held_out=True) == "a.jsonl, e.jsonl"


def test_a_single_source_has_the_whole_weight() -> None:
    source = source_of()
    assert (source.parts, source.weights) == ({"": source}, {"": 1.0})


def test_the_shortest_settings() -> None:
    source = source_of(prompt="p", max_prompt_tokens=1)
    assert (source.prompt, source.max_prompt_tokens) == ("p", 1)
    for wrong in ({"prompt": ""}, {"max_prompt_tokens": 0}):
        with pytest.raises(ValidationError):
            source_of(**wrong)
