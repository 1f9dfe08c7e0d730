"""`rlhf dpo`: train a model on pairs of completions, a better and a worse one."""

from rlhf_cli.commands.parts.supervising import run_verb
from rlhf_cli.verbs import DPO


def main(argv: list[str]) -> int:
    """Start or resume the run."""
    return run_verb(DPO, argv)
