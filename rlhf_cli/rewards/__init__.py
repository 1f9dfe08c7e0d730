"""Where scores come from; one source, one file.

sentiment   how positive a completion reads (VADER compound, -1 .. 1)
characters  the share of a completion's characters that belong to a given set (0 .. 1); cheap, for first looks and tests
length      how near a completion's length comes to a target (0 .. 1)
keyword     the share of given words that occur, less that of words to avoid (-1 .. 1)
regex       whether a pattern matches (0 or 1)
exact_match whether the answer is the one in a column of the data, as a text (0 or 1)
math        the same by value: numbers and LaTeX (0 .. 1); an extra
python      the user's own function, in a process of its own

A reward of ours is a frozen model: `kind` names it, its fields are its knobs, `score(prompts, completions)` returns one
float a completion, and `highest` is the highest score there is, `math.inf` where nobody knows.

judge       asks any of them, and knows what to do where one fails
failure     the settings of those that can
process     the function's process: started, asked with a deadline, killed
worker      what runs in there
texts       the text of a completion, and the answer a pattern finds in it
deadline    the time that one completion may take in there
"""

from typing import Annotated

from pydantic import Field

from rlhf_cli.rewards.characters import Characters
from rlhf_cli.rewards.exact_match import ExactMatch
from rlhf_cli.rewards.keyword import Keyword
from rlhf_cli.rewards.length import Length
from rlhf_cli.rewards.math import Math
from rlhf_cli.rewards.python import Python
from rlhf_cli.rewards.regex import Regex
from rlhf_cli.rewards.sentiment import Sentiment

Reward = Annotated[
    Sentiment | Characters | Length | Keyword | Regex | ExactMatch | Math | Python, Field(discriminator="kind")
]
