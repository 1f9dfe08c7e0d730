"""RunConfig: everything one run of `rlhf train` depends on; TrainingConfig: the part that every training has.

Both are validated, frozen, plain data. They know no hydra, no torch and no file.

Types, ranges and meanings stand here; the values stand in configs/*.yaml. A default in Python is for settings that are
newer than some runs: what those runs did without it, whatever a new run does. A resumed run may change Free settings;
it must name all others in `resume_allow`.
"""

from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from rlhf_cli.algorithms import Algorithm
from rlhf_cli.algorithms.placement import REFUSED, Placement
from rlhf_cli.data import Data
from rlhf_cli.health.stopping import Stop
from rlhf_cli.models.settings import Initial, Model, Reference
from rlhf_cli.plural import plural
from rlhf_cli.rewards import Reward
from rlhf_cli.schedules import Beta, Controlled, Schedule
from rlhf_cli.schedules.optimizer import AdamW
from rlhf_cli.settings import FilePath, Free, Names, Seconds, Settings, as_tuple

Opponent = Literal["reference", "labelled"]
"""The other side of pairs of the policy's completions: the reference, or the policy of the newest step with votes."""


COLDEST: Final = 1e-3
"""Lowest temperature above 0: logits divided by a far smaller one are no numbers any more."""
BY_MACHINE: Final = ("dtype", "microbatch_size", "reuse_forward", "invariant", "shards")
"""Settings that the machine or its processes decide where they are `auto`; a run keeps what was decided at first."""


class HeldOut(Settings):
    """Evaluation on rows that are never trained on."""

    every: Free[int] = Field(ge=0)
    """Steps between evaluations; 0 = never, also not before and after the run. A resumed run may not change it from
    or to 0: that would change the training data."""
    prompts: int = Field(ge=2, le=10**6)
    """Number of held-out prompts."""


class Evaluate(HeldOut):
    """Held-out evaluation: at temperature 1, from all tokens, with the same random streams every time."""

    samples: int = Field(ge=1)
    """Completions of each prompt."""
    human: Free[int] = Field(default=0, ge=0)
    """Steps between pairs of completions for people, a multiple of `every`; the last step leaves pairs too; 0 = none.
    `rlhf label RUN` asks for votes while training goes on, and metrics.jsonl has what they say: human/win_rate."""
    human_against: Free[Opponent] = "reference"
    """The opponent in these pairs: the reference, or the policy of the newest step that has votes (labelled)."""


class Checkpoint(Settings):
    """The checkpoints that a run can be resumed from."""

    every: int = Field(ge=1)
    """Steps between checkpoints; the last step always has one."""
    keep: int = Field(ge=1)
    """Newest checkpoints to keep."""
    keep_best: bool
    """Whether to keep the checkpoint with the best held-out objective as well; such a step always has a checkpoint."""
    max_failures: int = Field(ge=1)
    """The run ends when so many checkpoints in a row cannot be written; before that, each is a note. A line of
    metrics.jsonl that cannot be written ends the run at once."""


def _refuse_unsound(value: Any) -> Any:
    """Refuse placements of the KL that are known to be wrong, each with its reason."""
    if isinstance(value, str) and value in REFUSED:
        raise ValueError(f"{REFUSED[value]}; use reward, exact, loss_k2 or loss_k2_sequence")
    return value


