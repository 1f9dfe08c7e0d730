"""The final answer in a completion, as a text: what a majority votes on."""

from __future__ import annotations

from rlhf_cli.rewards.formulas import surest_part
from rlhf_cli.rewards.kinds import SingleSource
from rlhf_cli.rewards.kinds.exact_match import ExactMatch
from rlhf_cli.rewards.kinds.math import Math
from rlhf_cli.rewards.kinds.weighted import Weighted
from rlhf_cli.rewards.texts import compile_pattern, extract_answer


def answer_of(source: SingleSource | Weighted, text: str) -> str | None:
    """The answer that the reward extracts; None where there is none. Other rewards: the whole text.

    Answers are compared as texts, so 0.5 and 1/2 are two.
    """
    if isinstance(source, Math | ExactMatch) and source.extract is not None:
        answer = extract_answer(compile_pattern(source.extract), text)
        return None if answer is None else answer.strip()
    return surest_part(text).strip() if isinstance(source, Math) else text.strip()
