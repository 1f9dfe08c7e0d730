"""Everything that a run holds, as plain data: `Training` for any training, `Run` for `rlhf train`."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from rlhf_cli.engine import Engine
from rlhf_cli.engine.native import NativeEngine
from rlhf_cli.engine.reference import native_engine
from rlhf_cli.feedback.queue import Queue
from rlhf_cli.functional.mismatch import TOLERANCE
from rlhf_cli.functional.truncation import Truncation
from rlhf_cli.health.alarms import Alarms
from rlhf_cli.health.stopping import Stopping
from rlhf_cli.models.policy import Policy
from rlhf_cli.pipeline.profiling import Profiler
from rlhf_cli.pipeline.saving import Saver
from rlhf_cli.pipeline.state import Tensors, TrainState
from rlhf_cli.pipeline.work import Work
from rlhf_cli.prompts.encoding import Prompts
from rlhf_cli.ranks.dealing import UNITS
from rlhf_cli.ranks.shards import Shards
from rlhf_cli.ranks.team import Team
from rlhf_cli.rewards.execution.scorer import Scorer
from rlhf_cli.runs.logbook import Logbook
from rlhf_cli.runs.no_signal import NoSignal
from rlhf_cli.schedules import Controlled
from rlhf_cli.schema import RunConfig, TrainingConfig
from rlhf_cli.types import Prompt, Rollout


@dataclass(slots=True)
class Unfinished:
    """The step under way: the weights to go back to if it stops, and figures to log when it is complete."""

    before: Tensors | None = None
    """The weights and moments to go back to; None until an update may change them."""
    retries: int = 0
    """Calls to the reward that were repeated."""
    failure_noted: bool = False
    """Whether the first completion without a score was noted."""
    rollouts: int = 0
    """Rollouts that it has drawn; several with prompts=dynamic alone."""
    length: float = 0.0
    """The mean length of all their completions, tokens."""


@dataclass(slots=True, kw_only=True)
class Training:
    """Everything that any training holds; `state` is the state after the last complete step."""

    config: TrainingConfig
    folder: Path
    policy: Policy
    engine: Engine
    optimizer: torch.optim.Optimizer
    saver: Saver
    logbook: Logbook
    work: Work
    team: Team = field(default_factory=Team)
    """The processes that calculate the run's shards."""
    state: TrainState = field(default_factory=TrainState)
    unfinished: Unfinished = field(default_factory=Unfinished)

    @property
    def shards(self) -> Shards:
        """The shards of the run's batches."""
        count = self.config.shards
        return Shards(self.policy, self.engine, self.team, self.team.size if count == "auto" else count, self.units)

    @property
    def units(self) -> int:
        """The units of a batch, as `Shards` has them."""
        return 0

    def sync(self) -> None:
        """Put on disk what a checkpoint counts on; raises OSError where the disk refuses."""
        self.logbook.sync()

    def close(self) -> None:
        """Close the files."""
        self.logbook.close()


@dataclass(slots=True, kw_only=True)
class Run(Training):
    """Everything that a run of `rlhf train` holds."""

    config: RunConfig
    prompts: Prompts
    held_out: tuple[Prompt, ...]
    scorer: Scorer
    queue: Queue | None = None
    """The pairs for people, and their votes; None without evaluate.human."""
    profiler: Profiler | None = None
    logs_errors: bool = True
    """Whether metrics.jsonl has all standard errors; a run that an earlier version began goes on without the newer."""
    no_signal: NoSignal = field(default_factory=NoSignal)
    """The steps so far that learned nothing from the reward; metrics.jsonl has them too."""
    alarms: Alarms = field(default_factory=Alarms)
    """The alarms of the steps so far; they follow from metrics.jsonl and evaluations.jsonl."""
    reference_samples: dict[int, Rollout] = field(default_factory=dict)
    """The reference's held-out completions that were sampled, by the number of the first prompt of their batch."""
    seconds: float = 0.0
    """The time of all steps so far, which timings.jsonl has too."""
    stopped: Stopping | None = None
    """The rule of `stop` that ended the run before its last step."""

    @property
    def units(self) -> int:
        """The units of a batch, as `Shards` has them: some where the engine is invariant."""
        return UNITS if self.config.invariant is True else 0

    def sync(self) -> None:
        """Put on disk what a checkpoint counts on; raises OSError where the disk refuses."""
        if self.queue is not None:
            self.queue.sync()
        Training.sync(self)

    def close(self) -> None:
        """Close the files."""
        Training.close(self)
        if self.queue is not None:
            self.queue.close()
        if self.profiler is not None:
            self.profiler.close()


def truncation(config: RunConfig) -> Truncation:
    """The truncation of the distribution that the run's rollouts are sampled from."""
    return Truncation(config.top_k, config.top_p, config.min_p)


def needs_reread(state: TrainState) -> bool:
    """Whether the trainer has to read the rollout: it was not compared with the sampler yet, or differed from it."""
    return state.sampler_gap is None or state.sampler_gap > TOLERANCE


def reusing_engine(run: Run) -> NativeEngine | None:
    """The engine, where a step's first update takes the forward pass from the rollout; else None."""
    reuses = run.config.reuse_forward is True and not needs_reread(run.state) and run.unfinished.rollouts <= 1
    return native_engine(run.engine) if reuses else None


def current_beta(run: Run, step: int) -> float:
    """The weight of the KL at `step`: from its schedule, or the present value of the controller that follows the KL."""
    schedule = run.config.beta
    if isinstance(schedule, Controlled):
        return (run.state.control or schedule.begin()).beta
    return schedule.at(step, run.config.steps)


def due(step: int, every: int, total: int) -> bool:
    """Whether something that is done every `every` steps (0: never), and at the end, is due after step `step`."""
    return every > 0 and (step % every == 0 or step == total)
