"""Held-out evaluation: the same prompts, temperature and random streams every time, so that evaluations are paired."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, product
from typing import Any, Final

import torch
from torch import Tensor

from rlhf_cli.engine.memory import room_for
from rlhf_cli.errors import EXIT_NONFINITE, UserError, bad_reward
from rlhf_cli.evaluation.evaluation import TEMPERATURE, Completions, Evaluation, estimate_progress
from rlhf_cli.evaluation.optimum import LEAST, unknown
from rlhf_cli.functional.mismatch import TOLERANCE, measure_mismatch
from rlhf_cli.functional.sampling import Sampling
from rlhf_cli.pipeline.run import Run, current_beta, truncation
from rlhf_cli.pipeline.scoring import ask, group_scores, kept_prompts, note_failures
from rlhf_cli.plural import plural
from rlhf_cli.ranks.rollouts import select_prompts
from rlhf_cli.rewards.execution.scorer import Scores
from rlhf_cli.runs.binding import read_record
from rlhf_cli.runs.sharing import find_place, share
from rlhf_cli.schema import RunConfig
from rlhf_cli.seeding import seed_for
from rlhf_cli.types import Distance, Prompt, PromptBatch, Rollout, Tick

Columns = defaultdict[str, list[Any]]

AT_ONCE: Final = 64
"""Completions to sample at once. Up to about this number, twice as many take hardly longer."""
COMPARED: Final = 8
"""Completions of an evaluation that the trainer reads too, to see whether the sampler rounds as it does."""


@dataclass(slots=True)
class _Samples:
    """The completions of an evaluation, as columns: one list a prompt, one value a completion."""

    numbers: list[int] = field(default_factory=list)
    """The held-out prompts that have a score for every completion."""
    failures: int = 0
    """Completions without a usable score."""
    policy: Columns = field(default_factory=lambda: defaultdict(list))
    reference: Columns = field(default_factory=lambda: defaultdict(list))
    """Empty where the reference was not sampled."""


def evaluate(run: Run, step: int) -> Evaluation:
    """Sample every held-out prompt at temperature 1, score the completions, and compare them with the reference's.

    The streams depend on seed, prompt and sample, not on the step: the noise that two evaluations share cancels in
    their difference. The reference samples from the same streams, unless `why_no_optimum` has a reason; at step 0 the
    policy is the reference still, unless that is another model, and samples once for both. A prompt with a completion
    without a score is left out. Raises UserError (exit 4) where fewer than two prompts are left, and (exit 7) where a
    KL is not finite.
    """
    beta = current_beta(run, run.config.steps - 1)
    no_optimum = why_no_optimum(run.config, beta)
    is_reference = step == 0 and run.config.reference.kind == "initial"
    asks_reference = not is_reference and no_optimum is None
    samples = _sample_untouched(run) if is_reference else _sample_prompts(run, step, asks_reference=asks_reference)
    if len(samples.numbers) < 2:
        left = f"{len(samples.numbers)} of {len(run.held_out)} held-out prompts are left"
        what = f"{left}: {plural(samples.failures, 'completion')} without a score"
        raise bad_reward(what, fix="mend the reward, or choose reward.on_error=value")
    policy = samples.policy
    check_finite(policy, samples.reference, step)
    own = Completions(policy["reward"], policy["logprob"], policy["ref_logprob"])
    if no_optimum is not None:
        other, optimum = None, unknown(no_optimum)
    else:
        other = Completions(**samples.reference) if asks_reference else own
        optimum = estimate_progress(own, other, policy["kl"], beta, run.config.reward.highest)
    return Evaluation(step, beta, samples.numbers, samples.failures, **policy, reference=other, optimum=optimum)


def _sample_untouched(run: Run) -> _Samples:
    """The samples of the policy before its training; trials of a sweep that would have the same share them."""
    file = find_place(run.folder, run.config, read_record(run.folder))
    if file is None:
        return _sample_prompts(run, 0, is_reference=True)
    size = run.work.microbatch_size

    def make() -> tuple[dict[str, Any], bool]:
        samples = _sample_prompts(run, 0, is_reference=True)
        # a reward that failed may answer the next time, and without memory the microbatches got smaller
        is_kept = not samples.failures and run.work.microbatch_size == size
        return {"numbers": samples.numbers, "failures": samples.failures, "policy": dict(samples.policy)}, is_kept

    content, is_shared = share(file, make, run.work.signals.check)
    if is_shared:
        run.work.reporter.note("the evaluation of the untouched policy is that of another trial with the same settings")
    return _Samples(content["numbers"], content["failures"], defaultdict(list, content["policy"]))


def _sample_prompts(run: Run, step: int, *, asks_reference: bool = False, is_reference: bool = False) -> _Samples:
    """Sample and score the held-out prompts batch by batch, by the policy and, if asked, by the reference.

    `is_reference`: the policy is the reference still, so that its KL is 0.
    """
    config, work = run.config, run.work
    at_once = min(prompts_at_once(config), len(run.held_out))
    completions = at_once * config.evaluate.samples
    batches = -(-len(run.held_out) // at_once)
    own = len(run.shards.own(at_once))
    reads = run.shards.passes(held_out_batch(config, run.held_out, 0), work.microbatch_size)
    read_by, sampled_by = 2 if asks_reference else 1, 2 if asks_reference and not run.reference_samples else 1
    ticks = batches * (sampled_by * own * config.max_new_tokens + (0 if is_reference else read_by * reads))
    samples, sampler_differs = _Samples(), False
    with work.phase("evaluation", ticks) as tick, room_for(completions, "evaluate.samples"):
        for start in range(0, len(run.held_out), at_once):
            batch = held_out_batch(config, run.held_out, start)
            rollout = _sample(run, batch, tick)
            sampler_differs = sampler_differs or (start == 0 and _sampler_differs(run, rollout, tick))
            if sampler_differs:
                rollout, _ = _recompute(run, rollout, tick)
            scores = _score(run, rollout, start, step)
            distance = None if is_reference else _distance(run, rollout, tick)
            policy, reference = _policy_columns(rollout, distance, scores), {}
            left_out, samples.failures = scores.left_out, samples.failures + scores.failures
            if asks_reference:
                rollout = _sample_reference(run, start, batch, tick)
                if sampler_differs:
                    rollout, _ = _recompute(run, rollout, tick, reference=True)
                by_policy, _ = _recompute(run, rollout, tick)
                scores = _score(run, rollout, start, step)
                reference = _columns(
                    rollout, scores, logprob=by_policy.logprobs.sum(1), ref_logprob=rollout.logprobs.sum(1)
                )
                left_out, samples.failures = left_out | scores.left_out, samples.failures + scores.failures
            kept = kept_prompts(rollout, left_out)
            samples.numbers += [start + number for number in kept]
            for table, new in ((samples.policy, policy), (samples.reference, reference)):
                for name, groups in new.items():
                    table[name] += [groups[number] for number in kept]
    return samples


def _sampler_differs(run: Run, rollout: Rollout, tick: Tick) -> bool:
    """Whether the trainer reads other log-probabilities than were sampled, by the first completions of a batch."""
    few = range(min(len(rollout.batch.prompts), max(1, COMPARED // rollout.batch.samples_per_prompt)))
    _, log_weights = _recompute(run, select_prompts(rollout, few), tick)
    return measure_mismatch(log_weights).gap > TOLERANCE


def _policy_columns(rollout: Rollout, distance: Distance | None, scores: Scores) -> dict[str, Mapping[int, list[Any]]]:
    """The columns of a batch that the policy sampled; without a distance from the reference, it is the reference."""
    own, cut, texts = rollout.logprobs.sum(1), rollout.truncated, rollout.texts
    kl, other = torch.zeros_like(own), own
    if distance is not None:
        kl, other = distance.sequence_kl, distance.ref_logprobs.sum(1)
    figures: dict[str, Tensor | Sequence[str]] = {"kl": kl, "length": rollout.lengths, "truncated": cut, "texts": texts}
    return _columns(rollout, scores, **figures, logprob=own, ref_logprob=other)


def _columns(rollout: Rollout, scores: Scores, **figures: Tensor | Sequence[str]) -> dict[str, Mapping[int, list[Any]]]:
    """The scores and other figures [B] of a batch by name: a list for each prompt, by its number in the batch."""
    samples, columns = rollout.batch.samples_per_prompt, dict[str, Mapping[int, list[Any]]]()
    for name, values in figures.items():
        flat = values.tolist() if isinstance(values, Tensor) else list(values)
        columns[name] = dict(enumerate(flat[start : start + samples] for start in range(0, len(flat), samples)))
    return {"reward": group_scores(scores, rollout), **columns}


def check_finite(policy: Mapping[str, Sequence[Any]], reference: Mapping[str, Sequence[Any]], step: int) -> None:
    """Raise UserError (exit 7) where a KL or a log-probability of an evaluation is not finite: nor is its objective."""
    for name, table in (("kl", policy), *product(("logprob", "ref_logprob"), (policy, reference))):
        if not all(map(math.isfinite, chain.from_iterable(table.get(name, ())))):
            what = "KL" if name == "kl" else "log-probability"
            raise UserError(
                f"the {what} of a held-out completion is not finite after step {step}",
                where="evaluate",
                fix="lower it: optimizer.lr=... resume_allow=[optimizer.lr]" if step else "take dtype=float32",
                exit_code=EXIT_NONFINITE,
            )


def prompts_at_once(config: RunConfig) -> int:
    """Prompts in a batch of an evaluation: as many as in a step, or more for up to twice a step's completions."""
    prompts = config.prompts_per_step
    return max(prompts, min(AT_ONCE, 2 * prompts * config.samples_per_prompt) // config.evaluate.samples)


def why_no_optimum(config: RunConfig, beta: float) -> str | None:
    """The reason for which samples of the reference cannot show how far the last step's optimum is; None: they can."""
    temperature = config.temperature.at(config.steps - 1, config.steps)
    if config.reward.why_no_optimum:
        return config.reward.why_no_optimum
    if not beta:
        return "beta is 0"
    if temperature != TEMPERATURE:
        return f"trained at T = {temperature:g}, evaluated at {TEMPERATURE:g}"
    if truncation(config).is_active:
        return "trained on a truncated policy, evaluated on the whole"
    if config.evaluate.samples < LEAST:
        return f"needs at least {LEAST} samples a prompt (evaluate.samples={config.evaluate.samples})"
    return None


def held_out_batch(config: RunConfig, held_out: Sequence[Prompt], start: int) -> PromptBatch:
    """The held-out prompts from number `start` on, as many as are sampled at once, and the seed of each sample."""
    prompts, samples = tuple(held_out[start : start + prompts_at_once(config)]), config.evaluate.samples
    numbers = range(start, start + len(prompts))
    seeds = tuple(seed_for(config.seed, "eval", number, sample) for number in numbers for sample in range(samples))
    return PromptBatch(prompts, samples, seeds)


def _sample(run: Run, batch: PromptBatch, tick: Tick, *, reference: bool = False) -> Rollout:
    return run.shards.sample(batch, Sampling(run.config.max_new_tokens, TEMPERATURE), tick, reference=reference)


def _sample_reference(run: Run, start: int, batch: PromptBatch, tick: Tick) -> Rollout:
    """The reference's completions, the same at every evaluation: sampled by the first, kept without hidden states."""
    if start not in run.reference_samples:
        rollout = _sample(run, batch, tick, reference=True)
        no_states = rollout.hidden.new_zeros(*rollout.tokens.shape, 0)
        run.reference_samples[start] = replace(rollout, hidden=no_states)
    return run.reference_samples[start]


def _recompute(run: Run, rollout: Rollout, tick: Tick, *, reference: bool = False) -> tuple[Rollout, Tensor]:
    return run.work.fitting(lambda size: run.shards.recompute(rollout, size, tick, reference=reference))


def _distance(run: Run, rollout: Rollout, tick: Tick) -> Distance:
    return run.work.fitting(lambda size: run.shards.measure(rollout, size, tick))


def _score(run: Run, rollout: Rollout, start: int, step: int) -> Scores:
    scores = ask(run, rollout, seed_for(run.config.seed, "reward/held_out", start), f"step {step}, held-out")
    note_failures(run, scores, len(rollout.batch), step)
    return scores
