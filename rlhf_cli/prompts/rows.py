"""Read the prompts and set the held-out ones aside, before any model is loaded."""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final, TypeVar

from rlhf_cli.data.mixture import PART_COLUMN
from rlhf_cli.data.order import split_by_weight
from rlhf_cli.data.reading import read_source
from rlhf_cli.data.source import PromptSource
from rlhf_cli.data.split import set_aside
from rlhf_cli.errors import bad_data
from rlhf_cli.plural import plural
from rlhf_cli.reporter import Reporter
from rlhf_cli.schema import TrainingConfig
from rlhf_cli.types import PromptRow

C = TypeVar("C", bound=TrainingConfig)

TWINS: Final = "with a held-out prompt"
"""Reason for rows that are left out: their prompt is held out, and enough rows are."""
GIVE: Final = "give more prompts"
"""The remedy where a file has too few."""


@dataclass(frozen=True, slots=True)
class PartRows:
    """The prompts of one source, for training and held out."""

    name: str
    """Empty where there is one source alone."""
    data: PromptSource
    weight: float
    train: Sequence[PromptRow]
    held_out: Sequence[PromptRow]
    left_out: Counter[str]
    """Reason -> number of rows."""
    more: bool = False
    """Whether there are more rows than data.max_rows."""
    unmet: Sequence[str] = ()
    """Values of data.where that no row has."""


@dataclass(frozen=True, slots=True)
class Rows:
    """All prompts, part after part."""

    parts: tuple[PartRows, ...]

    @property
    def train(self) -> list[PromptRow]:
        """The training prompts, part after part."""
        return list(chain.from_iterable(part.train for part in self.parts))

    @property
    def held_out(self) -> list[PromptRow]:
        """The held-out prompts, part after part."""
        return list(chain.from_iterable(part.held_out for part in self.parts))

    @property
    def columns(self) -> set[str]:
        """The names of all columns."""
        return {name for row in (*self.train, *self.held_out) for name in row.columns}

    @property
    def left_out(self) -> Counter[str]:
        """Reason -> number of rows; prompts that are too long are counted later."""
        return sum((part.left_out for part in self.parts), Counter())

    @property
    def advice(self) -> str:
        """The remedy where they are too few: of all that there are, or of those up to data.max_rows."""
        return "raise data.max_rows" if any(part.more for part in self.parts) else GIVE

    def describe(
        self,
        train: int,
        held_out: int,
        too_long: Counter[str],
        content: Callable[[PromptRow], Hashable] = lambda row: row.prompt,
    ) -> str | None:
        """One line about the rows that were left out; None where there are none, and the rest needs no word.

        `train` and `held_out` count the prompts that remain without those `too_long`; `content` is what is trained on.
        """
        left_out = self.left_out + too_long
        trained_on = set(map(content, self.train))
        both = sum(content(row) in trained_on for row in self.held_out)
        more, unmet = any(part.more for part in self.parts), [value for part in self.parts for value in part.unmet]
        if not (left_out or both or more or unmet):
            return None
        rows = f"data: {plural(train + held_out + left_out.total(), 'row')}{', up to data.max_rows' if more else ''}"
        why = [list_reasons(left_out)] if left_out else []
        again = [f"{both} of those trained on as well"] if both else []
        uses = f"{train} to train on, {held_out} held out" if self.train else f"{held_out} used"
        none = [f"no row has {', '.join(unmet)} (data.where)"] if unmet else []
        return "; ".join([rows, *why, uses, *again, *none])


def list_reasons(left_out: Counter[str]) -> str:
    """Join reasons and numbers: `12 by data.dedup, 30 by data.where left out`."""
    return f"{', '.join(f'{count} {why}' for why, count in left_out.items())} left out"


def read_rows(config: TrainingConfig) -> Rows:
    """Read the prompts and set the held-out ones aside; raises UserError (exit 3) for anything wrong in them."""
    data, evaluate = config.data, config.evaluate
    weights = [data.weights[name] for name in data.parts]
    counts = split_by_weight(weights, evaluate.prompts)
    rows = Rows(
        tuple(
            _part(name, source, weight, count, config)
            for (name, source), weight, count in zip(data.parts.items(), weights, counts, strict=True)
        )
    )
    if evaluate.every and len(rows.held_out) < evaluate.prompts:
        advice = rows.advice if data.sets_aside else GIVE
        raise bad_data(
            f"{plural(len(rows.held_out), 'held-out prompt')}, fewer than evaluate.prompts={evaluate.prompts}",
            data.place(held_out=True),
            f"{advice}, lower evaluate.prompts, or switch evaluation off (evaluate.every=0)",
        )
    return rows


def with_evaluations(config: C, every: int) -> C:
    """The config with an evaluation after so many steps; 0: with none, so that no prompts are set aside."""
    return config.model_copy(update={"evaluate": config.evaluate.model_copy(update={"every": every})})


def read_all(config: TrainingConfig, reporter: Reporter) -> Rows:
    """Read all prompts as held-out ones, none to train on, and note what is left out; raises as `read_rows` does."""
    parts = read_rows(with_evaluations(config, 0)).parts
    rows = Rows(tuple(replace(part, train=(), held_out=part.train) for part in parts))
    if note := rows.describe(0, len(rows.held_out), Counter()):
        reporter.note(note)
    return rows


def _part(name: str, source: PromptSource, weight: float, count: int, config: TrainingConfig) -> PartRows:
    """Read the rows of one source; hold out `count` of them."""
    used = read_source(source, limit=source.max_rows, searched=config.columns_read)
    train, held_out, left_out = used.rows, list[PromptRow](), used.left_out
    if count and not source.sets_aside:
        own = read_source(source, held_out=True, limit=count, searched=config.columns_read)
        held_out, left_out = own.rows, left_out + own.left_out
    elif count and config.evaluate.every:
        by_row = source.shares_prompts and len({row.prompt for row in train}) == 1
        train, held_out, twins = set_aside(train, count, by_row=by_row)
        left_out += Counter({TWINS: twins})
    both = _add_part_name(train, name), _add_part_name(held_out, name)
    return PartRows(name, source, weight, *both, left_out, used.more, used.unmet)


def _add_part_name(rows: Sequence[PromptRow], part: str) -> Sequence[PromptRow]:
    """Add the part's name to the rows in a column of its own; a single source has no name."""
    if not part:
        return rows
    for row in rows:
        if PART_COLUMN in row.columns:
            what = f"a column '{PART_COLUMN}', into which a mixture writes the part's name"
            raise bad_data(what, row.where, "rename it")
    return [replace(row, columns={**row.columns, PART_COLUMN: part}) for row in rows]


def check_enough(rows: Rows, counts: Sequence[int], config: TrainingConfig) -> None:
    """Raise UserError (exit 3) where `counts` training prompts, one number a part, are too few for a step."""
    without = f" ({list_reasons(rows.left_out)})" if rows.left_out else ""
    fix = f"{rows.advice}, or lower prompts_per_step (or evaluate.prompts, which sets some aside)"
    if rows.left_out[TWINS]:
        fix = "give the held-out rows a file of their own (data.eval_path), or none (evaluate.every=0)"
    if sum(counts) < config.prompts_per_step:
        raise bad_data(
            f"{plural(sum(counts), 'training prompt')}{without}, fewer than prompts_per_step={config.prompts_per_step}",
            config.data.place(held_out=False),
            fix,
        )
    for part, count in zip(rows.parts, counts, strict=True):
        if not count:
            raise bad_data(
                f"no training prompt in part '{part.name}'{without}",
                part.data.place(held_out=False),
                "give it some, or leave it out",
            )
