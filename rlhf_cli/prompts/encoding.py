"""Encode rows as the policy's tokens: the held-out ones, and the training rows that the run will use."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Generic, Literal, Self, TypeVar

from rlhf_cli.data import order
from rlhf_cli.data.source import PromptSource
from rlhf_cli.errors import UserError, bad_data
from rlhf_cli.models.encoder import Encoder
from rlhf_cli.plural import plural
from rlhf_cli.prompts.rows import Rows, check_enough
from rlhf_cli.reporter import Reporter
from rlhf_cli.schema import RunConfig, TrainingConfig
from rlhf_cli.types import Prompt, PromptRow

T = TypeVar("T")
Encode = Callable[[Sequence[PromptRow]], list[T | None]]
"""Encodes rows; None for one that is left out, since it is too long. Raises UserError (exit 3) for a row in error."""

BATCH: Final = 1024
"""Rows that are encoded at once."""


@dataclass(frozen=True, slots=True)
class Encoded(Generic[T]):
    """The training rows of a run, encoded."""

    parts: tuple[order.PartSize, ...]
    """The sizes of the parts, not counting dropped rows."""
    encoded: Mapping[tuple[int, int], T]
    """The rows that will be used, by part and row, in the order of their first use."""

    def of_step(self, step: int, count: int, seed: int) -> tuple[T, ...]:
        """The `count` rows of `step` (0-based)."""
        return tuple(self.encoded[place] for place in order.prompts_of_step(step, self.parts, count, seed))

    def numbered(self, numbers: Sequence[int]) -> tuple[T, ...]:
        """The rows of these numbers, where all are encoded: they count from 0, part by part."""
        rows = tuple(self.encoded.values())
        return tuple(rows[number] for number in numbers)

    def first(self, count: int) -> tuple[T, ...]:
        """The first `count` rows to be used."""
        return tuple(islice(self.encoded.values(), count))


Prompts = Encoded[Prompt]
"""The training prompts of a run."""


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
    def of(cls, data: PromptSource, encoder: Encoder, context: int, max_new_tokens: int) -> Self:
        """Take the limit from data.max_prompt_tokens, or from the room that completions leave in the `context`.

        Raises UserError where they leave none.
        """
        room = context - max_new_tokens
        if room < 1:
            raise UserError(
                f"max_new_tokens={max_new_tokens} leaves no room for a prompt: the model reads {context} tokens in all",
                where="max_new_tokens",
                fix=f"lower it to less than {context}",
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
        return f"longer than {plural(self.limit, 'token')}"

    def read(self, rows: Sequence[PromptRow]) -> list[Prompt]:
        """Encode the rows in order, as long as they are; raises UserError for a system prompt without a template."""
        if self.data.system is not None and not self.encoder.use_chat_template:
            raise UserError(
                "a system prompt makes chats, and the prompts are raw text for this model",
                where=f"data.system={self.data.system!r:.40}",
                fix="leave it out (data.system=null), or give a model with a chat template (model.prompt_format=chat)",
            )
        return self.encoder.encode(rows)

    def encode(self, rows: Sequence[PromptRow]) -> list[Prompt | None]:
        """Encode the rows in order, as `fit` does each prompt."""
        return [self.fit(prompt) for prompt in self.read(rows)]

    def fit(self, prompt: Prompt) -> Prompt | None:
        """The prompt, perhaps cut; None where it is left out. Raises UserError (exit 3) where it is too long."""
        if len(prompt.tokens) <= self.limit:
            return prompt
        if self.drops:
            return None
        if self.data.too_long == "truncate_left":
            self.cut[self.limit] += 1
            return self.encoder.keep_end(prompt, self.limit)
        raise bad_data(
            f"the prompt has {len(prompt.tokens)} tokens, more than {self.limit} ({self.why})",
            prompt.row.where,
            "shorten it, raise the limit, or leave such prompts out: data.too_long=drop",
        )


def encode(
    rows: Rows, encoder: Encoder, context: int, config: TrainingConfig, reporter: Reporter
) -> tuple[Prompts, tuple[Prompt, ...]]:
    """Encode the training prompts that the run will use, and the held-out ones; note the rows that were left out.

    `context` is in tokens. Raises UserError (exit 3) for a prompt that is too long, and where too few are left.
    """
    fits = [Fit.of(part.data, encoder, context, config.max_new_tokens) for part in rows.parts]
    reasons = [fit.reason for fit in fits]
    found, held_out = encode_rows(rows, [fit.encode for fit in fits], reasons, config, reporter, "prompts")
    note_oddities(encoder, Counter(map(encoder.oddity, [*found.encoded.values(), *held_out])), reporter)
    note_cuts(fits, len(found.encoded) + len(held_out), reporter)
    return found, held_out


def encode_rows(
    rows: Rows,
    encoders: Sequence[Encode[T]],
    reasons: Sequence[str],
    config: TrainingConfig,
    reporter: Reporter,
    what: Literal["prompts", "rows"],
    content: Callable[[PromptRow], Hashable] = lambda row: row.prompt,
) -> tuple[Encoded[T], tuple[T, ...]]:
    """Encode the training rows that the run will use, and the held-out ones, each part by its encoder.

    Notes the rows that were left out, by the `reasons` of their parts; `content` is what is trained on of a row. Raises
    UserError (exit 3) where too few are left.
    """
    held_out, too_long, train = list[T](), Counter[str](), list[Sequence[PromptRow]]()
    for part, encode_part, reason in zip(rows.parts, encoders, reasons, strict=True):
        own, kept = [one for one in _encode(part.held_out, encode_part, reporter, what) if one is not None], part.train
        if part.data.too_long == "drop":  # it changes the order of all rows, so all are encoded
            all_rows = zip(kept, _encode(kept, encode_part, reporter, what), strict=True)
            kept = [row for row, one in all_rows if one is not None]
        too_long += Counter({reason: len(part.held_out) - len(own) + len(part.train) - len(kept)})
        held_out += own
        train.append(kept)
    if note := rows.describe(sum(map(len, train)), len(held_out), too_long, content):
        reporter.note(note)
    if config.evaluate.every and len(held_out) < 2:
        more = "max_new_tokens or " if what == "rows" else ""  # rows have completions of their own
        raise bad_data(
            f"{plural(len(held_out), f'held-out {what[:-1]}')} left, and an evaluation needs two",
            config.data.place(held_out=True),
            f"raise {more}data.max_prompt_tokens, or switch evaluation off (evaluate.every=0)",
        )
    check_enough(rows, [len(kept) for kept in train], config)
    parts = tuple(order.PartSize(p.name, p.weight, len(kept)) for p, kept in zip(rows.parts, train, strict=True))
    places, encoded = used_places(parts, config), dict[tuple[int, int], T]()
    for number, (kept, encode_part) in enumerate(zip(train, encoders, strict=True)):
        own_places = [place for place in places if place[0] == number]
        found = _encode([kept[row] for _, row in own_places], encode_part, reporter, what)
        encoded |= {place: one for place, one in zip(own_places, found, strict=True) if one is not None}
    return Encoded(parts, {place: encoded[place] for place in places}), tuple(held_out)


def encode_held_out(
    rows: Rows, encoder: Encoder, context: int, config: TrainingConfig, reporter: Reporter
) -> tuple[Prompt, ...]:
    """Encode the held-out prompts, and note those left out; raises UserError as `encode` does."""
    fits = [Fit.of(part.data, encoder, context, config.max_new_tokens) for part in rows.parts]
    held_out, too_long = list[Prompt](), Counter[str]()
    for part, fit in zip(rows.parts, fits, strict=True):
        own = [prompt for prompt in _encode(part.held_out, fit.encode, reporter, "prompts") if prompt is not None]
        too_long += Counter({fit.reason: len(part.held_out) - len(own)})
        held_out += own
    if note := rows.describe(len(rows.train), len(held_out), too_long):
        reporter.note(note)
    note_oddities(encoder, Counter(map(encoder.oddity, held_out)), reporter)
    note_cuts(fits, len(held_out), reporter)
    return tuple(held_out)


def note_oddities(encoder: Encoder, oddities: Counter[str | None], reporter: Reporter) -> None:
    """Note what the encoder says of its template, and `Encoder.oddity` of prompts, and of how many."""
    reporter.note_all(encoder.template_notes())
    for what, count in oddities.items():
        if what is not None:
            reporter.note(f"{count} of {oddities.total()} prompts {what}")


def note_cuts(fits: Iterable[Fit], prompts: int, reporter: Reporter) -> None:
    """Note how many of the prompts lost their beginning, by data.too_long=truncate_left."""
    for limit, count in sum((fit.cut for fit in fits), Counter[int]()).items():
        reporter.note(f"{count} of {prompts} prompts lose their beginning: their last {limit} tokens are used")


def _encode(rows: Sequence[PromptRow], encode_part: Encode[T], reporter: Reporter, what: str) -> list[T | None]:
    """Encode the rows, BATCH at a time; many rows are a phase of their own."""
    starts, found = range(0, len(rows), BATCH), list[T | None]()
    with reporter.phase(f"encoding the {what}", len(starts)) if len(starts) > 1 else nullcontext(lambda: None) as tick:
        for start in starts:
            found += encode_part(rows[start : start + BATCH])
            tick()
    return found


def used_places(parts: Sequence[order.PartSize], config: TrainingConfig) -> list[tuple[int, int]]:
    """The places (part, row) of all prompts that the run will use, in the order of their first use."""
    if isinstance(config, RunConfig) and config.prompts != "uniform":  # any of them may be drawn
        return [(number, row) for number, part in enumerate(parts) for row in range(part.rows)]
    places: dict[tuple[int, int], None] = {}
    for step in range(config.steps):
        if len(places) == sum(part.rows for part in parts):
            break
        places |= dict.fromkeys(order.prompts_of_step(step, parts, config.prompts_per_step, config.seed))
    return list(places)
