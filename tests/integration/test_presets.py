"""`rlhf presets` and `rlhf schema`: a YAML file to begin with, and what an editor checks it by."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf_cli.config.help.json_schema import schema_file
from rlhf_cli.verbs import SFT, TRAIN
from tests.support import Outcome

Rlhf = Callable[..., Outcome]


def test_a_preset_is_listed_shown_copied_and_run(rlhf: Rlhf, tmp_path: Path) -> None:
    lines = rlhf("presets", "list").out.splitlines()
    rows = dict(line.split(maxsplit=1) for line in lines)
    assert rows["tiny"].strip() == "A random two-layer model learns to write letters: the whole pipeline in seconds."
    assert "sft/tiny" in rows
    shown = rlhf("presets", "show", "tiny").out
    assert "steps: 60\n" in shown
    copied = rlhf("presets", "copy", "tiny", "my-run.yaml")
    assert copied.out == "written to my-run.yaml; run it by rlhf train config=./my-run.yaml\n"
    assert (tmp_path / "my-run.yaml").read_text().splitlines()[1:] == shown.splitlines()[1:]
    setters = json.loads(rlhf("explain", "config=./my-run.yaml", "steps", "--json").out)
    assert (setters[0]["value"], setters[0]["set_by"]) == (60, "my-run.yaml:9")
    spaced = rlhf("presets", "copy", "tiny", "my run.yaml").out
    assert spaced == "written to my run.yaml; run it by rlhf train config='./my run.yaml'\n"
    assert rlhf("presets", "copy", "sft/json").out == "written to json.yaml; run it by rlhf sft config=./json.yaml\n"


def test_purposes_are_wrapped_for_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rlhf_cli.commands.planning.presets import main

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    main(["list"])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 60


def test_the_schema_of_a_verb_is_printed(rlhf: Rlhf) -> None:
    for words, verb in (((), TRAIN), (("reward", "train"), SFT)):
        assert rlhf("schema", *words).out == schema_file(verb).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("presets",), "the following arguments are required: list|show|copy (rlhf presets); fix: rlhf presets --help"),
        (("presets", "show", "tny"), "no preset tny; did you mean tiny?; fix: rlhf presets list"),
        (("presets", "copy", "tiny", "there.yaml"), "there is such a file (there.yaml); fix: name another one: rlhf "),
        (("schema", "oracle"), "oracle takes no YAML file (rlhf schema); fix: one of train, sft, dpo, reward train"),
        (("schema", "train", "now"), "train now takes no YAML file (rlhf schema)"),
    ],
)
def test_mistakes_are_one_line(argv: tuple[str, ...], said: str, rlhf: Rlhf, tmp_path: Path) -> None:
    (tmp_path / "there.yaml").touch()
    outcome = rlhf(*argv)
    assert outcome.code == 2
    assert outcome.err.startswith(f"error: {said}")
    assert outcome.err.count("\n") == 1
