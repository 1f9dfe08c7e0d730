"""`rlhf presets list|show NAME|copy NAME [FILE]`: the shipped YAML files to begin with."""

import shlex
import shutil
import sys
import textwrap
from pathlib import Path

from rlhf_cli.commands.parts.parser import Parser
from rlhf_cli.config.help.presets import copy_preset, find_preset, list_presets
from rlhf_cli.display.printing import print_json
from rlhf_cli.errors import visible
from rlhf_cli.paths import expand


def main(argv: list[str]) -> None:
    """Print the presets, print one, or write one as a file of the user's."""
    options = _parser().parse_args(argv)
    if options.action == "show":
        print(find_preset(options.name).text, end="")
    elif options.action == "copy":
        preset = find_preset(options.name)
        file = expand(options.file) if options.file else Path(preset.file.name)
        copy_preset(preset, file)
        choice = str(file) if "/" in str(file) else f"./{file}"
        print(visible(f"written to {file}; run it by rlhf {preset.verb.words} config={shlex.quote(choice)}"))
    elif options.json:
        print_json([{"name": one.name, "command": one.command, "purpose": one.purpose} for one in list_presets()])
    else:
        presets = list(list_presets())
        width = max(len(preset.name) for preset in presets)
        columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
        for preset in presets:
            line = f"{preset.name:{width}}  {preset.purpose}"
            print(textwrap.fill(line, columns, subsequent_indent=" " * (width + 2), break_on_hyphens=False))


def _parser() -> Parser:
    parser = Parser(prog="rlhf presets", description="The shipped YAML files: a run each, for config=NAME.")
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|show|copy", parser_class=Parser)
    listing = actions.add_parser("list", description="The presets, each with its purpose; sft/NAME is one of rlhf sft.")
    listing.add_argument("--json", action="store_true", help="a list of objects")
    show = actions.add_parser("show", description="Print a preset as it ships; what it leaves out is in train.yaml.")
    copy = actions.add_parser("copy", description="Write a preset as a file of yours, to change.")
    for action in (show, copy):
        action.add_argument("name", metavar="NAME", help="as rlhf presets list has it")
    copy.add_argument("file", metavar="FILE", nargs="?", help="the file, which does not exist yet (default: NAME.yaml)")
    return parser
