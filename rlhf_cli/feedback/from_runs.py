"""The pairs of a run: its policy's held-out completions against the reference's, or against another run's policy.

They are on disk already, in evaluations.jsonl. The reference's are those of step 0, where the policy is the reference.
A prompt gives one pair, so that pairs are independent, and the second text is another sample than the first where there
are several: two texts of one random stream would be alike more often than those of two models are.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rlhf_cli.errors import bad_data
from rlhf_cli.evaluation.evaluation import Evaluation
from rlhf_cli.feedback.preference import Row, Turn, chat_text, keep_turns
from rlhf_cli.runs.binding import last_change
from rlhf_cli.runs.folder import CONFIG, EVALUATIONS, FEEDBACK
from rlhf_cli.runs.json_files import read_object
from rlhf_cli.runs.reading import read_first_and_last
from rlhf_cli.types import Message, PromptRow

_UNFIT: Final = re.compile(r"[^\w.-]+")
_NAME: Final = re.compile(r"step-(\d{8})(?:-over-(\d{8})|-against-(.+)-step-(\d{8}))?-[0-9a-f]{8}")


def last_evaluation(run: Path) -> Evaluation:
    """The newest evaluation of the run's policy; raises UserError (exit 3) where there is none."""
    return _evaluations(run)[1]


def _evaluations(run: Path) -> tuple[Evaluation, Evaluation]:
    first, last = read_first_and_last(run, ("data",))  # texts are compared, whatever scores them
    if first is None or last is None:
        missing = "the reference's (step 0)" if first is None else "the policy's"
        what = f"no held-out completions to compare: {EVALUATIONS} lacks {missing}"
        raise bad_data(what, run, "train with evaluate.every=8, say; or label a file of pairs")
    return first, last


def pairs_file(runs: Sequence[Path]) -> Path:
    """The file of the pairs of a run, or of two; its name follows from the evaluations that are compared.

    Raises UserError (exit 3) where a run has no completions.
    """
    first, last = _evaluations(runs[0])
    if len(runs) == 1:
        name = name_of(last, first)
    else:
        other = last_evaluation(runs[1])
        name = _named(f"-against-{_UNFIT.sub('_', runs[1].name)}-step-{other.step:08d}", last, other)
    return runs[0] / FEEDBACK / f"{name}.jsonl"


def name_of(policy: Evaluation, other: Evaluation) -> str:
    """The name, without its ending, of the file of a run's own pairs: `other` is of step 0 (the reference) or later."""
    return _named(f"-over-{other.step:08d}" if other.step else "", policy, other)


def _named(against: str, policy: Evaluation, other: Evaluation) -> str:
    texts = [[one.prompts, one.texts] for one in (policy, other)]
    digest = hashlib.sha256(json.dumps(texts).encode()).hexdigest()
    return f"step-{policy.step:08d}{against}-{digest[:8]}"


def labelled_files(run: Path) -> list[Path]:
    """The files of pairs that were made of a run, by step."""
    return sorted(file for file in (run / FEEDBACK).glob("*.jsonl") if _NAME.fullmatch(file.stem))


def step_of(file: Path) -> int:
    """The step of the policy whose completions such a file holds."""
    match = _NAME.fullmatch(file.stem)
    assert match is not None
    return int(match[1])


def titles_of(file: Path) -> tuple[str, str]:
    """Names of the two sides of such a file, read from its own name."""
    match = _NAME.fullmatch(file.stem)
    assert match is not None
    step, earlier, run, of_run = match.groups()
    if earlier:
        return f"policy (step {int(step)})", f"policy (step {int(earlier)})"
    return f"policy (step {int(step)})", f"{run} (step {int(of_run)})" if run else "reference"


def titles(runs: Sequence[Path]) -> tuple[str, str]:
    """Names of the two sides."""
    if len(runs) == 1:
        return f"policy (step {last_evaluation(runs[0]).step})", "reference"
    first, second = (f"{run.name} (step {last_evaluation(run).step})" for run in runs)
    return first, second


def rows_of_run(run: Path, prompts: Sequence[PromptRow]) -> list[Row]:
    """The policy against the reference on every held-out prompt that both have scores for."""
    first, last = _evaluations(run)
    return rows_of_evaluations(last, first, prompts, run)


def rows_of_evaluations(policy: Evaluation, other: Evaluation, prompts: Sequence[PromptRow], run: Path) -> list[Row]:
    """The policy of one evaluation of a run against that of another; raises UserError without a prompt in both.

    Rewards are kept where no change of the reward lies between the two.
    """
    same_reward = min(policy.step, other.step) > last_change(run, ("reward",))
    return _rows(policy, prompts, other, prompts, same_reward=same_reward, where=run)


def rows_of_two(runs: Sequence[Path], prompts: Sequence[Sequence[PromptRow]]) -> list[Row]:
    """The policy of one run against that of the other, on the held-out prompts that both have.

    Their rewards are kept where both runs have the same one.
    """
    rewards = [read_object(run / CONFIG).get("reward") for run in runs]
    first, second = map(last_evaluation, runs)
    same_reward = rewards[0] == rewards[1] and rewards[0] is not None
    return _rows(first, prompts[0], second, prompts[1], same_reward=same_reward, where=runs[1])


def make_row(prompt: str | tuple[Message, ...], a: str, b: str, rewards: tuple[float, float] | None) -> Row:
    """The row of a prompt and two completions."""
    return Row(_text(prompt), a, b, rewards, _turns(prompt))


def _text(prompt: str | tuple[Message, ...]) -> str:
    return prompt if isinstance(prompt, str) else chat_text([(turn.role, _content(turn)) for turn in prompt])


def _content(turn: Message) -> str:
    return turn.content if turn.content is not None else turn.more


def _turns(prompt: str | tuple[Message, ...]) -> tuple[Turn, ...]:
    """The messages, where their roles and contents are all of the prompt."""
    if isinstance(prompt, str) or any(turn.more for turn in prompt):
        return ()
    return keep_turns([(turn.role, _content(turn)) for turn in prompt])


def _rows(
    a: Evaluation,
    prompts_a: Sequence[PromptRow],
    b: Evaluation,
    prompts_b: Sequence[PromptRow],
    *,
    same_reward: bool,
    where: Path,
) -> list[Row]:
    place_of = {_text(prompts_b[number].prompt): place for place, number in reversed(list(enumerate(b.prompts)))}
    rows = []
    for place, number in enumerate(a.prompts):
        prompt = prompts_a[number].prompt
        if (other := place_of.get(_text(prompt))) is None:
            continue
        sample = min(1, len(b.texts[other]) - 1)
        rewards = (a.reward[place][0], b.reward[other][sample]) if same_reward else None
        rows.append(make_row(prompt, a.texts[place][0], b.texts[other][sample], rewards))
    if not rows:
        what = "they have no held-out prompt in common"
        raise bad_data(what, where, "label runs of the same data and evaluate.prompts")
    return rows
