"""`rlhf data show ...`: show the prompts of a run as the policy reads them."""

from dataclasses import asdict
from functools import partial
from typing import Final

from rlhf_cli.commands.parts.parser import Parser, at_least
from rlhf_cli.commands.parts.ready import check_sources, compose_new
from rlhf_cli.display.printing import print_result
from rlhf_cli.display.verbs.data import show_data
from rlhf_cli.display.watchers import progress
from rlhf_cli.models.location import code_notice
from rlhf_cli.prompts.rows import read_rows

ABOUT: Final = """\
The prompts of a run as the policy reads them, chat template applied; how many
there are, what is left out, and how long they are in tokens. The model's
weights are not loaded, nothing is trained and nothing is written."""

EXAMPLES: Final = """\
  rlhf data show
  rlhf data show data=csv data.path=questions.csv data.prompt=question
  rlhf data show config=./my-run.yaml --rows 10
  rlhf data show data=jsonl data.path='logs/*.jsonl' --json > data.json"""


def main(argv: list[str]) -> None:
    """Read, encode and print; results on stdout, progress on stderr."""
    parser = Parser(prog="rlhf data", description=ABOUT, epilog=EXAMPLES)
    parser.add_argument("show", choices=["show"], metavar="show", help="show the prompts")
    parser.add_overrides()
    parser.add_argument("--rows", type=at_least(0), default=3, metavar="N", help="training prompts to show (default 3)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    options = parser.parse_intermixed_args(argv)
    config = compose_new(options.overrides)
    check_sources(config)
    rows = read_rows(config)
    watch = progress(config.display)
    if notice := code_notice(config.model):
        watch.note(notice)
    with watch.phase("loading the tokenizer", 0):
        from rlhf_cli.models.encoder import load_encoder
        from rlhf_cli.prompts.preview import preview_prompts

        encoder, context = load_encoder(config.model)
    preview = preview_prompts(rows, encoder, context, config, options.rows, watch)
    print_result(asdict(preview), partial(show_data, preview, encoder.special_tokens), as_json=options.json)
