"""`rlhf explain [VERB] [KEY=VALUE ...] [KEY ...]`: the value of each setting, what sets it, and what it means."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

from rlhf_cli.commands.parts.parser import Parser
from rlhf_cli.commands.parts.ready import refuse_resume
from rlhf_cli.config.arguments import suggest_config
from rlhf_cli.config.foreign import unknown_setting
from rlhf_cli.config.jobs import compose_for, find_setters
from rlhf_cli.config.keys import fields, lacks, meaning, rule
from rlhf_cli.display.printing import print_result
from rlhf_cli.display.verbs.explain import Setting, show_settings
from rlhf_cli.errors import UserError
from rlhf_cli.runs.changes import is_under
from rlhf_cli.schema import TrainingConfig
from rlhf_cli.settings import flatten
from rlhf_cli.verbs import TRAIN, Verb, composing, find_verb

EXAMPLES: Final = """\
  rlhf explain config=./my-run.yaml               every value, and where it is set
  rlhf explain config=tiny beta optimizer.lr      these, with their meanings
  rlhf explain config=tiny beta=0.1 beta --json
  rlhf explain sft data.path=answers.jsonl        of sft, dpo or reward train"""


def main(argv: list[str]) -> None:
    """Compose the config, and print its settings; nothing is run, and no file but YAML is read."""
    parser = Parser(
        prog="rlhf explain",
        usage="rlhf explain [VERB] [KEY=VALUE ...] [KEY ...] [--json]",
        description="What rlhf train, or another verb that trains, would run with: each value, and the argument, or "
        "the file and line, that sets it.",
        epilog=f"examples:\n{EXAMPLES}",
    )
    parser.add_argument("words", metavar="KEY[=VALUE]", nargs="*", help="overrides; settings or groups to explain")
    parser.add_argument("--json", action="store_true", help="a list of objects")
    options = parser.parse_intermixed_args(argv)
    verb = find_verb(options.words)
    words = options.words[len(verb.words.split()) if verb else 0 :]
    with composing(verb or TRAIN):
        _explain(verb or TRAIN, words, as_json=options.json)


def _explain(verb: Verb[TrainingConfig], words: Sequence[str], *, as_json: bool) -> None:
    overrides, names = ([word for word in words if ("=" in word) == is_set] for is_set in (True, False))
    config = compose_for(verb, overrides)
    refuse_resume(config)
    data = config.model_dump(mode="json")
    every = flatten(data, with_empty=True)
    values = {key: value for key, value in every if not key.endswith(".kind") or key in names}
    values = {key: values[key] for key in _select(names, values, data)}
    setters = find_setters(overrides, values)
    settings = []
    for key, value in values.items():
        group = data.get(key.partition(".")[0])
        kind = group.get("kind") if isinstance(group, Mapping) else None
        settings.append(Setting(key, value, setters[key], rule(key, kind), meaning(key, kind)))
    show = partial(show_settings, settings, with_meanings=bool(names))
    print_result([setting._asdict() for setting in settings], show, as_json=as_json, indent=None)


def _select(names: Sequence[str], values: Mapping[str, Any], data: Mapping[str, Any]) -> Iterator[str]:
    """The keys of `names`, each a setting or a group; all without names. Raises UserError where the config has none."""
    for name in names:
        if not any(is_under(key, (name,)) for key in values):
            group = name.partition(".")[0]
            if name in fields():
                raise UserError(lacks(name, data[group]["kind"]))
            config = suggest_config(name)
            raise UserError(f"unknown setting '{name}'{config}" if config else unknown_setting(name))
    return (key for key in values if not names or is_under(key, names))
