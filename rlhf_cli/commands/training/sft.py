"""`rlhf sft`: train a model on completions that you give."""

from rlhf_cli.commands.parts.supervising import run_verb
from rlhf_cli.verbs import SFT


def main(argv: list[str]) -> int:
    """Start or resume the run."""
    return run_verb(SFT, argv)
