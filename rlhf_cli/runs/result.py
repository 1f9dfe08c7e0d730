"""How a run ended: before and after on the held-out prompts, and a few texts side by side; plain data, no torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from rlhf_cli.evaluation.evaluation import Comparison
from rlhf_cli.evaluation.intervals import Estimate
from rlhf_cli.evaluation.optimum import Optimum
from rlhf_cli.runs.disk import replace_file
from rlhf_cli.runs.folder import RESULT


@dataclass(frozen=True, slots=True)
class SideBySide:
    """One held-out prompt, answered greedily."""

    prompt: str
    reference: str
    policy: str


@dataclass(frozen=True, slots=True)
class Result:
    """What the last table shows."""

    step: int
    beta: float
    prompts: int
    samples: int
    comparison: Comparison | None
    """None where the run was never evaluated, or too few prompts have scores in both evaluations."""
    optimum: Optimum | None
    """As above."""
    texts: tuple[SideBySide, ...]

    def write(self, folder: Path) -> None:
        """Keep it as result.json."""
        replace_file(folder / RESULT, json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The result of a finished run; None where there is none that could be read."""
        try:
            data = json.loads((folder / RESULT).read_text(encoding="utf-8"))
            data["comparison"] = data["comparison"] and _comparison(data["comparison"])
            data["optimum"] = data["optimum"] and Optimum(**data["optimum"])
            data["texts"] = tuple(SideBySide(**row) for row in data["texts"])
            return cls(**data)
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _comparison(data: dict[str, Any]) -> Comparison:
    def estimates(values: dict[str, dict[str, Any]]) -> dict[str, Estimate]:
        return {name: Estimate(**value) for name, value in values.items()}

    return Comparison(
        before=estimates(data["before"]),
        after=estimates(data["after"]),
        change=estimates(data["change"]),
        distinct_2=tuple(data["distinct_2"]),
    )
