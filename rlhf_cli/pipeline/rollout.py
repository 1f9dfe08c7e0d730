"""Draw a step's rollout: sample completions of the next prompts from the policy, and ask the reward for scores."""

from rlhf_cli.engine.memory import room_for
from rlhf_cli.functional.sampling import Sampling
from rlhf_cli.pipeline.run import Run, reusing_engine, truncation
from rlhf_cli.pipeline.scoring import ask, to_tensor
from rlhf_cli.prompts.dynamic import have_differences
from rlhf_cli.prompts.headroom import Headroom
from rlhf_cli.ranks.rollouts import join_rollouts
from rlhf_cli.rewards.execution.scorer import Scores, join_scores
from rlhf_cli.seeding import seed_for
from rlhf_cli.types import PromptBatch, Rollout


def draw(run: Run, temperature: float) -> tuple[Rollout, Scores]:
    """Sample completions of the step's prompts, and ask the reward for their scores.

    With prompts=dynamic also those of the prompts that follow, until `prompts_per_step` groups have different scores or
    `max_rollouts` are drawn; they are joined to one rollout.
    """
    config, rollouts, answers, differ = run.config, list[Rollout](), list[Scores](), 0
    most = config.max_rollouts if config.prompts == "dynamic" else 1
    while len(rollouts) < most and differ < config.prompts_per_step:
        seed = seed_for(config.seed, "reward", rollout_number(run, len(rollouts)))
        rollout = sample(run, temperature, len(rollouts))
        with run.work.phase("reward", 0):
            answer = ask(run, rollout, seed, f"step {run.state.step + 1}")
        differ += int(have_differences(to_tensor(answer.values, rollout), config.samples_per_prompt).sum())
        rollouts.append(rollout)
        answers.append(answer)
        run.unfinished.rollouts = len(rollouts)
    joined = join_rollouts(rollouts, run.policy.pad_token)
    run.unfinished.length = float(joined.lengths.double().mean())
    return joined, join_scores(answers, config.prompts_per_step)


def sample(run: Run, temperature: float, drawn: int = 0) -> Rollout:
    """Sample `samples_per_prompt` completions of each of the next prompts; the step has `drawn` rollouts already."""
    batch, limit = next_prompts(run, drawn), run.config.max_new_tokens
    ticks = limit * len(run.shards.own(len(batch.prompts)))
    with run.work.phase("rollout", ticks) as tick, room_for(len(batch), "samples_per_prompt"):
        sampling = Sampling(limit, temperature, truncation(run.config))
        # the forward pass of a step with several rollouts is not reused: the first one's is forgotten by the second
        remember = None if drawn or reusing_engine(run) is None else run.state.step
        return run.shards.sample(batch, sampling, tick, remember=remember)


def next_prompts(run: Run, drawn: int = 0) -> PromptBatch:
    """The prompts of the next rollout, and the seed of each sample; the step has `drawn` rollouts already."""
    config, number = run.config, rollout_number(run, drawn)
    count, draws = config.prompts_per_step, tuple[tuple[int, float], ...]()
    if config.prompts == "headroom":
        draws = (run.state.headroom or Headroom()).draw(run.prompts.parts, count, config.seed, number)
        prompts = run.prompts.numbered([number for number, _ in draws])
    else:
        prompts = run.prompts.of_step(number, count, config.seed)
    seeds = tuple(
        seed_for(config.seed, "rollout", number, prompt, sample)
        for prompt in range(len(prompts))
        for sample in range(config.samples_per_prompt)
    )
    return PromptBatch(prompts, config.samples_per_prompt, seeds, draws)


def rollout_number(run: Run, drawn: int) -> int:
    """The number, among all rollouts of the run, of the step's next one after `drawn`; its streams follow from it."""
    return (run.state.drawn if run.config.prompts == "dynamic" else run.state.step) + drawn
