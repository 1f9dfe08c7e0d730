"""Completions of the reference, or of any policy, outside of a run, and their scores."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from rlhf_cli.engine import Engine
from rlhf_cli.engine.memory import room_for
from rlhf_cli.engine.reading import measure_distance, recompute_logprobs
from rlhf_cli.engine.reference import load_models
from rlhf_cli.errors import bad_data, bad_reward
from rlhf_cli.evaluation.sides import Answered, Side
from rlhf_cli.functional.sampling import Sampling
from rlhf_cli.models.policy import Policy
from rlhf_cli.pipeline.held_out import AT_ONCE, held_out_batch, prompts_at_once
from rlhf_cli.pipeline.scoring import group_scores, kept_prompts
from rlhf_cli.pipeline.signals import StopSignals
from rlhf_cli.pipeline.work import Work
from rlhf_cli.prompts.encoding import encode_held_out
from rlhf_cli.prompts.rows import Rows
from rlhf_cli.reporter import Reporter
from rlhf_cli.rewards.execution.scorer import Scorer, Scores
from rlhf_cli.schema import RunConfig
from rlhf_cli.seeding import seed_for
from rlhf_cli.types import Prompt, PromptBatch, PromptRow, Rollout, Tick


def reference_rewards(
    config: RunConfig, rows: Rows, samples: int, temperature: float, reporter: Reporter
) -> list[list[float]]:
    """Score `samples` completions of the reference for each held-out prompt; one list a prompt.

    The streams depend on seed, prompt and sample only. A prompt with a completion that has no score is left out. Raises
    UserError for prompts, models and settings that do not fit together, and for a reward that fails.
    """
    rewards: dict[int, list[float]] = {}
    left_out: set[int] = set()
    with Scorer(config.reward, rows.columns, log=None) as scorer:
        for (start, first), rollout in _rollouts(config, rows, samples, temperature, reporter):
            seed = seed_for(config.seed, "reward/oracle", start, first)
            scores = scorer.score(rollout, seed=seed, tick=lambda: None, where="oracle")
            reporter.note_all(scorer.take_notes())
            left_out |= {start + number for number in scores.left_out}
            for number, values in group_scores(scores, rollout).items():
                rewards.setdefault(start + number, []).extend(values)
    kept = [scores for prompt, scores in rewards.items() if prompt not in left_out]
    if not kept:
        raise bad_reward("every prompt has a completion that the reward has no score for", where="")
    if left_out:
        reporter.note(
            f"{len(left_out)} of {len(kept) + len(left_out)} prompts are left out, which the reward has no score for"
        )
    return kept


def reference_texts(
    config: RunConfig, rows: Rows, samples: int, temperature: float, reporter: Reporter, adapter: Path | None = None
) -> list[tuple[PromptRow, tuple[str, ...]]]:
    """`samples` completions of the reference for each held-out prompt; samples and raises as `reference_rewards`.

    With an `adapter`, a PEFT folder, the policy that has it writes them.
    """
    answers: dict[int, tuple[PromptRow, tuple[str, ...]]] = {}
    for (start, _), rollout in _rollouts(config, rows, samples, temperature, reporter, adapter):
        size = rollout.batch.samples_per_prompt
        for place, prompt in enumerate(rollout.batch.prompts):
            _, before = answers.get(start + place, (prompt.row, ()))
            answers[start + place] = prompt.row, (*before, *rollout.texts[place * size : (place + 1) * size])
    return list(answers.values())


def answer(
    config: RunConfig,
    adapter: Path | None,
    prompts: Sequence[Prompt],
    opened: tuple[Policy, Engine],
    sampling: Sampling,
    scorer: Scorer,
    reporter: Reporter,
) -> Side:
    """Let a policy answer the prompts, `evaluate.samples` times each, from the streams of a run's evaluations.

    The weights are those of `adapter`; None: the reference writes. Raises UserError where the reward fails.
    """
    policy, engine = opened
    reference = adapter is None
    if adapter is not None:
        policy.load_adapter(adapter)
    at_once = prompts_at_once(config)
    completions, parts = at_once * config.evaluate.samples, -(-len(prompts) // at_once)
    size = min(config.microbatch_size if isinstance(config.microbatch_size, int) else AT_ONCE, completions)
    found: dict[int, Answered] = {}
    who = "the reference answers" if reference else "the policy answers"
    work = Work(size, reporter, StopSignals())
    ticks = parts * (config.max_new_tokens + 2 * -(-completions // size))
    with work.phase(who, ticks) as tick, room_for(completions, "evaluate.samples"):
        for start in range(0, len(prompts), at_once):
            batch = held_out_batch(config, prompts, start)
            rollout = engine.sample(batch, sampling, tick, reference=reference)
            seed = seed_for(config.seed, "reward/held_out", start)
            scores = scorer.score(rollout, seed=seed, tick=lambda: None, where="rlhf eval")
            reporter.note_all(scorer.take_notes())
            kl = [0.0] * len(batch) if reference else _kl_at_one(rollout, engine, work, tick)
            found |= _answered(rollout, scores, kl, start, config)
    return found


def _kl_at_one(rollout: Rollout, engine: Engine, work: Work, tick: Tick) -> list[float]:
    """The exact KL at T = 1 of each completion's positions, however it was sampled."""
    sampled = replace(rollout, temperature=1.0, kept=None)
    plain, _ = work.fitting(lambda size: recompute_logprobs(sampled, engine, size, tick))
    kl: list[float] = work.fitting(lambda size: measure_distance(plain, engine, size, tick)).sequence_kl.tolist()
    return kl


