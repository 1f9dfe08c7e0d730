"""Score a rollout: join the reward's scores, the distance from the reference and the values of the value head."""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from rlhf_cli.algorithms.placement import Placement, penalty
from rlhf_cli.errors import EXIT_NONFINITE, EXIT_REWARD, UserError
from rlhf_cli.functional.mismatch import STOP_BELOW, WARN_BELOW, measure_mismatch
from rlhf_cli.functional.returns import equalise, token_rewards
from rlhf_cli.pipeline.run import Run, due, needs_reread, reusing_engine
from rlhf_cli.pipeline.skipping import Skip
from rlhf_cli.prompts.dynamic import choose
from rlhf_cli.ranks.rollouts import select_prompts
from rlhf_cli.rewards.execution.scorer import Scores
from rlhf_cli.rewards.shaping import Spread
from rlhf_cli.schema import RunConfig
from rlhf_cli.types import Distance, Rollout, Scored


def score(run: Run, rollout: Rollout, answer: Scores, beta: float) -> Scored:
    """Read the rollout with trainer, reference and value head, and join what they find to the reward's scores.

    Prompts that the reward cannot score are left out. Raises Skip where nothing is left to learn from, and UserError
    (exit 7) where sampler and trainer disagree too much.
    """
    config, work, step = run.config, run.work, run.state.step + 1
    asked, rollout = len(rollout.batch), drop_unscored(rollout, answer, config.algorithm.min_completions)
    note_failures(run, answer, asked, step)
    scores = to_tensor(answer.values, rollout)
    learnable, log_weights = select_learnable(config, rollout, scores), None
    if config.reward.truncated == "mask" and not bool(learnable.any()):
        raise Skip(
            "no group has enough completions that ended before max_new_tokens (reward.truncated=mask)",
            "raise max_new_tokens, or choose reward.truncated=penalty",
            EXIT_REWARD,
            failures=answer.failures,
        )
    if needs_reread(run.state):
        with work.phase("trainer", run.shards.passes(rollout.batch, work.microbatch_size)) as tick:
            sampled = rollout
            rollout, log_weights = work.fitting(lambda size: run.shards.recompute(sampled, size, tick))
        check_agreement(run, log_weights)
    with work.phase("reference", run.shards.passes(rollout.batch, work.microbatch_size)) as tick:
        options = {
            "exact": due(step, config.exact_kl_every, config.steps),
            "keep_hidden": config.kl == "exact",
            "slopes": reusing_engine(run) is not None,
        }
        distance = work.fitting(lambda size: run.shards.measure(rollout, size, tick, **options))
        needs_value = config.algorithm.needs_value
        values = work.fitting(lambda size: run.shards.values(rollout, size)) if needs_value else None
    return Scored(
        rollout=rollout,
        scores=scores,
        distance=distance,
        beta=beta,
        rewards=penalise(config, rollout, scores, learnable, distance, beta, run.state.spread),
        learnable=learnable,
        values=values,
        log_weights=log_weights,
        parts={name: to_tensor(part, rollout) for name, part in answer.parts.items()},
        failures=answer.failures,
    )


def penalise(
    config: RunConfig,
    rollout: Rollout,
    scores: Tensor,
    learnable: Tensor,
    distance: Distance,
    beta: float,
    spread: Spread,
) -> Tensor:
    """The rewards of tokens, float32 [B, T]: the scores, normalised where the run asks for it, less the KL penalty.

    `spread` is that of the scores before this step.
    """
    if config.reward.normalise:
        seen = spread.observe(scores[learnable].tolist())
        for size in (rollout.batch.samples_per_prompt, len(scores)):  # REINFORCE compares all of a batch
            scores = equalise(scores, size, learnable)
        scores = seen.normalise(scores)
    return token_rewards(scores, penalty(distance, config.kl), beta, rollout.completion_mask)


def ask(run: Run, rollout: Rollout, seed: int, where: str) -> Scores:
    """Ask the reward for scores; `where` is the step, for its errors."""
    answer = run.scorer.score(rollout, seed=seed, tick=run.work.signals.check, where=where)
    run.unfinished.retries += answer.retries
    run.work.reporter.note_all(run.scorer.take_notes())
    return answer


