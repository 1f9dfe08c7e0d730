"""The user's own function, with TRL's signature: `f(prompts, completions, **columns) -> list[float | None]`.

Prompts and completions are texts. For chat data a prompt is a list of `{"role", "content"}`, and a completion is
`[{"role": "assistant", "content": text}]`. The function also gets the data's other columns, as lists by their names,
and the tokens of the completions (`completion_ids`), as far as it takes them. It runs in a process of its own
(execution/process.py), which can be killed where it hangs.
"""

from pathlib import Path
from typing import ClassVar, Literal

from rlhf_cli.errors import UserError
from rlhf_cli.paths import locate
from rlhf_cli.rewards.kinds.base import RangedSource
from rlhf_cli.settings import FunctionPath


class Python(RangedSource):
    """Scores from a function of the user."""

    fix_of_columns: ClassVar[str] = "name its parameters as the columns"

    kind: Literal["python"]
    function: FunctionPath
    """file.py:function, or module:function; sync or async."""

    @property
    def columns_read(self) -> None:
        """Any column: what the function takes is known once it is imported."""

    @property
    def name(self) -> str:
        """The function's name in messages, as `rewards.py:brevity`."""
        return self.function.rpartition("/")[2]

    @property
    def strings(self) -> tuple[str, ...]:
        """The text of the function's file; empty where only an import would find it."""
        path = self.function.rpartition(":")[0]
        file = locate(path if path.endswith(".py") else path.replace(".", "/") + ".py")
        return (file.read_text(encoding="utf-8", errors="replace"),) if file is not None and file.is_file() else ()

    def notice(self, log: str | None = None) -> str:
        """A note that the function runs in a process of its own, and which file has its output."""
        printed = f"in {log}" if log else "not kept"
        return f"reward: {self.name} runs in a process of its own; what it prints is {printed}"

    def check(self, key: str) -> None:
        """Raise UserError where the function's file is not there."""
        self.find_file(key)

    def find_file(self, key: str) -> Path | None:
        """Find the function's file; None for a function of a module, which only an import could find.

        Raises UserError where there is no such file.
        """
        path = self.function.rpartition(":")[0]
        if not path.endswith(".py"):
            return None
        file = locate(path)
        if file is None or not file.is_file():
            raise UserError(f"no such file: {path}", where=f"{key}.function", fix="give file.py:function")
        return file
