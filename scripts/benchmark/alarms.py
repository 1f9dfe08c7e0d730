#!/usr/bin/env python
"""Count the alarms of healthy runs and of broken ones: the tables of docs/doctor.md.

A run is a whole `rlhf train` of 30 steps with a tiny random model. Healthy runs differ in their model, reward,
algorithm, beta and learning rate, which their seed draws. A broken run is a healthy one with one fault. The limits of
the rules were chosen on the even seeds; the odd ones are for the table.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from rlhf_cli.config.jobs import compose_config
from rlhf_cli.errors import UserError
from rlhf_cli.evaluation.intervals import wilson
from rlhf_cli.health.alarms import Alarms, replay
from rlhf_cli.health.rules import RULES
from rlhf_cli.pipeline import loop, rollout
from rlhf_cli.pipeline.assemble import assemble
from rlhf_cli.pipeline.run import Run
from rlhf_cli.pipeline.signals import StopSignals
from rlhf_cli.prompts.rows import read_rows
from rlhf_cli.reporter import Reporter
from rlhf_cli.rewards.execution.scorer import Scorer
from rlhf_cli.runs.reading import read_evaluations, read_steps
from rlhf_cli.types import Advantages, Rollout

DONE = "done"
STOPS = ",".join(map(str, range(0, 256, 8)))
"""Bytes that end a completion, besides the end token: one token in eight of a random model."""
SMALL = (
    "config=tiny", "model.layers=1", "model.width=32", "model.lora.target_modules=[o_proj,down_proj]", "steps=30",
    "prompts_per_step=8", "samples_per_prompt=8", "max_new_tokens=16", f"model.stop=[{STOPS}]", "evaluate.every=15",
    "evaluate.prompts=8", "evaluate.samples=4", "checkpoint.every=1000", "checkpoint.keep_best=false", "log_samples=0",
    "sinks=[]", "optimizer.warmup_steps=0", "display=quiet", "threads=1", "device=cpu",
)  # fmt: skip
ALGORITHMS = ("rloo", "grpo", "reinforce", "dr_grpo")
REWARDS = ("abcdefghijklmnopqrstuvwxyz", "abcdefghijklm", "0123456789abcdefABCDEF", "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
FUNCTIONS = '''import zlib


def longer(prompts, completions):
    """More characters, more reward."""
    return [len(text) / 16 for text in completions]


def shorter(prompts, completions):
    """Fewer characters, more reward."""
    return [-len(text) / 16 for text in completions]


def constant(prompts, completions):
    """The same for all."""
    return [0.5 for _ in completions]


def rare(prompts, completions):
    """Hardly ever more than nothing."""
    return [float("zqzq" in text) for text in completions]


def repeated(prompts, completions):
    """How often the text has one letter."""
    return [text.count("a") / 16 for text in completions]


def noise(prompts, completions):
    """Nothing that could be learnt of a text."""
    return [zlib.crc32(text.encode()) / 2**32 for text in completions]


def opposite(prompts, completions):
    """Letters, but none where a prompt is held out."""
    share = [sum(c.islower() for c in text) / max(len(text), 1) for text in completions]
    return [-s if prompt.startswith("held") else s for prompt, s in zip(prompts, share)]
'''


@dataclass(frozen=True)
class Fault:
    """A way to break a run."""

    name: str
    fits: tuple[str, ...]
    """The rules that name it: one of them has to be found."""
    overrides: tuple[str, ...] = ()
    function: str = ""
    """A reward of FUNCTIONS."""
    inside: str = ""
    """What is broken in the code: `sign` of the advantages, sign of the `kl` in the reward, or `sampler`, whose
    log-probabilities are off."""
    lr: float = 1.0
    """Factor of the learning rate."""


TOO_LARGE, TOO_SMALL = ("lr too large",), ("lr too small",)
LENGTH, VARIANCE = ("length hacking", "truncation"), ("zero-variance groups",)
SURE = ("model.width=128", "steps=60")
"""The logits of a model of width 32 are too small for a text to be sure; and some faults take more steps."""
FAULTS = (
    Fault("lr 0.9, RLOO", TOO_LARGE, ("algorithm=rloo",), lr=30),
    Fault("lr 0.9, GRPO", TOO_LARGE, ("algorithm=grpo",), lr=30),
    Fault("lr 0.9, PPO", TOO_LARGE, ("algorithm=ppo",), lr=30),
    Fault("lr / 1000, RLOO", TOO_SMALL, ("algorithm=rloo",), lr=1e-3),
    Fault("lr / 1000, PPO", TOO_SMALL, ("algorithm=ppo",), lr=1e-3),
    Fault("lr / 100", TOO_SMALL, lr=1e-2),
    Fault(
        "beta 0, one letter pays",
        ("KL runaway", "entropy collapse", "repetition"),
        ("beta=0", "model.stop=[]", *SURE),
        "repeated",
        lr=2,
    ),
    Fault("wrong sign of the KL", ("KL runaway", "lr too large"), ("beta=5", *SURE), inside="kl", lr=2),
    Fault("reward pays length", LENGTH, (), "longer"),
    Fault("reward pays length, beta 0", LENGTH, ("beta=0",), "longer"),
    Fault("reward pays brevity", LENGTH, ("model.width=128",), "shorter", lr=2),
    Fault("reward pays repetition", ("repetition",), ("model.stop=[]", "beta=0.001", *SURE), "repeated", lr=2),
    Fault("constant reward", VARIANCE, (), "constant"),
    Fault("reward nearly never", VARIANCE, (), "rare"),
    Fault("max_new_tokens 4 of 256", ("truncation",), ("max_new_tokens=4", "model.stop=[]")),
    Fault("temperature 0.02", ("entropy collapse", "zero-variance groups"), ("temperature=0.02",)),
    Fault("reward is noise", ("nothing learnt",), (), "noise"),
    Fault("wrong sign of the advantages", ("nothing learnt",), inside="sign"),
    Fault("sampler off by 0.6 nats", ("sampler and trainer part",), inside="sampler"),
    Fault(
        "held-out prompts pay the opposite", ("reward and held-out part",), ("evaluate.prompts=32",), "opposite", lr=2
    ),
)


def draw(seed: int) -> list[str]:
    """The overrides of the healthy run of this seed."""
    of = random.Random(seed)
    return [
        *SMALL,
        f"seed={seed}",
        f"model.seed={seed}",
        f"algorithm={of.choice(ALGORITHMS)}",
        f"reward.characters={of.choice(REWARDS)!r}",
        f"beta={of.choice((0.01, 0.02, 0.05))}",
        f"optimizer.lr={of.choice((0.02, 0.03, 0.04))}",
    ]


def damage(overrides: list[str], fault: Fault, files: Path) -> list[str]:
    """The overrides of a broken run; `files` holds rewards and prompts."""
    lr = 0.03 * fault.lr
    changed = [*overrides[:-1], f"optimizer.lr={lr}", *fault.overrides]
    if fault.function:
        changed = [word for word in changed if not word.startswith("reward.")]
        changed += ["reward=python", f"reward.function='{files}/faults.py:{fault.function}'"]
    if fault.function == "opposite":
        changed += [f"data.path='{files}/train.jsonl'", f"data.eval_path='{files}/held.jsonl'"]
    # the last of several values of a key counts, as hydra refuses two
    return list({word.partition("=")[0]: word for word in changed}.values())


def write_files(files: Path) -> None:
    """The rewards, and prompts that a reward can tell apart."""
    (files / "faults.py").write_text(FUNCTIONS)
    for name, count in (("train", 20), ("held", 32)):
        rows = [json.dumps({"prompt": f"{name} {number}"}) for number in range(count)]
        (files / f"{name}.jsonl").write_text("\n".join(rows) + "\n")


def train(overrides: list[str], inside: str, folder: Path) -> None:
    """Train in the folder, unless that was done before; a run that ends by an error counts as far as it came."""
    if (folder / DONE).exists():
        return
    config = compose_config(overrides)
    rows = read_rows(config)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        scorer = stack.enter_context(Scorer(config.reward, rows.columns, log=None))
        if inside == "sign":
            stack.enter_context(patch.object(loop, "update", _climb_down))
        if inside == "kl":
            stack.enter_context(patch.object(loop, "current_beta", lambda run, step: -_current_beta(run, step)))
        if inside == "sampler":
            stack.enter_context(patch.object(rollout, "sample", _sample_off))
        run = assemble(config, rows, folder, scorer, Reporter(), StopSignals(), None)
        try:
            loop.train(run)
        except UserError as error:
            print(f"{folder.name} ended at step {run.state.step}: {error.what}", flush=True)
    (folder / DONE).touch()


_update, _sample, _current_beta = loop.update, rollout.sample, loop.current_beta


def _climb_down(run: Run, advantages: Advantages) -> dict[str, float]:
    return _update(run, replace(advantages, advantages=-advantages.advantages))


def _sample_off(run: Run, temperature: float, drawn: int = 0) -> Rollout:
    """Add a normal error of 0.6 nats to the log-probability of every first token."""
    sampled = _sample(run, temperature, drawn)
    generator = torch.Generator().manual_seed(run.state.step)
    logprobs = sampled.logprobs.clone()
    logprobs[:, 0] += 0.6 * torch.randn(len(logprobs), generator=generator)
    return replace(sampled, logprobs=logprobs)


def examine(folder: Path) -> Alarms:
    """The alarms of a run."""
    config: Mapping[str, Any] = json.loads((folder / "config.json").read_text())
    return replay(read_steps(folder), read_evaluations(folder), config)


def report_healthy(folders: Mapping[int, Path]) -> Iterator[str]:
    """The table of false alarms."""
    yield "| rule | even seeds (the limits were chosen on them) | odd seeds |"
    yield "|---|---|---|"
    names = {seed: {finding.rule for finding in examine(folder).findings()} for seed, folder in folders.items()}
    for seed, found in names.items():
        for finding in examine(folders[seed]).findings() if found else ():
            print(f"seed {seed}: {finding.line()}")
    halves = [[found for seed, found in names.items() if seed % 2 == odd] for odd in (0, 1)]
    for rule in (*RULES, "any"):
        counts = [sum(bool(found) if rule == "any" else rule in found for found in half) for half in halves]
        cells = [f"{count} of {len(half)}" for count, half in zip(counts, halves, strict=True)]
        if rule == "any":
            shares = [wilson(c / max(len(h), 1), len(h)) for c, h in zip(counts, halves, strict=True)]
            cells = [f"{cell} ({share.low:.1%} to {share.high:.1%})" for cell, share in zip(cells, shares, strict=True)]
        yield f"| {rule} | {' | '.join(cells)} |"


def report_faults(folders: Mapping[str, list[Path]]) -> Iterator[str]:
    """The table of planted faults."""
    yield "| fault | found | by the rule that fits | first at step | rules |"
    yield "|---|---|---|---|---|"
    total: Counter[str] = Counter()
    for fault in FAULTS:
        runs = [examine(folder).findings() for folder in folders[fault.name]]
        right = [[finding for finding in findings if finding.rule in fault.fits] for findings in runs]
        first = [str(min(finding.step for finding in findings)) for findings in right if findings]
        others = Counter(rule for findings in runs for rule in {finding.rule for finding in findings})
        total.update(found=sum(map(bool, runs)), right=sum(map(bool, right)), runs=len(runs))
        cells = [fault.name, f"{sum(map(bool, runs))} of {len(runs)}", str(sum(map(bool, right))), ", ".join(first)]
        yield f"| {' | '.join(cells)} | {', '.join(f'{rule} ({count})' for rule, count in others.most_common())} |"
    yield f"| all | {total['found']} of {total['runs']} | {total['right']} | | |"


def main() -> None:
    """Train what is missing, and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the runs are kept")
    parser.add_argument("--healthy", type=int, default=200, help="healthy runs")
    parser.add_argument("--first", type=int, default=0, help="the first seed of healthy runs")
    parser.add_argument("--repeats", type=int, default=1, help="runs of each fault")
    options = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    options.folder.mkdir(parents=True, exist_ok=True)
    folder = options.folder.absolute()
    write_files(folder)
    healthy = {seed: folder / f"healthy-{seed}" for seed in range(options.first, options.first + options.healthy)}
    for seed, run in healthy.items():
        train(draw(seed), "", run)
    broken: dict[str, list[Path]] = {fault.name: [] for fault in FAULTS}
    for number, fault in enumerate(FAULTS):
        for repeat in range(options.repeats):
            run = folder / f"fault-{number}-{repeat}"
            train(damage(draw(1000 + repeat), fault, folder), fault.inside, run)
            broken[fault.name].append(run)
    print("\n".join([*report_healthy(healthy), "", *report_faults(broken)]))
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(f"\n{sum(use.ru_utime + use.ru_stime for use in used) / 60:.1f} CPU minutes")


if __name__ == "__main__":
    main()
