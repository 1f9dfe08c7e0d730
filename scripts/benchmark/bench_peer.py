"""The peer's side of scripts/bench: TRL's RLOOTrainer, which waits for the parent before each of its steps.

It runs in the peer's own environment (peer.txt). What is measured are the trainer's own methods, called by
itself; names with an underscore are its, of the version that is pinned.
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
    """Seconds, once a GPU has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


class Clock:
    """The seconds of a step's phases, and what the step worked on."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """A new step."""
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
        """The step, when it is over; what comes after the inputs are prepared is the update."""
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
    """The trainer, with a clock beside it."""

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
    """Begins a step when it is asked for, and answers when it is done."""

    def __init__(self, parent: Parent, clock: Clock) -> None:
        self.parent, self.clock = parent, clock

    def on_step_begin(self, *state: Any, **more: Any) -> None:
        """Wait."""
        if self.parent.request() is None:
            sys.exit()
        self.clock.begin()

    def on_step_end(self, *state: Any, **more: Any) -> None:
        """Answer."""
        self.parent.answer(self.clock.sample())


def sentiment(prompts: list[Any], completions: list[Any], **columns: Any) -> list[float]:
    """What reward=sentiment gives."""
    return [polarity_scores(completion[0]["content"])["compound"] for completion in completions]


def config_of(asked: dict[str, Any], folder: str) -> RLOOConfig:
    """The same step: as many prompts, completions and tokens, the same beta and temperature, one update."""
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
    """Train for as many steps as are asked for."""
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
