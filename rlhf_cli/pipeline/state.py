"""The state of a run at the end of a step: a checkpoint saves exactly this, and an interrupted step goes back to it.

Random generators and the order of the data are no part of it: both are functions of the step (see seeding); and of
`headroom` or `rollouts`, where prompts are drawn by them.
"""

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import torch
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor

from rlhf_cli.algorithms.baseline import RunningMean
from rlhf_cli.errors import bad_run
from rlhf_cli.evaluation.evaluation import KL_DIGITS
from rlhf_cli.functional.returns import ROUNDING
from rlhf_cli.models.policy import Policy
from rlhf_cli.prompts.headroom import Headroom
from rlhf_cli.rewards.shaping import Spread
from rlhf_cli.runs.json_files import Stored
from rlhf_cli.runs.logbook import Mark
from rlhf_cli.schedules.controller import ControllerState

OPTIMIZER: Final = "optimizer.safetensors"
VALUE_HEAD: Final = "value_head.safetensors"
STATE: Final = "state.json"


@dataclass(frozen=True, slots=True)
class Best:
    """The best held-out evaluation so far, the first of several that differ by rounding; its checkpoint is kept."""

    step: int
    reward: float
    kl: float
    """Exact KL(policy || reference), nats."""

    def beats(self, earlier: "Best | None", beta: float) -> bool:
        """Whether E[r] - beta KL rose by more than rounding, at one beta, since a controller's beta changes."""
        if earlier is None:
            return True
        gain = self.reward - earlier.reward - beta * (self.kl - earlier.kl)
        return gain > ROUNDING * max(abs(self.reward), abs(earlier.reward)) + beta * 10.0**-KL_DIGITS


@dataclass(frozen=True, slots=True)
class TrainState(Stored):
    """The state without the tensors."""

    step: int = 0
    """Completed steps."""
    baseline: RunningMean = field(default_factory=RunningMean)
    spread: Spread = field(default_factory=Spread)
    """Mean and spread of all scores so far, where they are normalised."""
    control: ControllerState | None = None
    """State of the controller that sets beta; None where beta is a function of the step."""
    sampler_gap: float | None = None
    """Largest difference between the sampler's and the trainer's log-probability of a completion, at the last step.

    Where a rollout is split, over the completions of its first update. None before the first comparison.
    """
    best: Best | None = None
    """None before the first evaluation."""
    skipped: int = 0
    """Steps in a row, up to this one, that were skipped."""
    microbatch_size: int | None = None
    """The size that fitted when memory ran out; None while the configured one fits."""
    headroom: Headroom | None = None
    """Estimates by which prompts are drawn (`prompts=headroom`); None: state.json has no such key."""
    rollouts: int | None = None
    """Rollouts of all steps (`prompts=dynamic`); None: one each, and state.json has no such key."""
    logs: Mapping[str, Mark] = field(default_factory=dict)
    """The end of each jsonl file."""
    schema: Literal[4] = 4
    """The version of state.json: other versions of rlhf-cli have others."""

    @property
    def drawn(self) -> int:
        """The rollouts that the complete steps have drawn."""
        return self.step if self.rollouts is None else self.rollouts


@dataclass(frozen=True, slots=True)
class Tensors:
    """A copy, in memory, of the trained parameters and of the optimizer's moments, by parameter name."""

    parameters: Mapping[str, Tensor]
    moments: Mapping[str, Mapping[str, Tensor]]


def copy_tensors(policy: Policy, optimizer: torch.optim.Optimizer) -> Tensors:
    """Copy the tensors that an update changes."""
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
def restore_tensors(tensors: Tensors, policy: Policy, optimizer: torch.optim.Optimizer) -> None:
    """Undo every update since `tensors` were copied."""
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


def serialise(state: TrainState, policy: Policy, optimizer: torch.optim.Optimizer) -> dict[str, bytes]:
    """The files of a checkpoint, name -> content: PEFT folder, value head, moments by parameter name, state.

    None of them is a pickle.
    """
    content = policy.adapter_files()
    if policy.value_head is not None:
        content[VALUE_HEAD] = to_bytes({n: p.contiguous() for n, p in policy.value_head.state_dict().items()})
    moments = {
        f"{name}|{key}": value.contiguous()
        for name, parameter in policy.parameters().items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }
    content[OPTIMIZER] = to_bytes(moments)
    fields = state.content()
    for name in ("headroom", "rollouts"):
        if fields[name] is None:  # as earlier versions wrote it
            del fields[name]
    content[STATE] = (json.dumps(fields, indent=2, sort_keys=True) + "\n").encode()
    return content


def load(folder: Path, policy: Policy, optimizer: torch.optim.Optimizer) -> TrainState:
    """Load adapter, moments and state from a checkpoint; raises UserError (exit 5) where they are another run's."""
    state = read_state(folder)
    policy.load_adapter(folder)
    if (policy.value_head is not None) != (folder / VALUE_HEAD).is_file():
        raise bad_run(
            f"the checkpoint has {'no' if policy.value_head else 'a'} value head",
            folder,
            "resume with the algorithm it was written by",
        )
    if policy.value_head is not None:
        policy.value_head.load_state_dict(load_file(folder / VALUE_HEAD))
    moments, parameters = defaultdict[str, dict[str, Tensor]](dict), policy.parameters()
    for path, value in load_file(folder / OPTIMIZER).items():
        name, _, key = path.rpartition("|")
        moments[name][key] = value
    # no moments: no step has changed anything yet; and none of layers that no text goes through, as those of images
    missing = (re.sub(r"\.lora_\w+\.", ".lora_B.", name) for name in parameters.keys() - moments.keys())
    if moments and (moments.keys() - parameters.keys() or any(bool(parameters[name].any()) for name in missing)):
        raise bad_run("the optimizer's state does not fit the adapter", folder)
    optimizer.state.clear()
    for name, own in moments.items():
        device = parameters[name].device
        # AdamW keeps its step counter on the CPU and its moments beside the weights.
        optimizer.state[parameters[name]] = {k: v if k == "step" else v.to(device) for k, v in own.items()}
    return state


def read_state(checkpoint: Path) -> TrainState:
    """The state that a checkpoint saved; raises UserError (exit 5) where another version wrote it."""
    if (state := TrainState.parse((checkpoint / STATE).read_bytes())) is None:
        raise bad_run("written by another version of rlhf-cli", checkpoint)
    return state
