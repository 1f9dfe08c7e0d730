"""The peer's side of scripts/bench: TRL's RLOOTrainer, which waits for a request before each step.

It runs in an environment of its own (peer.txt). The clock measures the trainer's own methods, as the trainer calls
them; names with an underscore are TRL's, of the pinned version.
"""

from __future__ import annotations

import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import torch
import transformers
from bench_lines import Parent, peak_memory
from datasets import Dataset, disable_progress_bars
from peft import LoraConfig
from trl import RLOOConfig, RLOOTrainer
from vader import polarity_scores


def now() -> float:
    """The time in seconds, after the GPU has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


class Clock:
    """The seconds of each phase of a step, and the sizes of its work."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Begin a new step."""
        self.seconds: dict[str, float] = {}
        self.prompts: list[int] = []
        self.tokens = 0
        self.start = now()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add to the phase's seconds."""
        start = now()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + now() - start

    def sample(self) -> dict[str, Any]:
        """The figures of the step at its end; all time after the preparation of the inputs is the update."""
        total = now() - self.start
        prepared = self.seconds.pop("prepare")
        phases = self.seconds | {"update": total - prepared, "other": prepared - sum(self.seconds.values())}
        return {
            "seconds": phases | {"step": total},
            "prompts": self.prompts,
            "tokens": self.tokens,
            "memory": peak_memory(),
        }


class Timed(RLOOTrainer):
    """The trainer, with a clock on its phases."""

    clock = Clock()

    def _prepare_inputs(self, *inputs: Any) -> Any:
        with self.clock.phase("prepare"):
            return super()._prepare_inputs(*inputs)

    def _generate_single_turn(self, prompt_ids: Any, *others: Any) -> Any:
        with self.clock.phase("rollout"):
            completions = super()._generate_single_turn(prompt_ids, *others)
        self.clock.prompts = [len(ids) for ids in prompt_ids[:: self.num_generations]]
        self.clock.tokens = sum(map(len, completions))
        return completions

    def _get_per_token_logps_and_entropies(self, *inputs: Any, **options: Any) -> Any:
        if torch.is_grad_enabled():  # a part of the update; without a gradient the policy comes first
            return super()._get_per_token_logps_and_entropies(*inputs, **options)
        with self.clock.phase("reference" if "trainer" in self.clock.seconds else "trainer"):
            return super()._get_per_token_logps_and_entropies(*inputs, **options)

    def _calculate_rewards(self, *inputs: Any) -> Any:
        with self.clock.phase("reward"):
            return super()._calculate_rewards(*inputs)


class OnRequest(transformers.TrainerCallback):
    """Begin a step on request, and answer at its end."""

    def __init__(self, parent: Parent, clock: Clock) -> None:
        self.parent, self.clock = parent, clock

    def on_step_begin(self, *state: Any, **more: Any) -> None:
        """Wait for the request."""
        if self.parent.request() is None:
            sys.exit()
        self.clock.begin()

    def on_step_end(self, *state: Any, **more: Any) -> None:
        """Answer with the figures of the step."""
        self.parent.answer(self.clock.sample())


def sentiment(prompts: list[Any], completions: list[Any], **columns: Any) -> list[float]:
    """The scores of reward=sentiment."""
    return [polarity_scores(completion[0]["content"])["compound"] for completion in completions]


def config_of(asked: dict[str, Any], folder: str) -> RLOOConfig:
    """The config of the same step: the same sizes, beta and temperature, and one update."""
    completions, batch = asked["prompts_per_step"] * asked["group"], asked["batch"]
    return RLOOConfig(
        output_dir=folder,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=completions // batch,
        num_generations=asked["group"],
        max_completion_length=asked["new_tokens"],
        generation_kwargs={"min_new_tokens": asked["new_tokens"]},
        temperature=asked["temperature"],
        beta=asked["beta"],
        num_iterations=1,
        learning_rate=asked["lr"],
        lr_scheduler_type="constant",
        max_steps=asked["steps"],
        shuffle_dataset=False,
        bf16=asked["dtype"] == "bfloat16",
        use_cpu=asked["device"] == "cpu",
        gradient_checkpointing=False,  # its default is slower
        dataloader_pin_memory=False,
        model_init_kwargs={"dtype": asked["dtype"]},
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )


def main() -> None:
    """Take one training step for each request."""
    parent = Parent()
    asked = parent.request()
    assert asked is not None
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    disable_progress_bars()
    with tempfile.TemporaryDirectory(prefix="bench-peer-") as folder:
        trainer = Timed(
            model=asked["model"],
            reward_funcs=sentiment,
            args=config_of(asked, folder),
            train_dataset=Dataset.from_list(
                [{"prompt": [{"role": "user", "content": prompt}]} for prompt in asked["prompts"]]
            ),
            peft_config=LoraConfig(
                r=asked["lora"]["rank"],
                lora_alpha=asked["lora"]["alpha"],
                target_modules=asked["lora"]["target_modules"],
                task_type="CAUSAL_LM",
            ),
            callbacks=[OnRequest(parent, Timed.clock)],
        )
        trainer.remove_callback(transformers.PrinterCallback)
        parent.answer(
            {
                "versions": {name: version(name) for name in ("trl", "torch", "transformers", "peft")},
                "threads": torch.get_num_threads(),
            }
        )
        trainer.train()


if __name__ == "__main__":
    main()
