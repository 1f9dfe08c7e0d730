"""Our side of scripts/bench: a run that takes one step for each request of the parent.

The code is the product's: the run is assembled as `rlhf train` does it, and its stages are those of pipeline/loop.py.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import torch
from bench_lines import Parent, peak_memory
from flops import Shape
from roofline import roofline
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from rlhf_cli.config.jobs import compose_config
from rlhf_cli.engine.ragged import shared_prefix_length
from rlhf_cli.errors import UserError
from rlhf_cli.models.loading import resolve
from rlhf_cli.models.policy import Policy
from rlhf_cli.pipeline.assemble import assemble
from rlhf_cli.pipeline.rollout import draw
from rlhf_cli.pipeline.run import Run, current_beta
from rlhf_cli.pipeline.scoring import score
from rlhf_cli.pipeline.signals import StopSignals
from rlhf_cli.pipeline.step import complete, save
from rlhf_cli.pipeline.update import update
from rlhf_cli.prompts.rows import read_rows
from rlhf_cli.reporter import Reporter
from rlhf_cli.rewards.execution.scorer import Scorer
from rlhf_cli.runs.folder import REWARD_LOG

NEVER: Final = -1
"""No token: a policy that ends on it writes exactly max_new_tokens, whatever it says, so that every step is the same
work."""


NOT_OF_A_STEP: Final = ("time/checkpoint_s", "time/other_s", "time/step_s")


class Timings(Reporter):
    """The run's reporter: it keeps the seconds of the last step's phases and the notes, and shows nothing."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.notes: list[str] = []

    @contextmanager
    def phase(self, name: str, ticks: int) -> Iterator[Callable[[], None]]:
        """Measure a phase, with the work that it gave to the GPU."""
        yield lambda: None
        synchronise()

    def step(
        self, step: int, metrics: Mapping[str, float], timings: Mapping[str, float], sample: tuple[str, str]
    ) -> None:
        """Keep the seconds by phase; the run's own clock also counts the time that the peer took in between."""
        self.seconds = {
            key.removeprefix("time/").removesuffix("_s"): value
            for key, value in timings.items()
            if key.startswith("time/") and key not in NOT_OF_A_STEP
        }

    def note(self, text: str) -> None:
        """Keep the note: it may explain a figure, as when memory ran out."""
        self.notes.append(text)

    def evaluated(self, step: int, metrics: Mapping[str, float]) -> None:
        """Never called: the run is not evaluated."""


@contextmanager
def running(overrides: Sequence[str], watch: Timings) -> Iterator[Run]:
    """Assemble the run in a temporary folder; all its completions have exactly max_new_tokens tokens."""
    config = compose_config(overrides)
    rows = read_rows(config)
    with (
        tempfile.TemporaryDirectory(prefix="rlhf-bench-") as name,
        Scorer(config.reward, rows.columns, Path(name) / REWARD_LOG) as scorer,
    ):
        run = assemble(config, rows, Path(name), scorer, watch, StopSignals(), None)
        run.policy = run.engine.policy = replace(run.policy, end_tokens=(NEVER,))
        try:
            yield run
        finally:
            run.logbook.close()


def take_step(run: Run, watch: Timings) -> dict[str, Any]:
    """Take one step as pipeline/loop.py does.

    Returns the seconds by phase and in all, the prompts' lengths, the length of their common beginning, and the number
    of completion tokens.
    """
    config, step = run.config, run.state.step
    start = time.perf_counter()
    rollout, scores = draw(run, config.temperature.at(step, config.steps))
    scored = score(run, rollout, scores, current_beta(run, step))
    advantages = config.algorithm.advantages(scored, run.state.baseline)
    learned = update(run, advantages)
    complete(run, advantages, learned, None)
    seconds = time.perf_counter() - start
    notes, watch.notes = watch.notes, []
    return {
        "seconds": watch.seconds | {"other": seconds - sum(watch.seconds.values()), "step": seconds},
        "prompts": [len(prompt.tokens) for prompt in rollout.batch.prompts],
        "alike": shared_prefix_length([prompt.tokens for prompt in rollout.batch.prompts]),
        "tokens": int(rollout.lengths.sum()),
        "memory": peak_memory(),
        "notes": notes,
    }


