"""The user's own function, with TRL's signature: `f(prompts, completions, **columns) -> list[float | None]`.

Prompts are texts, or for chat data lists of `{"role", "content"}`; completions are then `[{"role": "assistant",
"content": text}]`. The data's other columns come by name, as lists, as far as the function takes them, and so do the
tokens of the completions (`completion_ids`). It runs in a process of its own (`process.py`), which can be killed where
it hangs.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

from rlhf_cli.errors import UserError
from rlhf_cli.paths import locate
from rlhf_cli.rewards.kinds.base import InProcess
from rlhf_cli.settings import FunctionPath


class Python(InProcess):
    """A function of the user's."""

    kind: Literal["python"]
    function: FunctionPath
    """File.py:function, or module:function; sync or async."""
    best: float | None
    """The highest score there is; null: unknown."""

    @property
    def highest(self) -> float:
        """`best`, or infinity where it is unknown."""
        return math.inf if self.best is None else self.best

    @property
    def name(self) -> str:
        """What to call the function: `rewards.py:brevity`."""
        return self.function.rpartition("/")[2]

    def notice(self, log: str = "") -> str:
        """What to say before it runs; `log` is the file that has what it prints, if it is kept."""
        printed = f"in {log}" if log else "not kept"
        return f"reward: {self.name} runs in a process of its own; what it prints is {printed}"

    def check(self, key: str) -> None:
        """Raise UserError where its file is not there."""
        self.find(key)

    def find(self, key: str) -> Path | None:
        """The function's file; None for one of a module, which only importing it could find.

        Raises UserError where there is no such file.
        """
        path = self.function.rpartition(":")[0]
        if not path.endswith(".py"):
            return None
        file = locate(path)
        if file is None or not file.is_file():
            raise UserError(f"no such file: {path}", where=f"{key}.function", fix="give file.py:function")
        return file
