"""`rlhf generate RUN "prompt"`: the answers of a trained policy, and of its reference beside them."""

import sys
from collections.abc import Sequence

from rlhf_cli.commands.parts.parser import Parser, at_least, number
from rlhf_cli.commands.parts.writing import add_options, lines_of_stdin, load_writer, not_text, note_template
from rlhf_cli.display.printing import print_json, print_note
from rlhf_cli.display.words import flat
from rlhf_cli.errors import UserError
from rlhf_cli.schema import TrainingConfig
from rlhf_cli.seeding import seed_for
from rlhf_cli.types import Message, PromptBatch, PromptRow


def main(argv: list[str]) -> None:
    """Answer every prompt; results on stdout, progress on stderr."""
    options = _parser().parse_intermixed_args(argv)
    if options.samples > 1 and not options.temperature:
        raise UserError("greedy answers are all the same", where="--samples", fix="add --temperature 1")
    prompts = _prompts(options.prompts)
    writer = load_writer(options, options.beta)
    from rlhf_cli.engine.blending import sample_between
    from rlhf_cli.functional.sampling import Sampling

    for text, row in zip(prompts, _rows(prompts, writer.config), strict=True):
        seeds = tuple(seed_for(options.seed, "generate", sample) for sample in range(options.samples))
        batch = PromptBatch((writer.encode(row),), options.samples, seeds)
        sampling = Sampling(writer.limit, options.temperature)
        if writer.weight is None:
            texts = writer.engine.sample(batch, sampling, lambda: None).texts
        else:
            texts = sample_between(writer.engine, batch, sampling, writer.weight, lambda: None).texts
        reference: tuple[str, ...] | None = None
        if options.reference:
            reference = writer.engine.sample(batch, sampling, lambda: None, reference=True).texts
        if options.json:
            print_json({"prompt": text, "policy": texts, "reference": reference})
        else:
            _show(text, texts, reference)


def _show(prompt: str, texts: Sequence[str], reference: Sequence[str] | None) -> None:
    if reference is None:
        print(*map(_shown, texts), sep="\n")
        return
    print(f"prompt     {_shown(prompt)}")
    for before, after in zip(reference, texts, strict=True):
        print(f"reference  {_shown(before)}\npolicy     {_shown(after)}")
    print()


def _rows(prompts: Sequence[str], config: TrainingConfig) -> list[PromptRow]:
    """The prompts as the run's own are: behind its system prompt. Note this, and a template, which they do without."""
    system = getattr(config.data, "system", None)
    if system is not None:
        print_note(f"the system prompt is {system!r}, as in training")
    note_template(config)
    places = [(text, f"prompt {number}") for number, text in enumerate(prompts, start=1)]
    if system is None:
        return [PromptRow(text, {}, place) for text, place in places]
    return [PromptRow((Message("system", system), Message("user", text)), {}, place) for text, place in places]


def _shown(text: str) -> str:
    """Return the text as it is for a pipe or a file; as one line without control characters for a terminal."""
    return flat(text) if sys.stdout.isatty() else text


def _prompts(words: Sequence[str]) -> list[str]:
    """The prompts of the command line, or else the lines of stdin."""
    prompts = list(words) if words or sys.stdin.isatty() else list(lines_of_stdin("generate"))
    try:
        "".join(prompts).encode()  # bytes that are no UTF-8 arrive as halves of surrogate pairs
    except UnicodeError as error:
        raise not_text("generate") from error
    prompts = [prompt for prompt in prompts if prompt.strip()]
    if not prompts:
        fix = 'give one: rlhf generate RUN "prompt", or one a line on stdin'
        raise UserError("no prompt", where="rlhf generate", fix=fix)
    return prompts


def _parser() -> Parser:
    parser = Parser(prog="rlhf generate", description="Let a trained policy answer prompts.")
    parser.add_argument("run", metavar="RUN", help="a run's folder, one of its checkpoints, or latest")
    prompts = "prompts; without any, one a line from stdin"
    parser.add_argument("prompts", metavar="PROMPT", nargs="*", type=str, default=[], help=prompts)
    parser.add_argument("--reference", action="store_true", help="show the reference's answer beside the policy's")
    parser.add_argument("--samples", type=at_least(1), default=1, metavar="N", help="sampled answers to each prompt")
    parser.add_argument(
        "--beta", type=number(0), metavar="B", help="decode as if trained at this beta: between reference and policy"
    )
    add_options(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object a prompt")
    return parser
