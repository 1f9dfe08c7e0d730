"""Tables of a page, as data; and the table of a comparison, which the terminal shows too."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from rlhf_cli.evaluation.evaluation import Comparison
from rlhf_cli.evaluation.intervals import with_error

_COMPARED: Final = (("reward", "reward", 3), ("kl", "KL, nats", 3), ("length", "length, tokens", 1))


@dataclass(frozen=True, slots=True)
class Link:
    """A text that leads to a file beside the page."""

    text: str
    path: str
    """Relative to the page, as the file system has it."""

    @property
    def address(self) -> str:
        """The URL. It begins with `./`, so that no name is taken for another kind of address."""
        return "./" + quote(self.path)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows below a head, as plain text. The first column names the rows.

    Raises ValueError where a row does not have one cell a column.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str | Link | Sequence[Link]]]
    words: range = range(0)
    """Columns of text, which is broken into lines. The other columns hold numbers."""
    strong: int | None = None
    """The row that stands out."""

    def __post_init__(self) -> None:
        if any(len(row) != len(self.head) for row in self.rows):
            raise ValueError(f"a row does not have {len(self.head)} cells")


def changes(comparison: Comparison, measure: str) -> list[tuple[str, str, str, str]]:
    """Rows of a comparison: a name, two levels and the paired change. `measure` names J, the first row."""
    rows = []
    for key, name, digits in (("objective", measure, 3), *_COMPARED):
        before, after = (with_error(levels[key], digits) for levels in (comparison.before, comparison.after))
        rows.append((name, before, after, with_error(comparison.change[key], digits, "+")))
    old, new = comparison.distinct_2
    return [*rows, ("distinct word pairs", f"{old:.3f}", f"{new:.3f}", f"{new - old:+.3f}")]


def changes_table(comparison: Comparison, beta: float, names: tuple[str, str, str]) -> Table:
    """The comparison with J at `beta`; `names` are the names of its columns."""
    return Table(["", *names], changes(comparison, f"J = reward − {beta:.3g}·KL"), strong=0)
