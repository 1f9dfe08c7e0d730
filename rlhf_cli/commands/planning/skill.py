"""`rlhf skill`: a page that teaches another program, or a person in a hurry, to drive this tool."""

from importlib.resources import files

from rlhf_cli.commands.parts.parser import Parser


def main(argv: list[str]) -> None:
    """Print the page, in Markdown."""
    Parser(
        prog="rlhf skill",
        description="Print a page that teaches another program, or a person in a hurry, to drive rlhf: commands that "
        "work as pasted, in Markdown.",
    ).parse_args(argv)
    print(files("rlhf_cli.commands.planning").joinpath("skill.md").read_text(encoding="utf-8"), end="")
