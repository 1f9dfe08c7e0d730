"""Preview the prompts before a run: how many there are, how long they are, and how the policy reads them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, Self

from rlhf_cli.models.encoder import Encoder
from rlhf_cli.prompts.encoding import BATCH, Fit, note_oddities
from rlhf_cli.prompts.rows import Rows
from rlhf_cli.reporter import Reporter
from rlhf_cli.schema import RunConfig
from rlhf_cli.types import Prompt

BINS: Final = 10


@dataclass(frozen=True, slots=True)
class PromptPreview:
    """One prompt."""

    where: str
    tokens: int
    text: str
    """The text that the policy reads, with the chat template applied and special tokens written out."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Prompts with lengths in one range."""

    first: int
    """Tokens, both included."""
    last: int
    prompts: int


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths of prompts in tokens."""

    least: int
    median: int
    p90: int
    most: int
    histogram: tuple[Bin, ...]

    @classmethod
    def of(cls, lengths: Sequence[int]) -> Self:
        """Summarise the lengths, at least one; a quantile is the smallest length that such a share does not exceed."""
        ordered = sorted(lengths)
        least, most = ordered[0], ordered[-1]
        width = -(-(most - least + 1) // BINS)
        count = Counter((length - least) // width for length in ordered)
        bins = range(-(-(most - least + 1) // width))
        return cls(
            least=least,
            median=ordered[(len(ordered) - 1) // 2],
            p90=ordered[-1 - len(ordered) // 10],
            most=most,
            histogram=tuple(Bin(least + i * width, least + (i + 1) * width - 1, count[i]) for i in bins),
        )


@dataclass(frozen=True, slots=True)
class PartPreview:
    """One source: the whole data, or a part of a mixture."""

    name: str
    place: str
    share: float
    """Share of the prompts of a step."""
    train: int
    held_out: int
    limit: int
    """The longest prompt that the settings allow, in tokens."""
    too_long: str
    """The setting for longer prompts: error, drop or truncate_left."""
    longer: int
    """The number of longer prompts, held-out ones included."""


@dataclass(frozen=True, slots=True)
class Preview:
    """A preview of the whole data. Rows are counted before longer prompts are dropped."""

    parts: tuple[PartPreview, ...]
    left_out: dict[str, int]
    """Reason -> number of rows."""
    more: bool
    """Whether there are more rows than data.max_rows."""
    columns: tuple[str, ...]
    """Columns for the reward."""
    lengths: Lengths | None
    """None where there is no prompt."""
    shown: tuple[PromptPreview, ...]
    """The first training prompts; `rlhf data show --json` writes them under this name."""


def preview_prompts(
    rows: Rows, encoder: Encoder, context: int, config: RunConfig, count: int, reporter: Reporter
) -> Preview:
    """Preview the data and its first `count` training prompts; raises UserError for a prompt that cannot be encoded."""
    lengths: list[int] = []
    oddities = Counter[str | None]()
    shown: list[PromptPreview] = []
    parts = []
    whole = sum(part.weight for part in rows.parts)
    batches = sum(-(-(len(part.train) + len(part.held_out)) // BATCH) for part in rows.parts)
    with reporter.phase("encoding the prompts", batches) as tick:
        for part in rows.parts:
            fit = Fit.of(part.data, encoder, context, config.max_new_tokens)
            own = list(chain(part.train, part.held_out))
            before = len(lengths)
            for start in range(0, len(own), BATCH):
                prompts = fit.read(own[start : start + BATCH])
                lengths += [len(prompt.tokens) for prompt in prompts]
                oddities.update(map(encoder.oddity, prompts))
                more = max(0, min(count - len(shown), len(part.train) - start))
                shown += [_preview(prompt, encoder) for prompt in prompts[:more]]
                tick()
            longer = sum(length > fit.limit for length in lengths[before:])
            parts.append(
                PartPreview(
                    name=part.name,
                    place=part.data.place(held_out=False),
                    share=part.weight / whole,
                    train=len(part.train),
                    held_out=len(part.held_out),
                    limit=fit.limit,
                    too_long=part.data.too_long,
                    longer=longer,
                )
            )
    note_oddities(encoder, oddities, reporter)
    return Preview(
        parts=tuple(parts),
        left_out=dict(rows.left_out),
        more=any(part.more for part in rows.parts),
        columns=tuple(sorted(rows.columns)),
        lengths=Lengths.of(lengths) if lengths else None,
        shown=tuple(shown),
    )


def _preview(prompt: Prompt, encoder: Encoder) -> PromptPreview:
    return PromptPreview(prompt.row.where, len(prompt.tokens), encoder.decode_all(prompt))