class TrainingConfig(Settings):
    """The settings that every kind of training has."""

    model: Model
    data: Data
    optimizer: AdamW
    steps: Free[int] = Field(ge=1)
    """Steps of training; in `rlhf train` each begins with a rollout."""
    prompts_per_step: int = Field(ge=1)
    """Prompts of one step."""
    max_new_tokens: int = Field(ge=1)
    """Longest completion, in tokens."""
    microbatch_size: Literal["auto"] | Annotated[int, Field(ge=1)]
    """Completions that go through the model at once in scoring and updating; auto: as many as the memory allows, on a
    CPU up to 2,048 tokens. The gradient does not depend on it, but for rounding and for the masks of
    `model.lora.dropout`."""
    evaluate: HeldOut
    checkpoint: Free[Checkpoint]
    sinks: Free[Annotated[tuple[Literal["tensorboard", "wandb", "trackio"], ...], BeforeValidator(as_tuple)]]
    """Programs that show the curves, besides metrics.jsonl; wandb and trackio are extras, and are set by their own
    environment variables."""
    max_skipped_steps: int = Field(ge=0)
    """Steps in a row that may change nothing, because their gradient is not finite, nothing could be scored, or
    prompts=dynamic found no group with different scores; one more ends the run."""
    time_limit: Free[Seconds | None]
    """Stop after this time, resumable (exit 75): seconds, 1h30m or 1:30:00; null: never."""
    seed: int = Field(ge=0)
    """Everything random depends on it."""
    device: str = Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    """auto, cpu, cuda or cuda:N; auto takes a GPU where there is one."""
    dtype: Literal["auto", "float32", "bfloat16"]
    """Type of the frozen weights; the adapter is always float32. auto: bfloat16 on a GPU, and on a CPU with
    instructions for it (AVX-512 BF16 or AMX) where the model's file is in bfloat16 or quantised and no `model.adapter`
    is merged into it; otherwise float32. A run keeps the one that it began with."""
    threads: Annotated[int, Field(ge=1, le=1024)] | None
    """CPU threads; null: as many as torch takes, and in an `invariant` run fewer while other programs keep the cores
    busy. Without `invariant`, a run repeats bit for bit only with the same number."""
    processes: Free[int] = Field(default=1, ge=1)
    """Processes that share the work of the run; no number of it depends on them."""
    shards: Literal["auto"] | Annotated[int, Field(ge=1)] = 1
    """Parts of a step's prompts that are calculated by themselves: sampled, read and differentiated. `processes` may be
    any number up to it. auto: as many as the processes that the run begins with."""
    run_dir: Free[FilePath | None]
    """The folder of the run; null: outputs/DATE/TIME."""
    resume: Free[str | None]
    """A run's or a checkpoint's folder, `latest`, or `auto` (continue run_dir, or start it)."""
    resume_allow: Free[Names]
    """Keys that may differ from the resumed run, besides the free keys."""
    display: Free[Literal["auto", "live", "plain", "json", "quiet"]]
    """live: a dashboard; plain: a line a step; json: the metrics, then folder and result; quiet: nothing; auto: live on
    a terminal, or else plain."""

    @property
    def columns_read(self) -> tuple[str, ...] | None:
        """The columns of the data, beside the prompt, that the run may read; None: any of them."""
        return ()

    @property
    def divides_model(self) -> bool:
        """Whether each process holds a part of the base model's weights."""
        return False

    @model_validator(mode="after")
    def _has_work_for_all(self) -> Self:
        if self.shards != "auto" and self.shards > self.prompts_per_step:
            raise ValueError(f"shards: a shard has whole prompts, and a step has {self.prompts_per_step}")
        if self.processes > (self.prompts_per_step if self.shards == "auto" else self.shards):
            there = f"{plural(self.prompts_per_step, 'prompt')} a step"
            if self.shards != "auto":
                there = f"{self.shards}: take up to {self.shards}, or shards={self.processes}"
            raise ValueError(f"processes: {self.processes} processes need as many shards, and there are {there}")
        return self


