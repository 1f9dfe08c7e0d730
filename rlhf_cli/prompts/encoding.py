"""Encode prompts as the policy's tokens: the held-out ones, and the training prompts that the run will use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from rlhf_cli.data import order
from rlhf_cli.data.source import PromptSource
from rlhf_cli.errors import EXIT_DATA, UserError
from rlhf_cli.models.encoder import Encoder
from rlhf_cli.prompts.rows import Rows, check_enough
from rlhf_cli.reporter import Reporter
from rlhf_cli.schema import RunConfig, TrainingConfig
from rlhf_cli.types import Prompt, PromptRow

BATCH: Final = 1024
"""Prompts that are encoded at once."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """The training prompts of a run."""

    parts: tuple[order.PartSize, ...]
    """The sizes of the parts, not counting dropped rows."""
    encoded: Mapping[tuple[int, int], Prompt]
    """The prompts that will be used, by part and row, in the order of their first use."""

    def of_step(self, step: int, count: int, seed: int) -> tuple[Prompt, ...]:
        """The `count` prompts of `step` (0-based)."""
        return tuple(self.encoded[place] for place in order.prompts_of_step(step, self.parts, count, seed))

    def numbered(self, numbers: Sequence[int]) -> tuple[Prompt, ...]:
        """The prompts of these numbers, where all are encoded: they count from 0, part by part."""
        prompts = tuple(self.encoded.values())
        return tuple(prompts[number] for number in numbers)

    def first(self, count: int) -> tuple[Prompt, ...]:
        """The first `count` prompts to be used."""
        return tuple(islice(self.encoded.values(), count))


@dataclass(frozen=True, slots=True)
class Fit:
    """The longest prompt of a source, and what happens to longer ones."""

    encoder: Encoder
    data: PromptSource
    limit: int
    """The longest prompt, in tokens."""
    why: str
    """The setting or the model that sets the limit, for messages."""
    cut: Counter[int] = field(default_factory=Counter)
    """Limit -> prompts that were cut to it up to now."""

    @classmethod
    def of(cls, data: PromptSource, encoder: Encoder, context: int, max_new_tokens: int) -> Fit:
        """Take the limit from data.max_prompt_tokens, or from the room that completions leave in the `context`.

        Raises UserError where they leave none.
        """
        room = context - max_new_tokens
        if room < 1:
            raise UserError(
                f"max_new_tokens={max_new_tokens} leaves no room for a prompt: the model reads {context}",
                where="max_new_tokens",
                fix="lower it",
            )
        if data.max_prompt_tokens < room:
            return cls(encoder, data, data.max_prompt_tokens, "data.max_prompt_tokens")
        return cls(encoder, data, room, f"the model's {context} less max_new_tokens")

    @property
    def drops(self) -> bool:
        """Whether prompts that are too long are left out."""
        return self.data.too_long == "drop"

    @property
    def reason(self) -> str:
        """The reason for which a prompt is left out."""
        return f"longer than {self.limit} tokens"

    def encode(self, rows: Sequence[PromptRow], tick: Callable[[], None]) -> list[Prompt]:
        """Encode the rows in order; drop or cut prompts that are too long, or raise UserError (exit 3).

        It calls `tick` after every BATCH of rows.
        """
        prompts: list[Prompt] = []
        for start in range(0, len(rows), BATCH):
            batch = map(self.fit, self.encoder.encode(rows[start : start + BATCH]))
            prompts += [prompt for prompt in batch if prompt is not None]
            tick()
        return prompts

    def fit(self, prompt: Prompt) -> Prompt | None:
        """The prompt, perhaps cut; None where it is left out. Raises UserError (exit 3) where it is too long."""
        if len(prompt.tokens) <= self.limit:
            return prompt
        if self.drops:
            return None
        if self.data.too_long == "truncate_left":
            self.cut[self.limit] += 1
            return self.encoder.keep_end(prompt, self.limit)
        raise UserError(
            f"the prompt has {len(prompt.tokens)} tokens, more than {self.limit} ({self.why})",
            where=prompt.row.where,
            fix="shorten it, raise the limit, or leave such prompts out: data.too_long=drop",
            exit_code=EXIT_DATA,
        )


def encode(
    rows: Rows, encoder: Encoder, context: int, config: TrainingConfig, reporter: Reporter
) -> tuple[Prompts, tuple[Prompt, ...]]:
    """Encode the training prompts that the run will use, and the held-out ones; note the rows that were left out.

    `context` is in tokens. Raises UserError (exit 3) for a prompt that is too long, and where too few are left.
    """
    fits = [Fit.of(part.data, encoder, context, config.max_new_tokens) for part in rows.parts]
    held_out, too_long = _encode_held_out(rows, fits)
    train = []
    for part, fit in zip(rows.parts, fits, strict=True):
        # dropping changes the order of all rows, so all are encoded; else it is enough to encode those that are used
        kept = [prompt.row for prompt in _encode(part.train, fit, reporter)] if fit.drops else part.train
        too_long += Counter({fit.reason: len(part.train) - len(kept)})
        train.append(kept)
    if note := rows.describe(sum(map(len, train)), len(held_out), too_long):
        reporter.note(note)
    if config.evaluate.every and len(held_out) < 2:
        raise UserError(
            f"{len(held_out)} held-out prompts are left; two are the least to say anything about",
            where=config.data.place(held_out=True),
            fix="raise data.max_prompt_tokens, or switch evaluation off (evaluate.every=0)",
            exit_code=EXIT_DATA,
        )
    check_enough(rows, [len(kept) for kept in train], config)
    prompts = _encode_used(rows, train, fits, config, reporter)
    note_oddities(encoder, Counter(map(encoder.oddity, [*prompts.encoded.values(), *held_out])), reporter)
    note_cuts(fits, len(prompts.encoded) + len(held_out), reporter)
    return prompts, held_out


def _encode_used(
    rows: Rows, train: Sequence[Sequence[PromptRow]], fits: Sequence[Fit], config: TrainingConfig, reporter: Reporter
) -> Prompts:
    """Encode those rows of `train`, part after part, that the run will use."""
    parts = tuple(
        order.PartSize(part.name, part.weight, len(kept)) for part, kept in zip(rows.parts, train, strict=True)
    )
    places = used_places(parts, config)
    if isinstance(config, RunConfig) and config.prompts != "uniform":  # any of them may be drawn
        places = [(number, row) for number, part in enumerate(parts) for row in range(part.rows)]
    encoded: dict[tuple[int, int], Prompt] = {}
    for number, (kept, fit) in enumerate(zip(train, fits, strict=True)):
        own = [(part, row) for part, row in places if part == number]
        prompts = _encode([kept[row] for _, row in own], fit, reporter)
        encoded |= zip(own, prompts, strict=True)
    return Prompts(parts, {place: encoded[place] for place in places})


def encode_held_out(
    rows: Rows, encoder: Encoder, context: int, config: TrainingConfig, reporter: Reporter
) -> tuple[Prompt, ...]:
    """Encode the held-out prompts, and note those left out; raises UserError as `encode` does."""
    fits = [Fit.of(part.data, encoder, context, config.max_new_tokens) for part in rows.parts]
    held_out, too_long = _encode_held_out(rows, fits)
    if note := rows.describe(len(rows.train), len(held_out), too_long):
        reporter.note(note)
    note_oddities(encoder, Counter(map(encoder.oddity, held_out)), reporter)
    note_cuts(fits, len(held_out), reporter)
    return held_out


def note_oddities(encoder: Encoder, oddities: Counter[str | None], reporter: Reporter) -> None:
    """Note what the encoder says of its template, and `Encoder.oddity` of prompts, and of how many."""
    for note in encoder.template_notes():
        reporter.note(note)
    for what, count in oddities.items():
        if what is not None:
            reporter.note(f"{count} of {oddities.total()} prompts {what}")


def note_cuts(fits: Iterable[Fit], prompts: int, reporter: Reporter) -> None:
    """Note how many of the prompts lost their beginning, by data.too_long=truncate_left."""
    for limit, count in sum((fit.cut for fit in fits), Counter[int]()).items():
        reporter.note(f"{count} of {prompts} prompts lose their beginning: their last {limit} tokens are used")


def _encode_held_out(rows: Rows, fits: Sequence[Fit]) -> tuple[tuple[Prompt, ...], Counter[str]]:
    held_out, too_long = list[Prompt](), Counter[str]()
    for part, fit in zip(rows.parts, fits, strict=True):
        prompts = fit.encode(part.held_out, lambda: None)
        too_long += Counter({fit.reason: len(part.held_out) - len(prompts)})
        held_out += prompts
    return tuple(held_out), too_long


def _encode(rows: Sequence[PromptRow], fit: Fit, reporter: Reporter) -> list[Prompt]:
    """Encode the rows; many rows are a phase of their own."""
    if len(rows) <= BATCH:
        return fit.encode(rows, lambda: None)
    with reporter.phase("encoding the prompts", -(-len(rows) // BATCH)) as tick:
        return fit.encode(rows, tick)


def used_places(parts: Sequence[order.PartSize], config: TrainingConfig) -> list[tuple[int, int]]:
    """The places (part, row) of all prompts that the run will use, in the order of their first use."""
    places: dict[tuple[int, int], None] = {}
    for step in range(config.steps):
        if len(places) == sum(part.rows for part in parts):
            break
        places |= dict.fromkeys(order.prompts_of_step(step, parts, config.prompts_per_step, config.seed))
    return list(places)
