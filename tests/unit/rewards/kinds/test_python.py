"""The user's own function. Reward functions of the kinds that TRL documents run unchanged, without an import of TRL.

They follow "Using a custom reward function" in TRL's documentation of its GRPO trainer, versions 0.14 to 1.9.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from rlhf_cli.errors import UserError
from rlhf_cli.rewards.execution.retrying import ScoreRequest
from rlhf_cli.rewards.execution.scorer import Scores, SourceScorer
from rlhf_cli.types import Message, PromptRow
from tests.unit.rewards.support import limit, made

Asked = Callable[..., Scores]


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[Asked]:
    """`asked(code, texts, columns, chat=...)`: what `reward_func` in rewards.py says of texts, one a prompt."""
    with ExitStack() as stack:

        def ask(
            code: str,
            texts: Sequence[str],
            columns: Sequence[Mapping[str, Any]] = (),
            *,
            chat: bool = False,
            token_ids: Sequence[Sequence[int]] | None = None,
        ) -> Scores:
            (tmp_path / "rewards.py").write_text(textwrap.dedent(code))
            prompt = (Message("user", "Well?"),) if chat else "Well?"
            rows = [
                PromptRow(prompt, values, f"p.jsonl:{number}")
                for number, values in enumerate(columns or [{}] * len(texts), start=1)
            ]
            reward = made("python", function=f"{tmp_path}/rewards.py:reward_func", on_error="mask")
            names = {name for row in rows for name in row.columns}
            scorer = stack.enter_context(SourceScorer(reward, names, tmp_path / "reward.log"))
            return scorer.score_texts(ScoreRequest(rows, texts, token_ids, 0, lambda: None, "step 1"), 1)

        yield ask


def test_longer_completions_in_tokens(asked: Asked) -> None:
    code = """
        def reward_func(completion_ids, **kwargs):
            return [float(len(ids)) for ids in completion_ids]
    """
    assert asked(code, ["a b", "c"], token_ids=[[5, 6, 7], [8]]).values == (3.0, 1.0)


def test_longer_completions(asked: Asked) -> None:
    code = '''
        def reward_func(completions, **kwargs):
            """Longer, in characters, is better."""
            return [float(len(completion)) for completion in completions]
    '''
    assert asked(code, [" blue.", " in the sky."]).values == (6.0, 12.0)


@pytest.mark.parametrize("columns", [[], [{"source": "a", "level": 1}, {"source": "b", "level": 2}]])
def test_all_the_columns_go_into_kwargs(asked: Asked, columns: list[dict[str, Any]]) -> None:
    code = """
        def reward_func(prompts, completions, **kwargs):
            assert all(len(values) == len(prompts) for values in kwargs.values())
            return [float(len(kwargs)) for _ in completions]
    """
    expected = float(len(columns and columns[0]))
    assert asked(code, ["a", "b"], columns).values == (expected, expected)


def test_a_format_in_a_conversation(asked: Asked) -> None:
    code = r"""
        import re

        def reward_func(completions, **kwargs):
            pattern = r"^<think>.*?</think><answer>.*?</answer>$"
            contents = [completion[0]["content"] for completion in completions]
            return [1.0 if re.match(pattern, content) else 0.0 for content in contents]
    """
    texts = ["<think>1 + 2 is 3, times 4.</think><answer>12</answer>", "3 + 1 is 4, times 2, so 8."]
    assert asked(code, texts, chat=True).values == (1.0, 0.0)


BY_REFERENCE = r"""
    import re

    def reward_func(completions, ground_truth, **kwargs):
        matches = [re.search(r"\\boxed\{(.*?)\}", completion) for completion in completions]
        contents = [match.group(1) if match else "" for match in matches]
        return [1.0 if content == truth else 0.0 for content, truth in zip(contents, ground_truth)]
"""
BOXED = [r" The solution is \boxed{2}.", r" The solution is \boxed{6}.", " 5"]
TRUTHS = [{"ground_truth": "2"}, {"ground_truth": "5"}, {"ground_truth": "5"}]


def test_a_reference(asked: Asked) -> None:
    assert asked(BY_REFERENCE, BOXED, TRUTHS).values == (1.0, 0.0, 0.0)


def test_a_reference_that_the_data_lacks(asked: Asked) -> None:
    with pytest.raises(UserError, match=r"reward_func takes ground_truth, which the data does not have"):
        asked(BY_REFERENCE, BOXED, [{"answer": "2"}] * 3)


def test_a_task_of_many_has_none_for_those_of_the_others(asked: Asked) -> None:
    """Where it is the only reward, prompts of other tasks are left out of the step."""
    code = """
        def reward_func(prompts, completions, task, **kwargs):
            rewards = []
            for prompt, completion, t in zip(prompts, completions, task):
                rewards.append((1.0 if "4" in completion else -1.0) if t == "math" else None)
            return rewards
    """
    found = asked(code, ["4", "def f", "5"], [{"task": "math"}, {"task": "coding"}, {"task": "math"}])
    assert (found.left_out, found.values) == ({1}, (1.0, -1.0))
    assert found.failures == 1


def test_an_asynchronous_one(asked: Asked) -> None:
    code = """
        import asyncio

        async def reward_func(prompts, completions, **kwargs):
            await asyncio.sleep(0.001)
            return [1.0 if completion else 0.0 for completion in completions]
    """
    assert asked(code, ["text", ""]).values == (1.0, 0.0)


def test_one_that_logs_where_it_can(asked: Asked) -> None:
    """Where the hooks have a default, as TRL shows them."""
    code = """
        def reward_func(completions, ground_truth, log_extra=None, log_metric=None, **kwargs):
            rewards = [1.0 if truth in text else 0.0 for text, truth in zip(completions, ground_truth)]
            if log_extra:
                log_extra("golden_answer", list(ground_truth))
            if log_metric:
                log_metric("accuracy", sum(rewards) / len(rewards))
            return rewards
    """
    assert asked(code, BOXED, TRUTHS).values == (1.0, 0.0, 1.0)


@pytest.mark.parametrize("missing", ["completions_ids", "trainer_state", "log_metric"])
def test_what_needs_more_than_texts_is_missed_at_once_and_by_name(asked: Asked, missing: str) -> None:
    code = f"""
        def reward_func(completions, {missing}, **kwargs):
            return [float(len(completion)) for completion in completions]
    """
    with pytest.raises(UserError, match=f"reward_func takes {missing}, which the data does not have"):
        asked(code, ["a", "b"])


@pytest.mark.parametrize(("best", "highest"), [(2.5, 2.5), (None, math.inf)])
def test_the_highest_score_is_what_the_user_says(best: float | None, highest: float) -> None:
    assert made("python", function="r.py:f", best=best).highest == highest


@pytest.mark.parametrize("best", [math.inf, math.nan])
def test_the_highest_score_is_a_number_or_unknown(best: float) -> None:
    assert limit("python", function="r.py:f", best=best) == "finite_number"
    assert limit("http", url="https://scores.example/", best=best) == "finite_number"


def test_it_says_where_its_output_goes() -> None:
    reward = made("python", function="/some/where/r.py:f")
    runs = "reward: r.py:f runs in a process of its own; what it prints is"
    assert (reward.notice("reward.log"), reward.notice()) == (f"{runs} in reward.log", f"{runs} not kept")
