"""`rlhf data show`: lengths by hand, and the parts of a mixture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from rlhf_cli.models.policy import Policy
from rlhf_cli.prompts import preview
from rlhf_cli.prompts.preview import Bin, Lengths, PartPreview, preview_prompts
from rlhf_cli.prompts.rows import PartRows, Rows
from rlhf_cli.types import PromptRow
from tests.unit.support import Recorder, config_of, source_of


def bins(*found: tuple[int, int, int]) -> tuple[Bin, ...]:
    return tuple(Bin(*one) for one in found)


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        # eleven lengths in ranges of two; six are no more than 8, and ten are 90 %
        (
            range(3, 14),
            Lengths(3, 8, 12, 13, bins((3, 4, 2), (5, 6, 2), (7, 8, 2), (9, 10, 2), (11, 12, 2), (13, 14, 1))),
        ),
        (range(5, 25), Lengths(5, 14, 22, 24, tuple(Bin(5 + 2 * n, 6 + 2 * n, 2) for n in range(10)))),
        ([7], Lengths(7, 7, 7, 7, bins((7, 7, 1)))),
        ([1, 1, 1, 4], Lengths(1, 1, 4, 4, bins((1, 1, 3), (2, 2, 0), (3, 3, 0), (4, 4, 1)))),
        ([*range(1, 11)], Lengths(1, 5, 9, 10, tuple(Bin(n, n, 1) for n in range(1, 11)))),
    ],
)
def test_lengths_by_hand(lengths: list[int], expected: Lengths) -> None:
    assert Lengths.of([*lengths][::-1]) == expected


@dataclass
class Ticks(Recorder):
    """It counts the ticks of its phase."""

    done: int = 0

    @contextmanager
    def phase(self, name: str, ticks: int) -> Iterator[Callable[[], None]]:
        """Count them."""

        def tick() -> None:
            self.done += 1

        with super().phase(name, ticks):
            yield tick


def part(name: str, limit: int, weight: float, train: list[int], held_out: list[int], more: bool = False) -> PartRows:
    """Prompts of so many bytes, which are tokens of the tiny model."""
    data = source_of(f"{name}.jsonl", eval_path="e.jsonl", max_prompt_tokens=limit, too_long="drop")
    rows = [
        [PromptRow(name * length, {f"of {name}": 1}, f"{file}:{length}") for length in lengths]
        for file, lengths in ((name, train), ("e", held_out))
    ]
    return PartRows(name, data, weight, rows[0], rows[1], Counter({"by data.where": 2}), more)


ROWS = Rows((part("a", 9, 3.0, [3, 10], [9]), part("b", 5, 1.0, [6], [2], more=True)))


def test_the_parts_of_a_mixture(moved: Policy) -> None:
    found = preview_prompts(ROWS, moved.encoder, moved.context, config_of(), 2, Recorder())
    assert found.parts == (
        PartPreview("a", "a.jsonl", 0.75, train=2, held_out=1, limit=9, too_long="drop", longer=1),
        PartPreview("b", "b.jsonl", 0.25, train=1, held_out=1, limit=5, too_long="drop", longer=1),
    )
    assert (found.left_out, found.more, found.columns) == ({"by data.where": 4}, True, ("of a", "of b"))
    assert found.lengths == Lengths.of([2, 3, 6, 9, 10])
    assert [(one.where, one.tokens, one.text) for one in found.shown] == [("a:3", 3, "aaa"), ("a:10", 10, "a" * 10)]


@pytest.mark.parametrize(("count", "shown"), [(0, ""), (1, "a"), (2, "aa"), (3, "aab"), (9, "aab")])
def test_the_first_training_prompts_are_shown(count: int, shown: str, moved: Policy) -> None:
    found = preview_prompts(ROWS, moved.encoder, moved.context, config_of(), count, Recorder())
    assert "".join(one.where[0] for one in found.shown) == shown


def test_batches_make_no_difference_and_each_ticks(moved: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = preview_prompts(ROWS, moved.encoder, moved.context, config_of(), 9, Recorder())
    monkeypatch.setattr(preview, "BATCH", 2)
    watch = Ticks()
    assert preview_prompts(ROWS, moved.encoder, moved.context, config_of(), 9, watch) == whole
    assert watch.ticks == [watch.done] == [3]  # two of three rows of a, and one of two of b


def test_without_prompts_there_are_no_lengths(moved: Policy) -> None:
    empty = Rows((part("a", 9, 1.0, [], []),))
    found = preview_prompts(empty, moved.encoder, moved.context, config_of(), 2, Recorder())
    assert (found.lengths, found.shown, found.more) == (None, (), False)
