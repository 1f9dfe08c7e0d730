"""Log a run as it goes: metrics, timings, samples and evaluations line by line, and its curves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rlhf_cli.evaluation.evaluation import Evaluation
from rlhf_cli.runs.folder import LOGS
from rlhf_cli.runs.jsonl import JsonlLog, Mark
from rlhf_cli.runs.sinks import Curves
from rlhf_cli.types import Scored


class Logbook:
    """The open files of the run in `folder`, and its curves elsewhere."""

    def __init__(self, folder: Path, curves: Curves) -> None:
        self._logs = {name: JsonlLog(folder / file) for name, file in LOGS.items()}
        self._curves = curves

    def marks(self) -> dict[str, Mark]:
        """The end of each file now."""
        return {name: log.mark() for name, log in self._logs.items()}

    def sync(self) -> None:
        """Put the files on disk as far as they are written; raises OSError where the disk refuses."""
        for log in self._logs.values():
            log.sync()

    def close(self) -> None:
        """Close the files."""
        for log in self._logs.values():
            log.close()
        self._curves.close()

    def metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add a line to metrics.jsonl, and a point to every curve."""
        self._logs["metrics"].write({"step": step, **metrics})
        self._curves.write(step, metrics)

    def evaluation(self, evaluated: Evaluation) -> None:
        """Add an evaluation with all its completions to evaluations.jsonl."""
        self._logs["evaluations"].write(evaluated.row())

    def samples(self, step: int, scored: Scored, count: int) -> None:
        """Add the first `count` completions of a step to samples.jsonl."""
        rollout, kl = scored.rollout, scored.distance.sequence_kl.tolist()
        for row in range(min(count, len(rollout.batch))):
            self._logs["samples"].write(
                {
                    "step": step,
                    "prompt": rollout.batch.prompt_of(row).row.shown,
                    "completion": rollout.texts[row],
                    "score": float(scored.scores[row]),
                    "kl": kl[row],
                    "truncated": bool(rollout.truncated[row]),
                }
            )

    def timings(self, step: int, seconds: Mapping[str, float], tokens: int, retries: int) -> dict[str, float]:
        """A lap of the clock, the tokens a second of those that train, and how often the reward was asked again.

        Returns what it wrote. A checkpoint is written after its step's line: its seconds are in the next one.
        """
        training = seconds["step"] - seconds.get("evaluation", 0.0) - seconds["checkpoint"]
        timings = {f"time/{name}_s": round(value, 4) for name, value in seconds.items()}
        timings |= {"tokens_per_s": round(tokens / max(training, 1e-9), 1)}
        self._logs["timings"].write({"step": step, **timings, "reward/retries": retries})
        return timings
