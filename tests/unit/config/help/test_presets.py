"""config.help.presets."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlhf_cli.config.help.json_schema import schema_file
from rlhf_cli.config.help.presets import copy_preset, find_preset, list_presets
from rlhf_cli.config.jobs import compose_config
from rlhf_cli.errors import UserError


def test_every_preset_says_its_purpose_and_its_schema() -> None:
    presets = list(list_presets())
    assert len({preset.name for preset in presets}) == len(presets) >= 13
    for preset in presets:
        assert preset.purpose.startswith(("SmolLM2", "A random", "The default")), preset.name
        first = preset.text.splitlines()[0].removeprefix("# yaml-language-server: $schema=")
        assert (preset.file.parent / first).resolve() == schema_file(preset.verb), preset.name
    assert find_preset("sft/tiny").command == "rlhf sft config=tiny"
    assert find_preset("tiny").command == "rlhf train config=tiny"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tny", "no preset tny; did you mean tiny?; fix: rlhf presets list"),
        ("preferences", "no preset preferences; did you mean dpo/preferences or reward/preferences?"),
        ("nothing", "no preset nothing; fix: rlhf presets list"),
    ],
)
def test_an_unknown_preset_is_named(name: str, said: str) -> None:
    with pytest.raises(UserError) as raised:
        find_preset(name)
    assert raised.value.line().startswith(said)


def test_a_copy_is_the_same_run_and_replaces_nothing(tmp_path: Path) -> None:
    copied = tmp_path / "mine.yaml"
    copy_preset(find_preset("brevity"), copied)
    assert copied.read_text().startswith(f"# yaml-language-server: $schema={schema_file(find_preset('tiny').verb)}\n")
    assert compose_config([f"config={copied}"]) == compose_config(["config=brevity"])
    copied.write_text("mine")
    with pytest.raises(UserError, match="there is such a file"):
        copy_preset(find_preset("tiny"), copied)
    assert copied.read_text() == "mine"