class RunConfig(TrainingConfig):
    """One run of `rlhf train`."""

    reward: Reward
    algorithm: Algorithm
    kl: Annotated[Placement, BeforeValidator(_refuse_unsound)]
    """Place of the KL: reward (k1 in the reward), exact (no sampled estimator), loss_k2 (partial), loss_k2_sequence
    (k2 of whole completions: unbiased, without a baseline)."""
    beta: Beta
    """Weight of KL(policy || reference) in the objective, per nat."""
    reference: Reference = Initial(kind="initial")
    """The policy that the KL is measured from: the initial one, or another model of the same tokenizer."""
    temperature: Schedule
    """Sampling temperature of the rollouts, 0.001 or more."""
    samples_per_prompt: int = Field(ge=1)
    """Completions of each prompt: a group."""
    prompts: Literal["uniform", "headroom", "dynamic"] = "uniform"
    """The choice of a step's prompts. uniform: each once an epoch. headroom: in proportion to what is left to gain at
    each, weighed in the loss so that the objective stays that of all prompts. dynamic, of DAPO: each once an epoch, and
    on until a step is full of groups with different scores; the KL of all other groups is not in the gradient, so with
    beta > 0 the objective is another one."""
    max_rollouts: int = Field(default=4, ge=1)
    """With prompts=dynamic: the most rollouts, of `prompts_per_step` prompts each, that a step draws. It then learns
    from the groups with different scores that it has found, and changes nothing if there are none."""
    top_k: Annotated[int, Field(ge=1)] | None
    """Rollouts are sampled from the k most probable tokens; null: from all. Evaluations are never truncated."""
    top_p: float = Field(gt=0, le=1)
    """Rollouts are sampled from the fewest tokens that together have this probability; 1: from all."""
    min_p: float = Field(ge=0, le=1)
    """Rollouts are sampled from tokens with at least this share of the top token's probability; 0: from all."""
    exact_kl_every: int = Field(ge=1)
    """Steps between measurements of the exact KL and the entropy; at the steps between, the KL is the sampled k1."""
    reuse_forward: Literal["auto"] | bool = False
    """Whether a step's first update takes its forward pass from the rollout, which read the same tokens with the same
    weights. It takes memory; auto: on a CPU with the native engine, where 15 % of the memory are enough."""
    invariant: Literal["auto"] | bool = False
    """Whether a completion's bits depend on the weights, its prompt and its seed alone: not on the completions beside
    it, the microbatches or the threads. A step's gradient is then added in units of whole prompts, and no shard
    divides one, nor a microbatch that can hold it. auto: with the native engine on a CPU that was found to allow it."""
    evaluate: Evaluate
    log_samples: Free[int] = Field(ge=0)
    """Completions of each step that are written to samples.jsonl."""
    on_no_signal: Free[Literal["warn", "stop"]] = "warn"
    """For a step in which no prompt has two completions with different scores: warn (a hard task may begin so), or stop
    the run with that step saved."""
    on_alarm: Free[Literal["warn", "stop"]] = "warn"
    """For an alarm of the rules of `rlhf doctor`: warn (a note when it begins), or stop the run while one lasts, with
    the step saved (exit 75)."""
    stop: Free[Stop] = Stop()
    """Ends of the run before its last step; each says why, and the run can be resumed past it."""
    profile: Free[bool]
    """Trace the second and the third step into RUN/profile, to see which operations take the time."""
    sweep_dir: Free[FilePath | None]
    """The folder of a multirun, one folder a trial; null: outputs/sweeps/NAME-HASH, with a hash of the settings, so
    that the same sweep finds its folder again."""
    shard_model: Free[bool] = False
    """Whether each process holds a part of the base model's weights, by FSDP2, and gathers one layer at a time: for
    models that fit on no single device. It needs two `processes` or more, and runs on the library's forward pass."""
    seeds: Free[int] = Field(ge=1)
    """Runs of every point of a multirun, which differ in their seeds: `seed`, `seed + 1`, ..."""
    jobs: Free[Annotated[int, Field(ge=1)] | None]
    """Trials of a multirun that run at a time; null: one on each GPU; without a GPU one after the other."""

    @property
    def columns_read(self) -> tuple[str, ...] | None:
        """The columns that the reward reads."""
        return self.reward.source.columns_read

    @property
    def divides_model(self) -> bool:
        """Whether `shard_model` asks for it."""
        return self.shard_model

    @property
    def makes_room(self) -> bool:
        """Whether the run may work with fewer threads beside other programs: their number is left open, and where the
        run is `invariant` it is part of no result."""
        return self.threads is None and self.processes == 1 and self.invariant is not False

    def _why_not_drawn(self) -> str | None:
        """The reason for which the prompts cannot be drawn as `prompts` says; None where they can."""
        a, dynamic = self.algorithm, self.prompts == "dynamic"
        if dynamic and a.min_group < 2:
            return f"leaves out groups with one score, and algorithm={a.kind} learns from those: algorithm=rloo or grpo"
        if dynamic and self.reward.is_none:
            return "compares scores, and without a reward all are the same: prompts=uniform"
        if self.samples_per_prompt < 2:
            return "compares the completions of a prompt: samples_per_prompt=2 or more"
        if a.kind == "ppo" and a.whiten:
            return "would whiten by the prompts that it draws: algorithm.whiten=false"
        if self.reward.normalise:
            return f"would normalise by the prompts that it {'keeps' if dynamic else 'draws'}: reward.normalise=false"
        if self.reward.truncated == "mask":
            return "needs all completions of a prompt: reward.truncated=penalty"
        return None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.samples_per_prompt < self.algorithm.min_group:
            raise ValueError(
                f"samples_per_prompt: algorithm={self.algorithm.kind} compares the completions of a prompt and needs "
                f"at least {self.algorithm.min_group} (got {self.samples_per_prompt})"
            )
        every, human = self.evaluate.every, self.evaluate.human
        if human and (not every or human % every):
            raise ValueError(
                "evaluate.human: pairs are made of held-out completions, so it must be a multiple of "
                f"evaluate.every={every} (got {human})"
            )
        if self.stop.plateau is not None and not every:
            raise ValueError("stop.plateau: it compares held-out evaluations: evaluate.every=STEPS")
        if self.prompts_per_step * self.samples_per_prompt < self.algorithm.min_completions:
            raise ValueError("samples_per_prompt: the mean of a single completion would cancel its score altogether")
        if reason := self.algorithm.why_unsound(self.kl):
            raise ValueError(f"kl: algorithm={self.algorithm.kind} refuses kl={self.kl}: {reason}")
        if self.reward.truncated == "mask" and (reason := self.algorithm.why_no_mask):
            raise ValueError(f"reward.truncated: algorithm={self.algorithm.kind} refuses truncated=mask: {reason}")
        if self.reward.truncated == "mask" and self.kl == "loss_k2_sequence":
            raise ValueError("kl: loss_k2_sequence is not the KL of completions that ended (truncated=mask): kl=reward")
        if self.prompts != "uniform" and (reason := self._why_not_drawn()):
            raise ValueError(f"prompts: {self.prompts} {reason}")
        if self.kl == "exact" and self.exact_kl_every > 1:
            raise ValueError("exact_kl_every: kl=exact needs the exact KL at every step: exact_kl_every=1")
        if isinstance(self.beta, Controlled) and self.exact_kl_every > 1:
            raise ValueError(f"exact_kl_every: beta={self.beta.kind} follows every step's exact KL: exact_kl_every=1")
        if self.shard_model and self.model.engine == "native":
            raise ValueError("shard_model: the native engine needs the whole weights: model.engine=auto")
        if self.shard_model and self.reference.kind != "initial":
            raise ValueError("shard_model: the reference must be the initial policy: reference=initial")
        if self.temperature.lowest <= 0:
            raise ValueError("temperature: must stay above 0: greedy decoding cannot explore, so it cannot train")
        if self.temperature.lowest < COLDEST:
            raise ValueError(f"temperature: must stay at {COLDEST:g} or above (got {self.temperature.lowest:g})")
        return self
