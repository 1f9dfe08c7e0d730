"""Print the prompts of a run on stdout: a few as the policy reads them, and the lengths of all."""

import re
from collections.abc import Iterable
from typing import Final

from rich.console import Console
from rich.text import Text

from rlhf_cli.display.console import ResultConsole
from rlhf_cli.errors import visible
from rlhf_cli.plural import plural
from rlhf_cli.prompts.preview import Lengths, PartPreview, Preview

BAR: Final = 40
"""Characters of the longest bar of the histogram."""
BECOMES: Final = {"error": "a run that uses one stops", "drop": "left out", "truncate_left": "cut to their end"}


def show_data(preview: Preview, special: Iterable[str]) -> None:
    """Print prompts, with `special` tokens in colour, then counts and lengths."""
    console = ResultConsole()
    pattern = "|".join(re.escape(token) for token in sorted(special, key=len, reverse=True))
    for prompt in preview.shown:
        console.print(Text(f"{visible(prompt.where)}  {plural(prompt.tokens, 'token')}", style="dim"), soft_wrap=True)
        text = Text(visible(prompt.text))
        if pattern:
            text.highlight_regex(pattern, "bold cyan")
        console.print(text, soft_wrap=True)
        console.print()
    for part in preview.parts:
        for line in _part(part, alone=len(preview.parts) == 1):
            console.print(line, soft_wrap=True)
    if preview.left_out:
        counts = ", ".join(f"{count} {why}" for why, count in preview.left_out.items())
        console.print(f"left out   {counts}", soft_wrap=True)
    if preview.more:
        console.print("           there are rows behind data.max_rows", soft_wrap=True)
    columns = visible(", ".join(preview.columns)) or "none but the prompt"
    console.print(f"columns    {columns}", soft_wrap=True)
    if preview.lengths is not None:
        _show_lengths(preview.lengths, console)


def _part(part: PartPreview, *, alone: bool) -> list[str]:
    share = "" if alone else f", {part.share:.0%} of a step"
    first = f"{part.train} to train on, {part.held_out} held out{share}"
    longer = f"{part.longer} longer than {plural(part.limit, 'token')}"
    if part.longer:
        longer += f": {BECOMES[part.too_long]} (data.too_long={part.too_long})"
    return [f"{'prompts' if alone else visible(part.name):<10} {first}", f"{'':<10} {longer}"]


def _show_lengths(lengths: Lengths, console: Console) -> None:
    figures = f"{lengths.least} least, {lengths.median} median, {lengths.p90} at 90 %, {lengths.most} most"
    console.print(f"tokens     {figures}")
    most = max(interval.prompts for interval in lengths.histogram)
    for interval in lengths.histogram:
        name = f"{interval.first}" if interval.first == interval.last else f"{interval.first}-{interval.last}"
        bar = "█" * -(-BAR * interval.prompts // most)
        console.print(f"{name:>10} {interval.prompts:>6} {bar}".rstrip(), soft_wrap=True)
