"""`rlhf schema [VERB]`: the JSON Schema of a verb's YAML files, for editors."""

from typing import Final

from rlhf_cli.commands.parts.parser import Parser
from rlhf_cli.config.help.json_schema import json_schema, schema_file, write_json
from rlhf_cli.errors import UserError
from rlhf_cli.verbs import TRAIN, VERBS, find_verb

ABOUT: Final = """\
Print the JSON Schema of the YAML files of rlhf train, or of another verb, for an
editor that completes and checks them. It also lies in this file:

  {file}

which an editor with YAML support reads, if a YAML file of yours begins with

  # yaml-language-server: $schema=FILE"""


def main(argv: list[str]) -> None:
    """Print the schema."""
    parser = Parser(prog="rlhf schema", description=ABOUT.format(file=schema_file(TRAIN)))
    parser.add_argument("verb", metavar="VERB", nargs="*", help="train (default), sft, dpo, reward train")
    words = parser.parse_args(argv).verb
    verb = find_verb(words) if words else TRAIN
    if verb is None or len(verb.words.split()) < len(words):
        have = ", ".join(one.words for one in VERBS)
        raise UserError(f"{' '.join(words)} takes no YAML file", where="rlhf schema", fix=f"one of {have}")
    print(write_json(json_schema(verb)), end="")
