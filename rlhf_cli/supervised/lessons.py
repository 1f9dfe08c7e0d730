"""The lesson of a row: the texts that its columns hold. No torch: rows are checked before anything is loaded."""

from collections.abc import Iterable
from dataclasses import dataclass

from rlhf_cli.data.conversion import MESSAGES
from rlhf_cli.data.preference import completion_text, read_preference
from rlhf_cli.supervised.objectives import Objective
from rlhf_cli.supervised.objectives.sft import Sft
from rlhf_cli.types import PromptRow


@dataclass(frozen=True, slots=True)
class Lesson:
    """One text to imitate, or a chosen and a rejected one."""

    texts: tuple[str, ...]
    share: float = 1.0
    """Share of the votes for the first text; 1/2 is a tie."""
    margin: float = 0.0
    """By how much the first text is known to be better."""


def read_lesson(row: PromptRow, objective: Objective) -> Lesson:
    """Read the columns that the objective names; raises UserError (exit 3) where they are no lesson."""
    if isinstance(objective, Sft):
        in_chat = objective.completion not in row.columns and MESSAGES in row.columns
        return Lesson((completion_text(row, MESSAGES if in_chat else objective.completion),))
    found = read_preference(row, objective.chosen, objective.rejected)
    return Lesson((found.chosen, found.rejected), found.share, found.margin)


def check_lessons(rows: Iterable[PromptRow], objective: Objective) -> None:
    """Raise UserError (exit 3) for the first row that is no lesson."""
    for row in rows:
        read_lesson(row, objective)
