"""Copy the curves to TensorBoard, to Weights & Biases and to Trackio. No error there stops a run.

A sink is a class with a name in SINKS and in the schema. It is built from the run's folder, the step that it continues
after, and the run's config as plain data. It may raise any error, and is then left out.
"""

import hashlib
import io
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from rlhf_cli.errors import UserError, first_line
from rlhf_cli.runs.binding import bind, changed, is_own
from rlhf_cli.runs.disk import replace_file
from rlhf_cli.runs.folder import TENSORBOARD, WANDB_ID

WAIT_S: Final = 20
"""Seconds to wait for a server at the beginning and end of a run; wandb/ keeps the points that were not sent."""


class TensorBoard:
    """The metrics as TensorBoard scalars; points after `first_step` of an interrupted try are hidden.

    It writes at once and in this thread: the errors of the thread in tensorboard's own writer cannot be caught.
    """

    def __init__(self, run: Path, first_step: int, config: Mapping[str, Any]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary = Event, Summary
        folder = run / TENSORBOARD
        folder.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns()}.{os.getpid()}"  # readers sort them by name
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
    """The metrics as a run of Weights & Biases, set by WANDB_MODE, WANDB_PROJECT and the like.

    A resumed run continues the same run there, whose id is in wandb.id. With WANDB_MODE=offline all stays in wandb/.
    """

    def __init__(self, run: Path, first_step: int, config: Mapping[str, Any]) -> None:
        import wandb

        own_id = run / WANDB_ID
        if own_id.is_file() and not is_own(run, WANDB_ID):  # the curves would go on in a stranger's
            raise changed(WANDB_ID, run)
        if not own_id.is_file():
            replace_file(own_id, uuid.uuid4().hex)
            bind(run, WANDB_ID)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "rlhf"),
            name=run.name,
            dir=str(run),
            id=own_id.read_text(encoding="utf-8").strip(),
            resume="allow",
            config=dict(config),
            settings=wandb.Settings(console="off", silent=True, init_timeout=WAIT_S, finish_timeout=WAIT_S),
        )
        # a resumed run goes back to its checkpoint, so a point is placed by its step, not by its order
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add one point to every curve."""
        self._run.log({"step": step, **metrics})

    def close(self) -> None:
        """Send the remaining points."""
        self._run.finish()


class Trackio:
    """The metrics as a run of Trackio, on this machine unless TRACKIO_SPACE_ID or TRACKIO_SERVER_URL name another.

    A resumed run continues the same run there, as long as its folder is where it was. Steps that are done again have
    their points twice, which are the same. The project is TRACKIO_PROJECT, or rlhf.
    """

    def __init__(self, run: Path, first_step: int, config: Mapping[str, Any]) -> None:
        with redirect_stdout(io.StringIO()):  # it prints how to look at the project
            import trackio

            place = hashlib.sha256(str(run.resolve()).encode()).hexdigest()[:6]
            trackio.init(
                project=os.environ.get("TRACKIO_PROJECT", "rlhf"),
                name=f"{run.name}-{place}",
                resume="allow",
                config=dict(config),
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
            self._trackio = trackio

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add one point to every curve."""
        self._trackio.log(dict(metrics), step=step)

    def close(self) -> None:
        """Write the remaining points."""
        with redirect_stdout(io.StringIO()):
            self._trackio.finish()


Sink = TensorBoard | WandB | Trackio
SINKS: Final[Mapping[str, type[Sink]]] = {"tensorboard": TensorBoard, "wandb": WandB, "trackio": Trackio}


def check_sinks(names: Sequence[str]) -> None:
    """Raise UserError where a sink needs a package that is not installed."""
    for name in names:
        if find_spec(name) is None:
            raise UserError(
                f"{name} is not installed", where="sinks", fix=f"pip install 'rlhf-cli[{name}]', or leave it out"
            )


class Curves:
    """All sinks of a run. The first error of a sink is noted, and the sink is left out from then on."""

    def __init__(
        self, names: Sequence[str], run: Path, first_step: int, config: Mapping[str, Any], note: Callable[[str], None]
    ) -> None:
        self._note, self._open = note, dict[str, Sink]()
        for name in names:
            try:
                self._open[name] = SINKS[name](run, first_step, config)
            except Exception as error:
                note(f"no curves in {name}: {_reason(error)}")

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add one point to every curve of every sink."""
        for name, sink in list(self._open.items()):
            try:
                sink.write(step, metrics)
            except Exception as error:
                self._note(f"the curves in {name} end before step {step}: {_reason(error)}")
                with suppress(Exception):
                    self._open.pop(name).close()

    def close(self) -> None:
        """Close all sinks."""
        for name, sink in self._open.items():
            try:
                sink.close()
            except Exception as error:
                self._note(f"the last curves in {name} may be missing: {_reason(error)}")


def _reason(error: Exception) -> str:
    return error.strerror if isinstance(error, OSError) and error.strerror else first_line(error)
