"""Properties of prompts, their order and their streams."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf_cli.data.jsonl import fingerprint, read_prompts
from rlhf_cli.data.order import held_out_rows, rows_of_step
from rlhf_cli.errors import EXIT_DATA, UserError
from rlhf_cli.models.tiny import END, byte_tokenizer
from rlhf_cli.seeding import permutation, seed_for, uniforms

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
    flat = [row for step in range(steps) for row in rows_of_step(step, rows, per_step, seed)]
    for epoch in range(epochs):
        assert sorted(flat[epoch * rows : (epoch + 1) * rows]) == list(range(rows))


@given(run_seeds, st.integers(0, 50), st.data())
def test_held_out_rows_and_the_rest_are_everything_once(seed: int, rows: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, rows))
    train, held_out = held_out_rows(rows, count, seed)
    assert len(held_out) == count
    assert sorted(train + held_out) == list(range(rows))


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
    found = read_prompts(str(file))
    assert [(row.prompt, dict(row.columns)) for row in found] == rows
    assert fingerprint(found) == fingerprint(read_prompts(str(file)))


@given(st.binary(max_size=60))
def test_whatever_the_file_holds_there_are_rows_or_one_line_that_says_why_not(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_bytes(content)
    problem = None
    try:
        assert read_prompts(str(file))
    except UserError as error:
        problem = error
    assert problem is None or (problem.exit_code == EXIT_DATA and "prompts.jsonl" in problem.where)


@given(texts.filter(lambda text: END not in text))
def test_the_byte_tokenizer_returns_any_text(text: str) -> None:
    tokens = TOKENIZER(text)["input_ids"]
    assert len(tokens) == len(text.encode())
    assert TOKENIZER.decode(tokens, skip_special_tokens=True) == text
