"""The table of `rlhf eval`: two policies, every measure, and the paired difference."""

from rlhf_cli.display.console import ResultConsole
from rlhf_cli.display.figures import compared
from rlhf_cli.display.words import flat
from rlhf_cli.evaluation.sides import Sides
from rlhf_cli.plural import plural
from rlhf_cli.report.sides_page import describe, rows_of


def show_sides(sides: Sides, names: tuple[str, str], temperature: float) -> None:
    """Print the table and a sentence on the win rate, on stdout."""
    console = ResultConsole()
    title = f"{plural(sides.prompts, 'prompt')} x {plural(sides.samples, 'completion')} at T = {temperature:g}"
    caption = "± and [ ]: 95 % interval over prompts; the difference is paired by prompt"
    console.print(compared((*map(flat, names), "difference"), rows_of(sides), title, caption))
    for line in describe(sides, names):
        console.print_fact("", flat(line), 0)
