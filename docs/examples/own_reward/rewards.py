"""How near an answer comes to a list of so many items, with commas between them."""

import re


def listed(completions, items, **columns):
    """1 for as many short items as were asked for, less for each that is missing, too many or long; one a completion.

    `items` is a column of prompts.jsonl. Prompts and completions are texts, as the prompts of the file are; where its
    prompts are lists of chat messages, or `data.system` is set, they are lists of messages.
    """
    return [_score(_text(completion), wanted) for completion, wanted in zip(completions, items, strict=True)]


def _score(text, wanted):
    found = [item.strip() for item in re.split(r",| and ", text.strip().rstrip("."))]
    short = [item for item in found if 0 < len(item.split()) <= 3]
    return max(0.0, 1.0 - abs(len(short) - wanted) / wanted - 0.25 * (len(found) - len(short)))


def _text(completion):
    return completion if isinstance(completion, str) else completion[0]["content"]
