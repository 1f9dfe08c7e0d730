"""Properties of prompts, their order and their streams."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf_cli.data.csv import Csv
from rlhf_cli.data.order import PartSize, prompts_of_step, split_by_weight
from rlhf_cli.data.reading import read_source
from rlhf_cli.data.source import PromptSource
from rlhf_cli.data.split import fingerprint, set_aside
from rlhf_cli.errors import EXIT_DATA, UserError
from rlhf_cli.models.tiny import END, byte_tokenizer
from rlhf_cli.seeding import permutation, seed_for, uniforms
from rlhf_cli.types import PromptRow
from tests.unit.support import data_fields, source_of

run_seeds = st.integers(0, 2**63 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
"""Anything but halves of surrogate pairs, which are no text."""
values = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False) | texts
)
TOKENIZER = byte_tokenizer()


@given(run_seeds, st.integers(1, 30), st.integers(1, 40), st.integers(1, 4))
def test_every_epoch_is_a_permutation_however_it_is_cut(seed: int, rows: int, per_step: int, epochs: int) -> None:
    steps = -(-rows * epochs // per_step)
    flat = [
        row for step in range(steps) for _, row in prompts_of_step(step, (PartSize("", 1.0, rows),), per_step, seed)
    ]
    for epoch in range(epochs):
        assert sorted(flat[epoch * rows : (epoch + 1) * rows]) == list(range(rows))


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=12), st.integers(1, 300))
def test_every_part_is_within_one_of_its_share(weights: list[float], count: int) -> None:
    for part, taken in enumerate(split_by_weight(weights, count)):
        assert abs(taken - count * weights[part] / sum(weights)) < 1 + 1e-9


prompts = st.lists(st.tuples(st.sampled_from("abcdefghij"), st.integers(0, 2)), max_size=30)


def rows_with(found: list[tuple[str, int]]) -> list[PromptRow]:
    return [PromptRow(text, {"answer": answer}, f"f:{i}") for i, (text, answer) in enumerate(found)]


def content(rows: list[PromptRow]) -> list[tuple[str, int]]:
    return [(row.shown, row.columns["answer"]) for row in rows]


@given(prompts, st.integers(0, 30), st.randoms())
def test_no_held_out_prompt_is_trained_on_whatever_the_order_of_the_rows(
    found: list[tuple[str, int]], count: int, chance: Random
) -> None:
    train, held_out, twins = set_aside(rows_with(found), count)
    assert len(held_out) == min(count, len(found))
    assert len(train) + len(held_out) + twins == len(found)
    assert not {row.prompt for row in train} & {row.prompt for row in held_out}
    assert [row.where for row in train] == sorted((row.where for row in train), key=lambda where: int(where[2:]))
    chance.shuffle(found)
    assert content(set_aside(rows_with(found), count)[1]) == content(held_out)


@given(st.sets(st.integers(0, 500), min_size=1, max_size=30), st.integers(501, 999), st.integers(1, 9))
def test_another_row_displaces_one_held_out_row_at_most(found: set[int], new: int, count: int) -> None:
    before, after = (
        {row.prompt for row in set_aside([PromptRow(f"prompt {n}", {}, "") for n in numbers], count)[1]}
        for numbers in (found, found | {new})
    )
    assert len(before - after) <= 1


def csv_of(file: Path) -> Csv:
    return Csv.model_validate(data_fields(kind="csv", path=str(file)))


@given(st.lists(st.tuples(texts.filter(str.strip), texts), min_size=1, max_size=6))
def test_what_is_written_as_csv_comes_back(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    file = tmp_path / "p.csv"
    with file.open("w", encoding="utf-8", newline="") as lines:
        csv.writer(lines).writerows((("prompt", "answer"), *rows))
    found = read_source(csv_of(file)).rows
    assert [(row.prompt, row.columns) for row in found] == [(text, {"answer": answer}) for text, answer in rows]


@given(run_seeds, st.integers(0, 60))
def test_a_permutation_is_one_and_is_always_the_same(seed: int, size: int) -> None:
    assert sorted(permutation(size, seed)) == list(range(size))
    assert permutation(size, seed) == permutation(size, seed)


@given(st.lists(run_seeds, min_size=1, max_size=5), st.integers(1, 9))
def test_every_row_of_uniforms_is_its_seeds_own(seeds: list[int], length: int) -> None:
    together = uniforms(seeds, length)
    assert bool(((together >= 0) & (together < 1)).all())
    for row, seed in zip(together, seeds, strict=True):
        assert torch.equal(row, uniforms([seed], length)[0])


@given(run_seeds, st.text(max_size=8), st.lists(st.integers(0, 10**6), max_size=4))
def test_a_seed_can_seed_a_generator_and_depends_on_its_last_counter(
    seed: int, stream: str, counters: list[int]
) -> None:
    found = seed_for(seed, stream, *counters)
    torch.Generator().manual_seed(found)
    assert found == seed_for(seed, stream, *counters)
    assert found != seed_for(seed, stream, *counters, 0)


@given(
    st.lists(
        st.tuples(
            texts.filter(str.strip), st.dictionaries(texts.filter(lambda key: key != "prompt"), values, max_size=3)
        ),
        min_size=1,
        max_size=5,
    ),
    st.booleans(),
)
def test_any_text_and_any_columns_come_back(
    tmp_path: Path, rows: list[tuple[str, dict[str, Any]]], escaped: bool
) -> None:
    file = tmp_path / "prompts.jsonl"
    lines = [json.dumps({"prompt": prompt, **columns}, ensure_ascii=escaped) for prompt, columns in rows]
    file.write_bytes("\n".join(lines).encode())
    found = read_source(source_of(file)).rows
    assert [(row.prompt, dict(row.columns)) for row in found] == rows
    assert fingerprint(found) == fingerprint(read_source(source_of(file)).rows)


@given(st.binary(max_size=60), st.sampled_from([source_of, csv_of]))
def test_whatever_the_file_holds_there_are_rows_or_one_line_that_says_why_not(
    tmp_path: Path, content: bytes, kind: Callable[[Path], PromptSource]
) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_bytes(content)
    problem = None
    try:
        assert read_source(kind(file)).rows
    except UserError as error:
        problem = error
    assert problem is None or (problem.exit_code == EXIT_DATA and "prompts.jsonl" in problem.where)


@given(texts.filter(lambda text: END not in text))
def test_the_byte_tokenizer_returns_any_text(text: str) -> None:
    tokens = TOKENIZER(text)["input_ids"]
    assert len(tokens) == len(text.encode())
    assert TOKENIZER.decode(tokens, skip_special_tokens=True) == text
