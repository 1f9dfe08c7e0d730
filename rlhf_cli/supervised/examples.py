"""The examples of a run: rows as token ids, and which of them belong to which step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from rlhf_cli.data import order
from rlhf_cli.errors import EXIT_DATA, UserError
from rlhf_cli.models.policy import Policy
from rlhf_cli.prompts.encoding import BATCH, Fit, note_cuts, note_oddities, used_places
from rlhf_cli.prompts.rows import Rows, check_enough
from rlhf_cli.reporter import Reporter
from rlhf_cli.supervised.batches import Example
from rlhf_cli.supervised.lessons import read_lesson
from rlhf_cli.supervised.objectives.bradley_terry import BradleyTerry
from rlhf_cli.supervised.settings import SupervisedConfig
from rlhf_cli.supervised.texts import completions_encoder, oddity, texts_encoder, written_header
from rlhf_cli.types import PromptRow, Tick

Encode = Callable[[Sequence[PromptRow]], list[Example | None]]
"""Encodes rows; None for one that is too long and left out. Raises UserError (exit 3) for one that is no example."""


@dataclass(frozen=True, slots=True)
class Examples:
    """The training examples of a run."""

    parts: tuple[order.PartSize, ...]
    """The sizes of the parts, not counting dropped rows."""
    encoded: Mapping[tuple[int, int], Example]
    """The examples that will be used, by part and row, in the order of their first use."""

    def of_step(self, step: int, count: int, seed: int) -> tuple[Example, ...]:
        """The `count` examples of `step` (0-based)."""
        return tuple(self.encoded[place] for place in order.prompts_of_step(step, self.parts, count, seed))


def encode_examples(
    rows: Rows, policy: Policy, config: SupervisedConfig, reporter: Reporter
) -> tuple[Examples, tuple[Example, ...]]:
    """Encode the training examples that the run will use, and the held-out ones; note the rows that were left out.

    Raises UserError (exit 3) for a row that is no example or too long, and where too few are left.
    """
    fits = [Fit.of(part.data, policy.encoder, policy.context, config.max_new_tokens) for part in rows.parts]
    encoders = [_encoder(fit, policy, config) for fit in fits]
    held_out, too_long, train = list[Example](), Counter[str](), list[list[PromptRow]]()
    for part, encode in zip(rows.parts, encoders, strict=True):
        own = [example for example in encode(part.held_out) if example is not None]
        kept = list(part.train)
        if part.data.too_long == "drop":  # it changes the order of all rows, so all are encoded
            all_rows = _in_batches(kept, encode, reporter)
            kept = [row for row, example in zip(kept, all_rows, strict=True) if example is not None]
        dropped = len(part.held_out) - len(own) + len(part.train) - len(kept)
        too_long += Counter({"too long": dropped} if dropped else {})
        held_out += own
        train.append(kept)
    if note := rows.describe(sum(map(len, train)), len(held_out), too_long, lambda row: _content(row, config)):
        reporter.note(note)
    if config.evaluate.every and len(held_out) < 2:
        raise UserError(
            f"{len(held_out)} held-out rows are left; two are the least to say anything about",
            where=config.data.place(held_out=True),
            fix="raise max_new_tokens or data.max_prompt_tokens, or switch evaluation off (evaluate.every=0)",
            exit_code=EXIT_DATA,
        )
    check_enough(rows, [len(kept) for kept in train], config)
    parts = tuple(order.PartSize(p.name, p.weight, len(kept)) for p, kept in zip(rows.parts, train, strict=True))
    places, encoded = used_places(parts, config), dict[tuple[int, int], Example]()
    for number, (kept, encode) in enumerate(zip(train, encoders, strict=True)):
        own_places = [place for place in places if place[0] == number]
        found = _in_batches([kept[row] for _, row in own_places], encode, reporter)
        encoded |= {place: example for place, example in zip(own_places, found, strict=True) if example is not None}
    examples = [*encoded.values(), *held_out]
    if not isinstance(config.objective, BradleyTerry):  # its prompt is what both texts begin with
        prompts = [example.prompt for example in examples]
        note_oddities(policy.encoder, Counter(map(policy.encoder.oddity, prompts)), reporter)
    note_cuts(fits, len(examples), reporter)
    header, scored = written_header(config.objective, policy), config.objective.scores
    for what, count in Counter(oddity(example, policy, header, scored=scored) for example in examples).items():
        if what is not None:
            reporter.note(f"{count} of {len(examples)} rows {what}")
    return Examples(parts, {place: encoded[place] for place in places}), tuple(held_out)


def _content(row: PromptRow, config: SupervisedConfig) -> Hashable:
    """The texts that are learnt from a row: another completion of the same prompt is another example."""
    return row.prompt, read_lesson(row, config.objective).texts


def _encoder(fit: Fit, policy: Policy, config: SupervisedConfig) -> Encode:
    """The function that encodes rows as the objective reads them."""
    objective = config.objective
    if isinstance(objective, BradleyTerry):
        return texts_encoder(objective, policy, fit, config.max_new_tokens)
    return completions_encoder(objective, policy, fit, config.max_new_tokens)


def _in_batches(rows: Sequence[PromptRow], encode: Encode, reporter: Reporter) -> list[Example | None]:
    """Encode the rows; many rows are a phase of their own."""
    starts = range(0, len(rows), BATCH)

    def encoded(tick: Tick) -> list[Example | None]:
        found = list[Example | None]()
        for start in starts:
            found += encode(rows[start : start + BATCH])
            tick()
        return found

    if len(rows) <= BATCH:
        return encoded(lambda: None)
    with reporter.phase("encoding the texts", len(starts)) as tick:
        return encoded(tick)