def note_failures(run: Run, answer: Scores, asked: int, step: int) -> None:
    """Note the step's first failure; `asked` is the number of completions that were to be scored."""
    if answer.failures and not run.unfinished.failure_noted:
        run.unfinished.failure_noted = True
        failed = f"{answer.failures} of {asked} completions have no usable score"
        run.work.reporter.note(f"step {step}: {failed}; the first: {answer.first_failure}")


def group_variances(scored: Scored, kl: Placement) -> list[tuple[int, float, float]]:
    """Each group's prompt, by the number it was drawn by, variance (over n - 1) of r - beta k1, and weight."""
    distance, batch = scored.distance, scored.rollout.batch
    returns = scored.returns + scored.beta * (penalty(distance, kl) - distance.kl).sum(1)
    variances = returns.double().view(-1, batch.samples_per_prompt).var(1).tolist()
    return [(number, variance, weight) for (number, weight), variance in zip(batch.draws, variances, strict=True)]


def to_tensor(values: Sequence[float], rollout: Rollout) -> Tensor:
    """The values as a float32 tensor on the rollout's device."""
    return torch.tensor(values, dtype=torch.float32, device=rollout.tokens.device)


def group_scores(scores: Scores, rollout: Rollout) -> dict[int, list[float]]:
    """The scores of each prompt that is not left out, by its number in the rollout, rounded to float32."""
    groups = to_tensor(scores.values, rollout).view(-1, rollout.batch.samples_per_prompt).tolist()
    return dict(zip(kept_prompts(rollout, scores.left_out), groups, strict=True))


def kept_prompts(rollout: Rollout, left_out: Collection[int]) -> list[int]:
    """The numbers of the prompts that are not left out."""
    return [number for number in range(len(rollout.batch.prompts)) if number not in left_out]


def drop_unscored(rollout: Rollout, scores: Scores, at_least: int = 1) -> Rollout:
    """The rollout without the prompts that are left out, as if they had not been in it.

    Raises Skip where fewer than `at_least` completions, one or two, have a score.
    """
    if len(scores.values) < at_least:
        alone = "one completion alone has a score, and the mean of one cancels it"
        raise Skip(
            f"{alone if scores.values else 'no prompt has a score for each of its completions'}; the first failure: "
            f"{scores.first_failure}",
            "mend the reward",
            EXIT_REWARD,
            failures=scores.failures,
        )
    return select_prompts(rollout, kept_prompts(rollout, scores.left_out))


def select_learnable(config: RunConfig, rollout: Rollout, scores: Tensor) -> Tensor:
    """Mask of the completions that enter the loss, bool [B]; it may be empty."""
    learnable = learnable_mask(rollout, config.reward.truncated, config.algorithm.min_group)
    if config.prompts == "dynamic":
        learnable = learnable & choose(scores, rollout.batch.samples_per_prompt, config.prompts_per_step)
    return learnable


def learnable_mask(rollout: Rollout, truncated: str, at_least: int) -> Tensor:
    """Mask of completions that enter the loss, bool [B].

    All of them; under truncated=mask those that ended by themselves (DAPO's overlong filtering, arXiv:2503.14476,
    section 3.4), in groups with `at_least` such completions.
    """
    if truncated != "mask":
        return torch.ones_like(rollout.truncated)
    ended = ~rollout.truncated
    groups = ended.view(-1, rollout.batch.samples_per_prompt)
    return (groups & (groups.sum(1, keepdim=True) >= at_least)).reshape(-1)


def check_agreement(run: Run, log_weights: Tensor) -> None:
    """Note that sampler and trainer disagree; raise UserError (exit 7) where too few samples are left."""
    mismatch = measure_mismatch(log_weights)
    text = (
        f"sampler and trainer disagree by up to {mismatch.gap:.3g} nats a completion: "
        f"{mismatch.effective_share:.0%} of the samples are left after weighting"
    )
    if mismatch.effective_share < STOP_BELOW:
        raise UserError(text, where="sampler", fix="dtype=float32", exit_code=EXIT_NONFINITE)
    if mismatch.effective_share < WARN_BELOW:
        run.work.reporter.note(f"step {run.state.step + 1}: {text}")
