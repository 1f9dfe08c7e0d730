"""The presets: shipped YAML files to begin with, each with its purpose in the comment at its top."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rlhf_cli.config.help.json_schema import schema_file
from rlhf_cli.config.keys import did_you_mean
from rlhf_cli.config.options import config_dir
from rlhf_cli.errors import UserError
from rlhf_cli.schema import TrainingConfig
from rlhf_cli.verbs import TRAIN, VERBS, Verb

_MODELINE: Final = re.compile(r"(?m)^# yaml-language-server: \$schema=.*$")


@dataclass(frozen=True, slots=True)
class Preset:
    """A shipped YAML file."""

    name: str
    """`tiny` for a preset of `rlhf train`; `sft/tiny` for one of another verb."""
    verb: Verb[TrainingConfig]
    """The verb that takes it."""
    file: Path

    @property
    def command(self) -> str:
        """The command that runs it."""
        return f"rlhf {self.verb.words} config={self.file.stem}"

    @property
    def text(self) -> str:
        """The content of the file."""
        return self.file.read_text(encoding="utf-8")

    @property
    def purpose(self) -> str:
        """The first comment that is about the run."""
        comments = (line.removeprefix("#").strip() for line in self.text.splitlines() if line.startswith("#"))
        return next(text for text in comments if not text.startswith(("@package", "yaml-language-server")))


def list_presets() -> Iterator[Preset]:
    """Yield every preset, verb after verb."""
    for verb in VERBS:
        for file in sorted((config_dir() / verb.presets).glob("*.yaml")):
            yield Preset(file.stem if verb is TRAIN else f"{verb.words.split()[0]}/{file.stem}", verb, file)


def find_preset(name: str) -> Preset:
    """Find a preset by its name; raises UserError where there is none."""
    presets = {preset.name: preset for preset in list_presets()}
    if name in presets:
        return presets[name]
    others = [own for own in presets if own.partition("/")[2] == name]
    near = f"; did you mean {' or '.join(others)}?" if others else did_you_mean(name, presets)
    raise UserError(f"no preset {name}{near}", fix="rlhf presets list")


def copy_preset(preset: Preset, file: Path) -> None:
    """Write the preset as a file of the user's, which its editor can check; raises UserError where there is one."""
    text = _MODELINE.sub(lambda _: f"# yaml-language-server: $schema={schema_file(preset.verb)}", preset.text)
    if os.path.lexists(file):
        raise UserError("there is such a file", where=str(file), fix="name another one: rlhf presets copy NAME FILE")
    with file.open("x", encoding="utf-8") as new:
        new.write(text)
