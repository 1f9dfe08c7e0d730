"""The pairs of a round: two completions of each prompt by the policy of the round before, at temperature 1."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Final

from rlhf_cli.data.order import PartSize, prompts_of_step
from rlhf_cli.pipeline.completions import reference_texts
from rlhf_cli.prompts.rows import Rows
from rlhf_cli.reporter import Reporter
from rlhf_cli.schema import RunConfig
from rlhf_cli.seeding import seed_for
from rlhf_cli.types import PromptRow

STREAM: Final = "feedback/pairs"


def sample_pairs(
    config: RunConfig, rows: Rows, number: int, count: int, adapter: Path | None, reporter: Reporter
) -> list[tuple[PromptRow, tuple[str, ...]]]:
    """Sample two completions of `count` training prompts for round `number`, which follow from the seed.

    The policy with the `adapter` writes them, or the reference without one.
    """
    parts = [PartSize(part.name, part.weight, len(part.train)) for part in rows.parts]
    places = prompts_of_step(number - 1, parts, count, seed_for(config.seed, STREAM))
    chosen = tuple(
        replace(part, train=(), held_out=[part.train[row] for own, row in places if own == place], left_out=Counter())
        for place, part in enumerate(rows.parts)
    )
    own = config.model_copy(update={"seed": seed_for(config.seed, STREAM, number)})
    return reference_texts(own, Rows(chosen), 2, 1.0, reporter, adapter)