def _answered(
    rollout: Rollout, scores: Scores, kl: Sequence[float], start: int, config: RunConfig
) -> dict[int, Answered]:
    """The prompts of a batch that have scores, by number."""
    samples, found = rollout.batch.samples_per_prompt, {}
    lengths, truncated = rollout.lengths.tolist(), rollout.truncated.tolist()
    for place, number in enumerate(kept_prompts(rollout, scores.left_out)):  # scores are of the kept prompts alone
        scored, rows = (slice(first, first + samples) for first in (place * samples, number * samples))
        texts = rollout.texts[rows]
        found[start + number] = Answered(
            rewards=() if config.reward.is_none else scores.values[scored],
            parts={name: part[scored] for name, part in scores.parts.items()},
            kl=kl[rows],
            lengths=lengths[rows],
            truncated=truncated[rows],
            texts=texts,
            answers=[*map(config.reward.source.answer, texts)],
        )
    return found


def _rollouts(
    config: RunConfig, rows: Rows, samples: int, temperature: float, reporter: Reporter, adapter: Path | None = None
) -> Iterator[tuple[tuple[int, int], Rollout]]:
    """Sample from the reference, or from the policy with the adapter.

    Yields rollouts, each with the numbers of its first prompt and first sample.
    """
    with reporter.phase("loading the model", 0):
        policy, engine = load_models(config, reporter.note)
        if adapter is not None:
            policy.load_adapter(adapter)
    prompts = encode_held_out(rows, policy.encoder, policy.context, config, reporter)
    if not prompts:
        raise bad_data("no held-out prompt is left", config.data.place(held_out=True), "raise data.max_prompt_tokens")
    at_once = config.prompts_per_step * max(config.samples_per_prompt, config.evaluate.samples)
    width = min(samples, at_once)  # samples of a prompt at once
    height = at_once // width  # prompts at once
    batches = -(-len(prompts) // height) * -(-samples // width)
    with reporter.phase(
        f"the {'reference' if adapter is None else 'policy'} writes", batches * config.max_new_tokens
    ) as tick:
        for start in range(0, len(prompts), height):
            numbers = range(start, min(start + height, len(prompts)))
            for first in range(0, samples, width):
                part = range(first, min(first + width, samples))
                seeds = tuple(seed_for(config.seed, "oracle", prompt, sample) for prompt in numbers for sample in part)
                batch = PromptBatch(tuple(prompts[prompt] for prompt in numbers), len(part), seeds)
                sampling = Sampling(config.max_new_tokens, temperature)
                yield (start, first), engine.sample(batch, sampling, tick, reference=adapter is None)
