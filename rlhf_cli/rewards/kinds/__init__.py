"""The rewards: one reward, one file.

sentiment    how positive a completion reads (VADER compound, -1 .. 1)
characters   the share of characters that belong to a given set (0 .. 1); cheap, for first looks and tests
length       how close a completion's length is to a target (0 .. 1)
keyword      the share of wanted words that occur, less that of words to avoid (-1 .. 1)
regex        whether a pattern matches (0 or 1)
exact_match  whether the answer equals the one in a column of the data, as a text (0 or 1)
math         whether the answer has the value of the one in a column, numbers and LaTeX (0 .. 1); an extra
python       the user's own function
model        a reward model: any sequence classification model of transformers
http         a JSON server
judge        a language model behind an OpenAI-compatible endpoint, by a rubric (0 .. 1)
none         no reward: 0, where the KL to another model is all that there is to learn from
weighted     a weighted sum of several

base         the base classes of all sources
answer       the base of exact_match and math: a right answer in a column of the data
endpoint     the settings that http and judge share

A source is a frozen model: `kind` names it, its fields are its knobs, and `highest` is the highest possible score.
A `PlainSource` has `score(prompts, completions)`; a source that may fail is an `IsolatedSource` (base.py).
"""

from typing import Annotated

from pydantic import Field

from rlhf_cli.rewards.kinds.characters import Characters
from rlhf_cli.rewards.kinds.exact_match import ExactMatch
from rlhf_cli.rewards.kinds.http import Http
from rlhf_cli.rewards.kinds.judge import JudgeReward
from rlhf_cli.rewards.kinds.keyword import Keyword
from rlhf_cli.rewards.kinds.length import Length
from rlhf_cli.rewards.kinds.math import Math
from rlhf_cli.rewards.kinds.model import Model
from rlhf_cli.rewards.kinds.none import NoReward
from rlhf_cli.rewards.kinds.python import Python
from rlhf_cli.rewards.kinds.regex import Regex
from rlhf_cli.rewards.kinds.sentiment import Sentiment

SingleSource = Annotated[
    Sentiment
    | Characters
    | Length
    | Keyword
    | Regex
    | ExactMatch
    | Math
    | Python
    | Model
    | Http
    | JudgeReward
    | NoReward,
    Field(discriminator="kind"),
]
"""Any source but a weighted sum."""
