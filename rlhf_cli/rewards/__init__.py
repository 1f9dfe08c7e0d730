"""Where scores come from; one source, one file.

sentiment   how positive a completion reads (VADER compound, -1 .. 1)
characters  the share of a completion's characters that belong to a given set (0 .. 1); cheap, for first looks and tests
length      how near a completion's length comes to a target (0 .. 1)
keyword     the share of given words that occur, less that of words to avoid (-1 .. 1)
regex       whether a pattern matches (0 or 1)
exact_match whether the answer is the one in a column of the data, as a text (0 or 1)
math        the same by value: numbers and LaTeX (0 .. 1); an extra
python      the user's own function, in a process of its own
model       a reward model: any sequence classification model of transformers
http        a JSON server
judge       a language model behind an OpenAI-compatible endpoint, by a rubric (rubric.py)
weighted    the sum of several, each times its weight

A source of ours is a frozen model: `kind` names it, its fields are its knobs, and `highest` is the highest score there
is. A `Plain` one has `score(prompts, completions)`; one that may fail is `InProcess` (source.py).

parts       all of them but weighted
group       the `reward` group: a source, and what is made of its scores
shaping     what is made of them

judge       asks a reward, and adds up what its parts say
asker       asks one source, and knows what to do where it fails
client      requests to a server, for http and judge
process     a function's process: started, asked with a deadline, killed
worker      what runs in there
texts       the text of a completion, and the answer a pattern finds in it
deadline    the time that one completion may take in there
examine     any of them on the bench: `rlhf reward test`
"""

from rlhf_cli.rewards.group import Reward

__all__ = ["Reward"]
