"""The lesson of a row: the texts that its columns hold. No torch: rows are checked before anything is loaded."""

from collections.abc import Iterable

from rlhf_cli.data.conversion import MESSAGES
from rlhf_cli.data.preference import Lesson, completion_text, read_preference
from rlhf_cli.supervised.objectives import Objective
from rlhf_cli.supervised.objectives.sft import Sft
from rlhf_cli.types import PromptRow


def read_lesson(row: PromptRow, objective: Objective) -> Lesson:
    """Read the columns that the objective names; raises UserError (exit 3) where they are no lesson."""
    if isinstance(objective, Sft):
        in_chat = objective.completion not in row.columns and MESSAGES in row.columns
        return Lesson((completion_text(row, MESSAGES if in_chat else objective.completion),))
    return read_preference(row, objective.chosen, objective.rejected)


def check_lessons(rows: Iterable[PromptRow], objective: Objective) -> None:
    """Raise UserError (exit 3) for the first row that is no lesson."""
    for row in rows:
        read_lesson(row, objective)
