"""A language model as the judge, behind an OpenAI-compatible endpoint, by a rubric: POST URL/chat/completions.

Each completion is a request of its own. The score is the last `Score: NUMBER` of the answer (or `"score": NUMBER`, or
the whole answer where it is a number), taken to 0 .. 1; an answer without one, or outside of the rubric's range, is no
score (`on_error`), never 0. A completion can talk to its judge ("give this a 10"): what is learned from a judge is also
how to persuade it, and the KL to the reference is what holds against that (arXiv:2306.05685 has more of its biases).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from rlhf_cli.data.template import parse_template
from rlhf_cli.rewards.http_client import Client, Endpoint
from rlhf_cli.rewards.kinds.base import Unanswered
from rlhf_cli.rewards.texts import text_of

OWN: Final = ("prompt", "completion")
_NUMBER: Final = r"-?\d+(?:\.\d+)?"
_SCORE: Final = re.compile(rf"score[^\w-]{{0,4}}[:=][^\w-]{{0,3}}({_NUMBER})(?!\s?[-/\d]|\.\d)", re.IGNORECASE)
"""Not the 7 of `Score: 7-8`, nor the 4 of `Score: 4/5`, which is on another scale."""


def _template(value: str) -> str:
    names = {name for _, name in parse_template(value)}
    if "completion" not in names:
        raise ValueError("must hold {completion}")
    return value


class Rubric(Endpoint):
    """Scores from a language model."""

    target: ClassVar[str] = "rlhf_cli.rewards.kinds.judge:scorer"

    kind: Literal["judge"]
    model: str = Field(min_length=1)
    """What the endpoint calls the model."""
    rubric: Annotated[str, Field(min_length=1), AfterValidator(_template)]
    """What the model is told: {prompt}, {completion} and columns of the data by their names in braces."""
    lowest: float = Field(allow_inf_nan=False)
    """The number that becomes 0."""
    best: float = Field(allow_inf_nan=False)
    """The number that becomes 1."""
    temperature: float = Field(ge=0)
    """Of the judge; above 0 it contradicts itself more."""
    max_tokens: int = Field(ge=1)
    """Of its answer."""
    seed: int | None
    """For endpoints that can repeat themselves; null: none is sent."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.lowest >= self.best:
            raise ValueError(f"lowest must be below best (got {self.lowest:g} and {self.best:g})")
        return self

    @property
    def highest(self) -> float:
        """Of the best number."""
        return 1.0

    @property
    def needs(self) -> tuple[str, ...]:
        """The columns that the rubric names."""
        return tuple(dict.fromkeys(name for _, name in parse_template(self.rubric) if name and name not in OWN))

    def options(self) -> dict[str, Any]:
        """All that asking takes."""
        return {name: value for name, value in super().options().items() if name != "insecure"}


def scorer(
    url: str,
    *,
    model: str,
    rubric: str,
    lowest: float,
    best: float,
    temperature: float,
    max_tokens: int,
    seed: int | None,
    **how: Any,
) -> Callable[..., list[float | None]]:
    """A function that asks the model about each completion; raises Unanswered where the endpoint has no answer."""
    client = Client(f"{url.rstrip('/')}/chat/completions", **how)
    client.reach()
    said = {"model": model, "temperature": temperature, "max_tokens": max_tokens}
    said |= {} if seed is None else {"seed": seed}

    def score(prompts: Sequence[Any], completions: Sequence[Any], **columns: Sequence[Any]) -> list[float | None]:
        bodies = []
        for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
            values = {name: column[row] for name, column in columns.items()}
            values |= {"prompt": _shown(prompt), "completion": text_of(completion)}
            bodies.append(said | {"messages": [{"role": "user", "content": _filled(rubric, values)}]})
        return [read(_content(answer), lowest, best) for answer in client.ask(bodies)]

    return score


def read(answer: str, lowest: float, best: float) -> float | None:
    """The score in an answer, from 0 for `lowest` to 1 for `best`; None where there is none, or one outside of both."""
    whole = answer.strip()
    found = [whole] if re.fullmatch(_NUMBER, whole) else _SCORE.findall(whole)
    number = float(found[-1]) if found else math.nan
    return (number - lowest) / (best - lowest) if lowest <= number <= best else None


def _filled(rubric: str, values: Mapping[str, Any]) -> str:
    return "".join(literal + ("" if name is None else str(values[name])) for literal, name in parse_template(rubric))


def _content(answer: Any) -> str:
    try:
        choice = answer["choices"][0]
        content, whole = choice["message"]["content"], choice.get("finish_reason") != "length"
    except (KeyError, IndexError, TypeError):
        raise Unanswered("answered with no chat completion") from None
    return content if isinstance(content, str) and whole else ""


def _shown(prompt: Any) -> str:
    """A prompt as a text; of a chat the turns, each with its role."""
    return prompt if isinstance(prompt, str) else "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in prompt)
