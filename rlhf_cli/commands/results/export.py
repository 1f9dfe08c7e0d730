"""`rlhf export RUN OUT.gguf`: a trained policy as one file for llama.cpp and Ollama."""

from rlhf_cli.commands.parts.exporting import add_arguments, consent_of, find_place, open_exactly, print_written
from rlhf_cli.commands.parts.parser import Parser
from rlhf_cli.display.printing import print_note
from rlhf_cli.errors import UserError
from rlhf_cli.runs.disk import DISK, scratch_beside
from rlhf_cli.runs.resume import find_named

TYPES = {"f16": "half precision (default)", "bf16": "bfloat16", "f32": "exact", "q8_0": "8 bits a weight"}


def main(argv: list[str]) -> None:
    """Write the file whole or not at all, and print what was compared."""
    parser = Parser(
        prog="rlhf export",
        description="Merge a run's adapter into its model, and write a GGUF file: weights, tokenizer, chat template. "
        "For models of the Llama family (Llama, SmolLM2, Mistral, Qwen2, Qwen3) with a byte-level BPE tokenizer.",
    )
    add_arguments(parser, "OUT.gguf", "file")
    types = ", ".join(f"{name}: {about}" for name, about in TYPES.items())
    parser.add_argument("--type", choices=tuple(TYPES), default="f16", help=f"of the matrices; {types}")
    options = parser.parse_args(argv)
    out = find_place(options.out)
    if out.suffix != ".gguf" or out.is_dir():
        raise UserError("only GGUF files are written", where=options.out, fix=f"{options.out}.gguf, or rlhf merge")
    with scratch_beside(out) as scratch:  # before the model is loaded: the disk may refuse
        policy, _ = open_exactly(find_named(options.run), consent_of(options))
        from rlhf_cli.models.exports.llama_cpp import write_gguf

        difference = write_gguf(policy, scratch / out.name, options.type)
        DISK.rename(scratch / out.name, out)
    if policy.stop_texts:
        print_note(f"model.stop={list(policy.stop_texts)} has no place in the file")
    print_written(options, out, "type", difference, f" ({options.type}); before rounding,")
