"""What a run is at the end of a step: exactly what a checkpoint saves, and what stopping in mid-step goes back to.

Random generators are not among it (see seeding), nor is the order of the data: both are functions of the step.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Literal

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors.torch import load_file
from safetensors.torch import save as serialised
from torch import Tensor

from rlhf_cli.algorithms.baseline import RunningMean
from rlhf_cli.errors import EXIT_RESUME, UserError
from rlhf_cli.models.policy import Policy
from rlhf_cli.rewards.shaping import Spread
from rlhf_cli.runs.jsonl import Mark
from rlhf_cli.schedules.controller import ControllerState
from rlhf_cli.settings import READ_STRICTLY

OPTIMIZER: Final = "optimizer.safetensors"
VALUE_HEAD: Final = "value_head.safetensors"
STATE: Final = "state.json"


@dataclass(frozen=True, slots=True)
class Best:
    """The best held-out evaluation so far; its checkpoint is kept."""

    step: int
    reward: float
    kl: float
    """Exact KL(policy || reference), nats."""

    def objective(self, beta: float) -> float:
        """E[r] - beta KL; at one beta for all that are compared, since a controller's changes."""
        return self.reward - beta * self.kl


@dataclass(frozen=True, slots=True)
class TrainState:
    """Everything besides the tensors."""

    __pydantic_config__ = READ_STRICTLY

    schema: Literal[4] = 4
    """Of state.json: other versions of rlhf-cli have others."""
    step: int = 0
    """Completed steps."""
    baseline: RunningMean = field(default_factory=RunningMean)
    spread: Spread = field(default_factory=Spread)
    """Of the scores, where they are normalised."""
    control: ControllerState | None = None
    """Of a beta that follows the KL; None for one that is a function of the step."""
    sampler_gap: float | None = None
    """Largest difference, over completions, between the sampler's and the trainer's log-probability, at the last step.

    Where a rollout is divided, over the completions of its first update. None before the first comparison.
    """
    best: Best | None = None
    """None before the first evaluation."""
    skipped: int = 0
    """Steps in a row, up to this one, that changed nothing because their numbers could not be used."""
    microbatch_size: int | None = None
    """What fitted when the memory ran out; None while the configured one does."""
    logs: Mapping[str, Mark] = field(default_factory=dict)
    """Where each jsonl file ended."""


_STATE: Final = TypeAdapter(TrainState)


@dataclass(frozen=True, slots=True)
class Tensors:
    """A copy, in memory, of what is trained and of the optimizer's moments, by parameter name."""

    parameters: Mapping[str, Tensor]
    moments: Mapping[str, Mapping[str, Tensor]]


def copy_tensors(policy: Policy, optimizer: torch.optim.Optimizer) -> Tensors:
    """A copy of what the next update will change."""
    parameters = policy.parameters()
    return Tensors(
        parameters={name: p.detach().clone() for name, p in parameters.items()},
        moments={
            n: {k: v.clone() for k, v in optimizer.state[p].items()}
            for n, p in parameters.items()
            if p in optimizer.state
        },
    )


@torch.no_grad()
def put_back(tensors: Tensors, policy: Policy, optimizer: torch.optim.Optimizer) -> None:
    """Undo every update since the copy was taken."""
    optimizer.zero_grad()
    optimizer.state.clear()
    for name, parameter in policy.parameters().items():
        parameter.copy_(tensors.parameters[name])
        if name in tensors.moments:
            optimizer.state[parameter] = {k: v.clone() for k, v in tensors.moments[name].items()}


def is_finite(policy: Policy, optimizer: torch.optim.Optimizer) -> bool:
    """Whether every trained weight and every moment is a finite number."""
    tensors = [*policy.parameters().values(), *(t for moments in optimizer.state.values() for t in moments.values())]
    return all(bool(tensor.isfinite().all()) for tensor in tensors)


def files(state: TrainState, policy: Policy, optimizer: torch.optim.Optimizer) -> dict[str, bytes]:
    """A checkpoint's files, name -> content, none of them a pickle.

    The PEFT folder, the value head, the optimizer's moments by parameter name, the state.
    """
    content = policy.adapter_files()
    if policy.value_head is not None:
        content[VALUE_HEAD] = serialised({n: p.contiguous() for n, p in policy.value_head.state_dict().items()})
    moments = {
        f"{name}|{key}": value.contiguous()
        for name, values in copy_tensors(policy, optimizer).moments.items()
        for key, value in values.items()
    }
    content[OPTIMIZER] = serialised(moments)
    content[STATE] = (json.dumps(asdict(state), indent=2, sort_keys=True) + "\n").encode()
    return content


def load(folder: Path, policy: Policy, optimizer: torch.optim.Optimizer) -> TrainState:
    """Take adapter, moments and state from a checkpoint; raises UserError (exit 5) where they are not this run's."""
    state = read_state(folder)
    policy.load_adapter(folder)
    if (policy.value_head is not None) != (folder / VALUE_HEAD).is_file():
        raise UserError(
            f"the checkpoint has {'no' if policy.value_head else 'a'} value head",
            where=str(folder),
            fix="resume with the algorithm it was written by",
            exit_code=EXIT_RESUME,
        )
    if policy.value_head is not None:
        policy.value_head.load_state_dict(load_file(folder / VALUE_HEAD))
    flat = load_file(folder / OPTIMIZER)
    found = {key.rpartition("|")[0] for key in flat}
    if found not in (set(), policy.parameters().keys()):  # none: no step has changed anything yet
        raise UserError("the optimizer's state does not fit the adapter", where=str(folder), exit_code=EXIT_RESUME)
    optimizer.state.clear()
    for name, parameter in policy.parameters().items():
        moments = {key.rpartition("|")[2]: value for key, value in flat.items() if key.rpartition("|")[0] == name}
        if moments:
            # AdamW keeps its step counter on the CPU and its moments beside the weights.
            optimizer.state[parameter] = {k: v if k == "step" else v.to(parameter.device) for k, v in moments.items()}
    return state


def read_state(checkpoint: Path) -> TrainState:
    """The state that a checkpoint saved; raises UserError (exit 5) where another version wrote it."""
    try:
        return _STATE.validate_json((checkpoint / STATE).read_bytes())
    except ValidationError as error:
        raise UserError(
            "written by another version of rlhf-cli", where=str(checkpoint), exit_code=EXIT_RESUME
        ) from error
