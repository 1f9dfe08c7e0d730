"""A language model that judges by a rubric, behind an OpenAI-compatible endpoint: POST URL/chat/completions.

Each completion is a request of its own. The score is the last `Score: NUMBER` of the answer (or `"score": NUMBER`, or
the whole answer where it is a number), scaled to 0 .. 1; `8/10` is 8 where 10 is the best. An answer without a number,
or with one outside of the rubric's range, is no score (`on_error`), never 0. A completion can talk to its judge ("give
this a 10"), so the policy also learns how to persuade the judge; only the KL to the reference holds it back
(arXiv:2306.05685 lists more biases of judges).
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from rlhf_cli.data.template import column_names, parse_template
from rlhf_cli.rewards.kinds.base import Unanswered
from rlhf_cli.rewards.kinds.endpoint import Endpoint
from rlhf_cli.rewards.texts import text_of
from rlhf_cli.settings import IS_PROSE

PLACEHOLDERS: Final = ("prompt", "completion")
"""Names in a rubric that are no columns of the data."""
_NUMBER: Final = r"-?\d+(?:\.\d+)?"
_MARK: Final = rf"({_NUMBER})(?:\s?/\s?({_NUMBER}))?"
_SCORE: Final = re.compile(rf"score[^\w-]{{0,4}}[:=][^\w-]{{0,3}}{_MARK}(?!-|\s-\s?\d|\s?/|\d|\.\d)", re.IGNORECASE)
"""A number, perhaps with the highest one behind a stroke: `Score: 8/10`. It does not match `Score: 7-8`."""


def _with_completion(value: str) -> str:
    if "completion" not in column_names(value):
        raise ValueError("must hold {completion}")
    return value


class JudgeReward(Endpoint):
    """A language model as the judge."""

    factory: ClassVar[str] = "rlhf_cli.rewards.kinds.judge:make_score"
    highest: ClassVar[float] = 1.0
    fix_of_columns: ClassVar[str] = "name columns of the data in {key}.rubric"
    searched_settings: ClassVar[tuple[str, ...]] = ("rubric",)

    kind: Literal["judge"]
    model: str = Field(min_length=1)
    """The model's name at the endpoint."""
    rubric: Annotated[str, Field(min_length=1), AfterValidator(_with_completion), IS_PROSE]
    """The message to the model, with {prompt}, {completion} and columns of the data by their names in braces."""
    lowest: float = Field(allow_inf_nan=False)
    """The number that is scaled to 0."""
    best: float = Field(allow_inf_nan=False)
    """The number that is scaled to 1."""
    temperature: float = Field(ge=0, allow_inf_nan=False)
    """Sampling temperature of the judge; above 0 it contradicts itself more."""
    max_tokens: int = Field(ge=1)
    """Longest answer of the judge."""
    seed: int | None
    """For endpoints that can repeat an answer; null: none is sent."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.lowest >= self.best:
            raise ValueError(f"lowest must be below best (got {self.lowest:g} and {self.best:g})")
        return self

    @property
    def needs(self) -> tuple[str, ...]:
        """The columns that the rubric names."""
        return tuple(name for name in dict.fromkeys(column_names(self.rubric)) if name not in PLACEHOLDERS)


def make_score(**settings: Any) -> Callable[..., list[float | None]]:
    """Make a function that asks the model about each completion, and raises Unanswered where it gives no answer."""
    from rlhf_cli.rewards.http_client import Client

    own = JudgeReward.model_construct(**settings)
    client = Client(f"{own.url.rstrip('/')}/chat/completions", own)
    client.check_reachable()
    sampling: dict[str, Any] = {"model": own.model, "temperature": own.temperature, "max_tokens": own.max_tokens}
    sampling |= {} if own.seed is None else {"seed": own.seed}

    def score(prompts: Sequence[Any], completions: Sequence[Any], **columns: Sequence[Any]) -> list[float | None]:
        bodies = {}
        for row, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
            values = {name: column[row] for name, column in columns.items()}
            values |= {"prompt": _prompt_text(prompt), "completion": text_of(completion)}
            if (message := _fill(own.rubric, values)) is not None:
                bodies[row] = sampling | {"messages": [{"role": "user", "content": message}]}
        answers = dict(zip(bodies, client.ask([*bodies.values()]), strict=True))
        scores = {row: read_score(_content(answer), own.lowest, own.best) for row, answer in answers.items()}
        return [scores.get(row) for row in range(len(completions))]

    return score


def read_score(answer: str, lowest: float, best: float) -> float | None:
    """Read the score in an answer: 0 for `lowest` to 1 for `best`; None without a number in that range.

    None too for 4/5 where `best` is not 5: it is on another scale.
    """
    whole = answer.strip()
    marks = re.findall(f"^{_MARK}$", whole) or _SCORE.findall(whole) or [(math.nan, "")]
    number, scale = marks[-1]
    is_on_it = lowest <= float(number) <= best and (not scale or float(scale) == best)
    return (float(number) - lowest) / (best - lowest) if is_on_it else None


def _fill(rubric: str, values: Mapping[str, Any]) -> str | None:
    """The message to the model; None for a row that lacks a column of the rubric: the model would read "None" there."""
    if any(values[name] is None for name in column_names(rubric)):
        return None
    return "".join(literal + ("" if name is None else str(values[name])) for literal, name in parse_template(rubric))


def _content(answer: Any) -> str:
    """The text of a chat completion; empty where it was cut."""
    try:
        choice = answer["choices"][0]
        content, is_whole = choice["message"]["content"], choice.get("finish_reason") != "length"
    except (KeyError, IndexError, TypeError):
        raise Unanswered("answered with no chat completion") from None
    return content if isinstance(content, str) and is_whole else ""


def _prompt_text(prompt: Any) -> str:
    """A prompt as a text; a chat as its turns, each with its role."""
    return prompt if isinstance(prompt, str) else "\n\n".join(f"{turn['role']}: {_turn_text(turn)}" for turn in prompt)


def _turn_text(turn: Mapping[str, Any]) -> str:
    """The text of a turn; where other keys stand in its place, such as tool_calls, these."""
    others = {key: value for key, value in turn.items() if key not in ("role", "content")}
    return json.dumps(others, ensure_ascii=False) if turn["content"] is None else str(turn["content"])
