"""The hidden reward of a simulated annotator: of the pairs that it votes on, and of a policy's completions."""

from collections.abc import Sequence
from statistics import fmean

from rlhf_cli.errors import bad_reward
from rlhf_cli.evaluation.evaluation import Evaluation
from rlhf_cli.feedback.from_runs import make_row
from rlhf_cli.feedback.preference import Row
from rlhf_cli.prompts.rows import Rows
from rlhf_cli.rewards.execution.retrying import ScoreRequest
from rlhf_cli.rewards.execution.scorer import SourceScorer
from rlhf_cli.rounds.truth import Truth
from rlhf_cli.schema import RunConfig
from rlhf_cli.seeding import seed_for
from rlhf_cli.types import PromptRow


def plain_rows(answers: Sequence[tuple[PromptRow, tuple[str, ...]]]) -> list[Row]:
    """The pairs for people: nobody knows their rewards."""
    return [make_row(row.prompt, texts[0], texts[1], None) for row, texts in answers]


def scored_rows(config: RunConfig, rows: Rows, answers: Sequence[tuple[PromptRow, tuple[str, ...]]]) -> list[Row]:
    """The pairs with the hidden reward of both completions; pairs without a score are left out.

    Raises UserError (exit 4) where the reward fails, and where no pair is left.
    """
    scores = hidden_rewards(config, rows, answers, "feedback")
    pairs = zip(answers, scores, strict=True)
    found = [
        make_row(row.prompt, texts[0], texts[1], (own[0], own[1])) for (row, texts), own in pairs if own is not None
    ]
    if not found:
        raise bad_reward("the reward has no score for any pair")
    return found


def hidden_rewards(
    config: RunConfig, rows: Rows, answers: Sequence[tuple[PromptRow, Sequence[str]]], where: str
) -> list[tuple[float, ...] | None]:
    """The source's own scores of each prompt's completions, as many of each; None for a prompt that it cannot score."""
    width = len(answers[0][1])
    request = ScoreRequest(
        prompts=[row for row, texts in answers for _ in texts],
        completions=[text for _, texts in answers for text in texts],
        token_ids=None,
        seed=seed_for(config.seed, "feedback/reward"),
        tick=lambda: None,
        where=where,
    )
    with SourceScorer(config.reward.source, rows.columns, None) as scorer:
        scores = scorer.score_texts(request, width)
    values = iter(scores.values)
    return [
        None if number in scores.left_out else tuple(next(values) for _ in range(width))
        for number in range(len(answers))
    ]


def measure_truth(
    config: RunConfig, rows: Rows, held_out: Sequence[PromptRow], evaluations: Sequence[Evaluation]
) -> list[Truth]:
    """Score all evaluations with the hidden reward of `config`; `held_out` are the policy's prompts by number."""
    found = []
    for one in evaluations:
        answers = [(held_out[number], texts) for number, texts in zip(one.prompts, one.texts, strict=True)]
        scores = hidden_rewards(config, rows, answers, f"step {one.step}, the hidden reward")
        kept = [place for place, score in enumerate(scores) if score is not None]
        found.append(
            Truth(
                step=one.step,
                prompts=[one.prompts[place] for place in kept],
                kl=[fmean(one.kl[place]) for place in kept],
                proxy=[fmean(one.reward[place]) for place in kept],
                true=[fmean(score) for score in scores if score is not None],
            )
        )
    return found
