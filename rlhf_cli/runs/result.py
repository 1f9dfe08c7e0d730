"""The result of a run: the figures before and after on the held-out prompts, and a few texts side by side."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rlhf_cli.evaluation.evaluation import Comparison
from rlhf_cli.evaluation.optimum import Optimum
from rlhf_cli.health.stopping import Stopping
from rlhf_cli.runs.folder import RESULT
from rlhf_cli.runs.json_files import StoredAlone, read_object


@dataclass(frozen=True, slots=True)
class SideBySide:
    """One held-out prompt, answered greedily."""

    prompt: str
    reference: str
    policy: str


@dataclass(frozen=True, slots=True)
class Result(StoredAlone):
    """The figures and texts that a run ends with."""

    file = RESULT

    step: int
    beta: float
    prompts: int
    samples: int
    comparison: Comparison | None
    """None where the run was never evaluated, or too few prompts have scores in both evaluations."""
    optimum: Optimum | None
    """None where `comparison` is."""
    texts: tuple[SideBySide, ...]
    stopped: Stopping | None = None
    """The rule of `stop` that ended it before its last step."""

    def content(self) -> dict[str, Any]:
        """Plain data, as result.json holds it; numbers may not be finite."""
        content = asdict(self)
        if self.stopped is None:
            del content["stopped"]
        return content


def read_final_steps(folder: Path) -> tuple[int, int] | None:
    """The last step of a finished run of any kind, and the step of the adapter that it exported; None without them."""
    result = read_object(folder / RESULT)
    if "task" not in result:
        own = Result.read(folder)
        return (own.step, own.step) if own else None
    steps = result.get("step"), result.get("exported")
    return (steps[0], steps[1]) if isinstance(steps[0], int) and isinstance(steps[1], int) else None