def time_save(run: Run) -> dict[str, float]:
    """Save a checkpoint, and return the seconds that it took."""
    start = time.perf_counter()
    save(run, needed=True)
    return {"seconds": time.perf_counter() - start}


def about(run: Run, steps: int) -> dict[str, Any]:
    """The facts about the run; its prompts are those of the first `steps` steps, as the file has them."""
    config, policy = run.config, run.policy
    prompts = [one for step in range(steps) for one in run.prompts.of_step(step, config.prompts_per_step, config.seed)]
    lora = policy.peft.peft_config["default"]
    return {
        "model": resolve(config.model) if config.model.kind == "pretrained" else config.model.kind,
        "shape": asdict(shape_of(policy)),
        "device": str(policy.device),
        "gpu": torch.cuda.get_device_name(policy.device) if policy.device.type == "cuda" else None,
        "dtype": str(policy.causal.dtype).removeprefix("torch."),
        "engine": type(run.engine).__name__.removesuffix("Engine").lower(),
        "threads": torch.get_num_threads(),
        "microbatch_size": config.microbatch_size,
        "reward": config.reward.source.kind,
        "beta": current_beta(run, 0),
        "temperature": config.temperature.at(0, config.steps),
        "lr": config.optimizer.lr,
        "lora": {"rank": lora.r, "alpha": lora.lora_alpha, "target_modules": sorted(lora.target_modules)},
        "prompts": [prompt.row.shown for prompt in prompts],
    }


def shape_of(policy: Policy) -> Shape:
    """The model's sizes, read from its architecture, since an engine may store the weights in another form."""
    config = policy.causal.config.get_text_config()
    heads = config.num_attention_heads
    blocks, head = linear_layers(policy)
    return Shape(
        blocks=sum(out * deep for out, deep in blocks),
        head=head[0] * head[1],
        lora=sum(weight.numel() for name, weight in policy.parameters().items() if "lora_" in name),
        layers=config.num_hidden_layers,
        width=heads * (getattr(config, "head_dim", None) or config.hidden_size // heads),
    )


def linear_layers(policy: Policy) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """(out, in) of every linear layer of the blocks, and of the output layer."""
    with torch.device("meta"):
        bare = AutoModelForCausalLM.from_config(policy.causal.config)
    output = bare.get_output_embeddings()
    layers = [layer for layer in bare.modules() if isinstance(layer, nn.Linear | Conv1D) and layer is not output]
    blocks = [tuple(layer.weight.shape if isinstance(layer, nn.Linear) else layer.weight.T.shape) for layer in layers]
    return blocks, tuple(output.weight.shape)


def matrices(policy: Policy) -> list[tuple[int, int]]:
    """(out, in) of the model's products: the layers of a block that share their input are one product."""
    blocks, head = linear_layers(policy)
    count = policy.causal.config.get_text_config().num_hidden_layers
    widths = sorted({deep for _, deep in blocks})
    return [*((sum(out for out, deep in blocks if deep == width) // count, width) for width in widths), head]


def synchronise() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main() -> int:
    """Answer requests until there are none."""
    parent, watch = Parent(), Timings()
    asked = parent.request()
    assert asked is not None
    try:
        with running(asked["overrides"], watch) as run:
            parent.answer(about(run, asked["steps"]))
            while (asked := parent.request()) is not None:
                answers: dict[str, Callable[[], dict[str, Any]]] = {
                    "step": lambda: take_step(run, watch),
                    "save": lambda: time_save(run),
                    "roofline": lambda: roofline(matrices(run.policy), run.policy.device),
                }
                parent.answer(answers[asked["do"]]())
    except UserError as error:
        print(f"error: {error.line()}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
