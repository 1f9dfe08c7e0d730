"""`rlhf merge RUN OUT`: a trained policy as a plain transformers folder, which needs neither PEFT nor this tool."""

from rlhf_cli.commands.parts.exporting import add_arguments, consent_of, find_place, open_exactly, print_written
from rlhf_cli.commands.parts.parser import Parser
from rlhf_cli.report.card import write_card
from rlhf_cli.runs.disk import DISK, scratch_beside
from rlhf_cli.runs.reading import read_run
from rlhf_cli.runs.resume import find_named


def main(argv: list[str]) -> None:
    """Write the folder whole or not at all, and print what was compared."""
    parser = Parser(
        prog="rlhf merge",
        description="Merge a run's adapter into its model, and write a transformers folder: weights as safetensors, "
        "tokenizer, chat template, generation config and a model card.",
    )
    add_arguments(parser, "OUT", "folder")
    about = "of the written weights (default float32)"
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help=about)
    options = parser.parse_args(argv)
    out = find_place(options.out)
    with scratch_beside(out) as scratch:  # before the model is loaded: the disk may refuse
        policy, run = open_exactly(find_named(options.run), consent_of(options))
        import torch

        from rlhf_cli.models.exports.merging import write_merged

        difference = write_merged(policy, scratch, getattr(torch, options.dtype))
        write_card(scratch, read_run(run), options.dtype)
        DISK.rename(scratch, out)
    print_written(options, out, "dtype", difference)
