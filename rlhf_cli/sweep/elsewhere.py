"""Start the trials of a sweep by joblib, Ray or submitit: the same commands that the pool would run itself."""

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Protocol

from rlhf_cli.errors import EXIT_BUG, EXIT_STOPPED, UserError, first_line
from rlhf_cli.runs.changes import FINGERPRINT_VARIABLE
from rlhf_cli.runs.folder import ENDING
from rlhf_cli.sweep.launchers import Joblib, Launcher, Ray, Slurm
from rlhf_cli.sweep.pool import Job, Process, StartTrial, start_process
from rlhf_cli.sweep.record import Ending
from rlhf_cli.sweep.remote import RemoteTrial

IDLE_S: Final = 60
"""Seconds after which a worker of joblib without a trial ends, also where the sweep was killed."""
SUBMITTED: Final = ".submitit"
"""The folder, in that of a sweep, of what submitit writes."""


class Handle(Protocol):
    """A trial that was handed over."""

    def result(self) -> int | None:
        """Its exit code, None before its end; raises what went wrong outside of it."""

    def drop(self) -> bool:
        """Take it back where it has not begun, and say whether that was so."""


Submit = Callable[[RemoteTrial], Handle]


@contextmanager
def starter(launcher: Launcher, folder: Path, count: int) -> Iterator[StartTrial]:
    """The function that starts a trial of the sweep in `folder`, of which at most `count` run at once."""
    if isinstance(launcher, Joblib):
        with _joblib(count) as submit:
            yield _start_by(submit)
    elif isinstance(launcher, Ray):
        with _ray(launcher) as submit:
            yield _start_by(submit)
    elif isinstance(launcher, Slurm):
        yield _start_by(_submitit(launcher, folder / SUBMITTED))
    else:
        yield start_process


def _start_by(submit: Submit) -> StartTrial:
    def start(job: Job, slot: Mapping[str, str]) -> Process:
        variables = {**slot, FINGERPRINT_VARIABLE: job.fingerprint}
        trial = RemoteTrial(job.arguments, os.getcwd(), job.log, job.folder / ENDING, variables)
        return _Elsewhere(job, submit(trial))

    return start


class _Elsewhere:
    """A trial that runs elsewhere, as a process."""

    def __init__(self, job: Job, handle: Handle) -> None:
        self._job, self._handle = job, handle
        self._asked = self._dropped = False

    def poll(self) -> int | None:
        """Its exit code, or minus the signal that ended it; None while it runs or waits."""
        try:
            return -signal.SIGTERM if self._dropped else self._handle.result()
        except Exception as error:
            if self._asked:
                return -signal.SIGTERM
            with suppress(OSError), self._job.log.open("a", encoding="utf-8") as log:
                log.write(f"{type(error).__name__}: {first_line(error)}\n")
            return EXIT_BUG

    def send_signal(self, number: int) -> None:
        """Ask it to stop, whatever the signal: by a file that its worker looks for. Where none can be written, it ends
        by itself, and the other trials are asked all the same."""
        self._asked = True
        with suppress(OSError):
            Ending(EXIT_STOPPED, "asked to stop").write(self._job.folder)
        self._dropped = self._handle.drop()


class _Future:
    def __init__(self, future: Any) -> None:
        self._future = future

    def result(self) -> int | None:
        return int(self._future.result()) if self._future.done() else None

    def drop(self) -> bool:
        return bool(self._future.cancel())


@contextmanager
def _joblib(count: int) -> Iterator[Submit]:
    from joblib.externals import loky

    workers = loky.ProcessPoolExecutor(count, timeout=IDLE_S)
    try:
        yield lambda trial: _Future(workers.submit(trial))
    finally:
        workers.shutdown(wait=True)


class _Task:
    def __init__(self, reference: Any) -> None:
        self._reference = reference

    def result(self) -> int | None:
        import ray

        ready, _ = ray.wait([self._reference], timeout=0)
        return int(ray.get(self._reference)) if ready else None

    def drop(self) -> bool:
        return False  # where it waits, it finds the file once it begins


@contextmanager
def _ray(launcher: Ray) -> Iterator[Submit]:
    import ray

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        ray.init(address=launcher.address, log_to_driver=False, include_dashboard=False, logging_level="ERROR")
    except Exception as error:
        raise UserError(f"Ray does not answer: {first_line(error)}", where="hydra.launcher.address") from error
    for number, handler in handlers.items():  # ray takes SIGTERM for itself
        signal.signal(number, handler)
    task = ray.remote(_call).options(
        num_cpus=launcher.num_cpus, num_gpus=launcher.num_gpus, max_retries=launcher.max_retries
    )
    try:
        yield lambda trial: _Task(task.remote(trial))
    finally:
        ray.shutdown()


def _call(trial: RemoteTrial) -> int:
    return trial()


class _SlurmJob(_Future):
    def drop(self) -> bool:
        if self._future.state != "PENDING":
            return False
        self._future.cancel(check=False)
        return True


def _submitit(launcher: Slurm, folder: Path) -> Submit:
    # the signal that a run takes for the end of its time; submitit reads this as it is imported, here and in the job
    os.environ["SUBMITIT_PREEMPT_SIGNAL"] = "USR1"
    import submitit

    own = launcher.model_dump(exclude={"cluster", "max_num_timeout"}, exclude_none=True)
    names = {"partition", "account", "qos", "constraint", "gres", "signal_delay_s"}
    with _refusals_of_slurm():
        executor = submitit.AutoExecutor(folder, cluster=launcher.cluster, **{
            f"{launcher.cluster}_max_num_timeout": launcher.max_num_timeout
        })  # fmt: skip
        executor.update_parameters(
            name="rlhf", **{f"slurm_{key}" if key in names else key: value for key, value in own.items()}
        )

    def submit(trial: RemoteTrial) -> Handle:
        with _refusals_of_slurm():
            return _SlurmJob(executor.submit(trial))

    return submit


@contextmanager
def _refusals_of_slurm() -> Iterator[None]:
    """Turn an error of submitit's into a UserError."""
    try:
        yield
    except RuntimeError as error:
        fix = "start the sweep where sbatch and srun are, with settings that they take"
        raise UserError(f"Slurm takes no job: {first_line(error)}", where="hydra/launcher=slurm", fix=fix) from error
