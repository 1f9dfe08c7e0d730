"""Every source of scores: what a reward is, and what a weighted one is made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from rlhf_cli.rewards.characters import Characters
from rlhf_cli.rewards.exact_match import ExactMatch
from rlhf_cli.rewards.http import Http
from rlhf_cli.rewards.keyword import Keyword
from rlhf_cli.rewards.length import Length
from rlhf_cli.rewards.math import Math
from rlhf_cli.rewards.model import Model
from rlhf_cli.rewards.python import Python
from rlhf_cli.rewards.regex import Regex
from rlhf_cli.rewards.rubric import Rubric
from rlhf_cli.rewards.sentiment import Sentiment

Part = Annotated[
    Sentiment | Characters | Length | Keyword | Regex | ExactMatch | Math | Model | Python | Http | Rubric,
    Field(discriminator="kind"),
]
