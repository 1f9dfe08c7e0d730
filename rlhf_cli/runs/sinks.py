"""Where the curves are shown besides metrics.jsonl: TensorBoard and Weights & Biases. Pictures alone: they stop no run.

A sink is a class here, with a name in SINKS and in the schema.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Protocol

from rlhf_cli.errors import UserError
from rlhf_cli.runs.disk import replace_file
from rlhf_cli.runs.folder import TENSORBOARD, WANDB_ID

WAIT_S: Final = 20
"""For a server that does not answer, at the beginning and at the end of a run; what was not sent stays in wandb/."""


class Sink(Protocol):
    """What shows curves; it may raise whatever it likes, and is then left out.

    Made of the run's folder, the step it goes on after, and its config as plain data.
    """

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add one point to every curve."""
        ...

    def close(self) -> None:
        """No more points follow."""
        ...


class TensorBoard:
    """The metrics as TensorBoard scalars; what an interrupted try wrote after `first_step` is hidden.

    Written at once and in this thread: tensorboard's own writer has a thread whose errors nobody could catch.
    """

    def __init__(self, run: Path, first_step: int, config: Mapping[str, Any]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary = Event, Summary
        folder = run / TENSORBOARD
        folder.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns()}.{os.getpid()}"  # readers take them in the order of their names
        self._records = RecordWriter((folder / name).open("xb", buffering=0))
        self._write(file_version="brain.Event:2")
        self._write(step=first_step + 1, session_log=SessionLog(status=SessionLog.START))

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add one point to every curve; raises OSError where the disk refuses."""
        values = [self._summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self._write(step=step, summary=self._summary(value=values))

    def close(self) -> None:
        """Close the file."""
        self._records.close()

    def _write(self, **content: Any) -> None:
        self._records.write(self._event(wall_time=time.time(), **content).SerializeToString())


class WandB:
    """The metrics as a run of Weights & Biases; what it sends and where, WANDB_MODE, WANDB_PROJECT and such say.

    A run that goes on is the same one there: its id is kept in wandb.id. With WANDB_MODE=offline all stays in wandb/.
    """

    def __init__(self, run: Path, first_step: int, config: Mapping[str, Any]) -> None:
        import wandb

        known = run / WANDB_ID
        if not known.is_file():
            replace_file(known, uuid.uuid4().hex)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "rlhf"),
            name=run.name,
            dir=str(run),
            id=known.read_text(encoding="utf-8").strip(),
            resume="allow",
            config=dict(config),
            settings=wandb.Settings(console="off", silent=True, init_timeout=WAIT_S, finish_timeout=WAIT_S),
        )
        # a resumed run goes back to its checkpoint: points are placed by their step, not by the order they come in
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add one point to every curve."""
        self._run.log({"step": step, **metrics})

    def close(self) -> None:
        """Send what is left."""
        self._run.finish()


SINKS: Final[Mapping[str, Callable[[Path, int, Mapping[str, Any]], Sink]]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
}


def check_sinks(names: Sequence[str]) -> None:
    """Raises UserError where a sink needs a package that is not there."""
    for name in names:
        if find_spec(name) is None:
            raise UserError(
                f"{name} is not installed", where="sinks", fix=f"pip install 'rlhf-cli[{name}]', or leave it out"
            )


class Curves:
    """All sinks of a run; the first error of each is noted, and the sink left out from there on."""

    def __init__(
        self, names: Sequence[str], run: Path, first_step: int, config: Mapping[str, Any], note: Callable[[str], None]
    ) -> None:
        self._note, self._open = note, dict[str, Sink]()
        for name in names:
            try:
                self._open[name] = SINKS[name](run, first_step, config)
            except Exception as error:
                note(f"no curves in {name}: {_said(error)}")

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add one point to every curve of every sink."""
        for name, sink in list(self._open.items()):
            try:
                sink.write(step, metrics)
            except Exception as error:
                self._note(f"the curves in {name} end before step {step}: {_said(error)}")
                with suppress(Exception):
                    self._open.pop(name).close()

    def close(self) -> None:
        """No more points follow."""
        for name, sink in self._open.items():
            try:
                sink.close()
            except Exception as error:
                self._note(f"the last curves in {name} may be missing: {_said(error)}")


def _said(error: Exception) -> str:
    """The first line of what an error says, or its kind."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return (text.strip().splitlines() or [type(error).__name__])[0]
