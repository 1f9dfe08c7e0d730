"""Runs in the making: what the tests of the stages work on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from rlhf_cli.data.order import PartSize
from rlhf_cli.engine.transformers import TransformersEngine
from rlhf_cli.models.policy import Policy
from rlhf_cli.pipeline.run import Run
from rlhf_cli.pipeline.saving import Saver
from rlhf_cli.pipeline.signals import StopSignals
from rlhf_cli.pipeline.work import Work
from rlhf_cli.prompts.encoding import Encoded
from rlhf_cli.rewards.execution.scorer import Scores
from rlhf_cli.runs.logbook import Logbook
from rlhf_cli.runs.sinks import Curves
from rlhf_cli.types import Rollout
from tests.unit.support import Recorder, batch_of, config_of

MakeRun = Callable[..., Run]
"""`run_of` in the test's folder; the run's files are closed after the test."""

TEXTS = ("Hello there", "a", "What is rain?", "xyz", "Name a colour.")


TARGET = {
    "kind": "target",
    "start": 0.05,
    "target": 3.0,
    "proportional": 1.0,
    "integral": 0.1,
    "lowest": 1e-4,
    "highest": 10.0,
}
"""A beta that follows the KL."""


def ppo_fields(**changes: Any) -> dict[str, Any]:
    """The fields of algorithm=ppo, as a YAML would give them."""
    fields = {"clip_range": 0.2, "vf_coef": 0.5, "value_clip_range": 0.2, "gamma": 1.0, "gae_lambda": 0.9}
    fields |= {"whiten": True, "aggregation": "token_mean", "epochs": 1, "minibatch_size": None}
    return {"kind": "ppo"} | fields | changes


class ScriptedScorer:
    """A scorer that answers by a function of the rollout, and remembers where it was asked and with which seed."""

    def __init__(self, answer: Callable[[Rollout], Scores]) -> None:
        self.answer = answer
        self.asked: list[tuple[str, int]] = []
        self.notes: list[str] = []

    def score(self, rollout: Rollout, *, seed: int, tick: Callable[[], None], where: str) -> Scores:
        """Answer."""
        self.asked.append((where, seed))
        return self.answer(rollout)

    def take_notes(self) -> list[str]:
        """The notes, once."""
        notes, self.notes = self.notes, []
        return notes


def by_length(rollout: Rollout) -> Scores:
    """A completion's score is its number of tokens."""
    return Scores(tuple(map(float, rollout.lengths.tolist())), frozenset(), {}, 0, 0, None)


def without(scores: Callable[[Rollout], Scores], *prompts: str) -> Callable[[Rollout], Scores]:
    """The same scores, but none for the completions of these prompts."""

    def answer(rollout: Rollout) -> Scores:
        left_out = frozenset(number for number, prompt in enumerate(rollout.batch.prompts) if prompt.text in prompts)
        whole, size = scores(rollout), rollout.batch.samples_per_prompt
        kept = tuple(value for row, value in enumerate(whole.values) if row // size not in left_out)
        failures = len(left_out) * size
        return replace(whole, values=kept, left_out=left_out, failures=failures, first_failure="f gave None")

    return answer


def run_of(
    policy: Policy,
    folder: Path,
    *,
    answer: Callable[[Rollout], Scores] = by_length,
    texts: Sequence[str] = TEXTS,
    microbatch_size: int = 3,
    **settings: Any,
) -> Run:
    """A run that has completed no step, by the library's engine; `texts` are its prompts and its held-out prompts.

    Its reporter is a Recorder, its scorer a ScriptedScorer.
    """
    folder.mkdir()
    config = config_of(microbatch_size=microbatch_size, **settings)
    reporter, scorer = Recorder(), ScriptedScorer(answer)
    prompts = batch_of(policy, texts).prompts
    return Run(
        config=config,
        folder=folder,
        policy=policy,
        engine=TransformersEngine(policy),
        optimizer=torch.optim.AdamW(policy.parameters().values(), lr=config.optimizer.lr),
        prompts=Encoded((PartSize("", 1.0, len(prompts)),), {(0, row): prompt for row, prompt in enumerate(prompts)}),
        held_out=prompts,
        saver=Saver(folder, config.checkpoint, reporter.note),
        scorer=scorer,  # type: ignore[arg-type]  # it answers what a run asks, and a Scorer would start processes
        logbook=Logbook(folder, Curves((), folder, 0, {}, reporter.note)),
        work=Work(microbatch_size, reporter, StopSignals()),
    )
