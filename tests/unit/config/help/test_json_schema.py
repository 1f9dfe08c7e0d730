"""config.help.json_schema: what ships is right by it, and planted mistakes are not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rlhf_cli.config.help.json_schema import json_schema, schema_file, write_json
from rlhf_cli.config.options import config_dir, files_of_first, files_of_option, groups, options
from rlhf_cli.config.yaml_text import parse_yaml
from rlhf_cli.verbs import DPO, SFT, TRAIN, VERBS, Verb, composing

FREE_OF_FILES = ("defaults", "hydra", "trust_remote_code")
"""Keys of shipped files that a user's file has in another form, or may not have."""


def validator(verb: Verb[Any]) -> Any:
    jsonschema = pytest.importorskip("jsonschema")
    return jsonschema.Draft7Validator(json.loads(schema_file(verb).read_text(encoding="utf-8")))


def mistakes(verb: Verb[Any], text: str, folder: Path) -> list[str]:
    """The places of a YAML text that the schema refuses."""
    file = folder / "r.yaml"
    file.write_text(text)
    with composing(verb):
        return [error.json_path for error in validator(verb).iter_errors(parse_yaml(file)[0])]


@pytest.mark.parametrize("verb", [TRAIN, SFT], ids=lambda verb: str(verb.words))
def test_the_files_beside_the_configs_are_what_the_settings_say(verb: Verb[Any]) -> None:
    schema = json_schema(verb)
    assert schema_file(verb).read_text(encoding="utf-8") == write_json(schema), "scripts/lint writes it"


def test_verbs_of_the_same_settings_share_a_file() -> None:
    assert schema_file(DPO) == schema_file(SFT)
    assert json_schema(DPO) == json_schema(SFT)


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: str(verb.words))
def test_every_shipped_file_is_right(verb: Verb[Any]) -> None:
    check, wrong = validator(verb), []
    check.check_schema(check.schema)
    with composing(verb):
        bodies = {file: parse_yaml(file)[0] for file in (config_dir() / verb.presets).glob("*.yaml")}
        bodies |= {file: without(file) for file in files_of_first()}
        for group in groups():
            for option in options(group):
                bodies |= {file: {group: without(file)} for file in files_of_option(group, option)}
        for file, body in bodies.items():
            wrong += [f"{file.name}: {error.json_path} {error.message[:90]}" for error in check.iter_errors(body)]
    assert len(bodies) > 15
    assert wrong == []


def without(file: Path) -> dict[str, Any]:
    return {key: value for key, value in parse_yaml(file)[0].items() if key not in FREE_OF_FILES}


RIGHT = """\
defaults: [tiny, other.yaml, {beta: linear}, {override /temperature: 0.7}]
model: {kind: pretrained, path: org/name, lora: {rank: 4}}
data: {kind: mixture, parts: {web: {kind: csv, path: a.csv}, own: tiny}, weights: {web: 2, own: 0.5}}
reward: {kind: weighted, parts: {short: {kind: length, target: 5}, tone: sentiment}, weights: {short: 1}, clip: [0, 1]}
algorithm: dapo
beta: 0.05
temperature: {kind: linear, start: 1.2, end: 1}
optimizer: {lr: 5e-4}
steps: ${oc.env:STEPS}
time_limit: 1h30m
run_dir: null
evaluate: {every: 0}
hydra: {sweeper: {params: {beta: "0.1,0.2"}}}
"""


def test_a_file_may_use_all_forms(tmp_path: Path) -> None:
    assert mistakes(TRAIN, RIGHT, tmp_path) == []


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("stpes: 3", "$"),
        ("steps: 0", "$.steps"),
        ("steps: many", "$.steps"),
        ("steps: [3]", "$.steps"),
        ("top_p: 1.5", "$.top_p"),
        ("profile: 1", "$.profile"),
        ("kl: everywhere", "$.kl"),
        ("time_limit: 90 minutes", "$.time_limit"),
        ("time_limit: -1", "$.time_limit"),
        ("sinks: [paper]", "$.sinks"),
        ("evaluate: {evry: 3}", "$.evaluate"),
        ("evaluate: 3", "$.evaluate"),
        ("algorithm: grop", "$.algorithm"),
        ("algorithm: {kind: rloo, clip_range: 0.1}", "$.algorithm"),
        ("algorithm: {kind: ppo, clip_range: wide}", "$.algorithm"),
        ("beta: -0.1", "$.beta"),
        ("beta: {kind: linear, begin: 1}", "$.beta"),
        ("temperature: adaptive", "$.temperature"),
        ("optimizer: {lr: 1e-4, betas: [0.9]}", "$.optimizer"),
        ("optimizer: {lr: high}", "$.optimizer"),
        ("optimizer: {lr: {kind: linear}}", "$.optimizer"),
        ("reward: {kind: regex, patern: a}", "$.reward"),
        ("reward: {kind: weighted, parts: {a: {kind: weighted}}}", "$.reward"),
        ("data: {kind: mixture, weights: {web: 0}}", "$.data"),
        ("model: {kind: pretrained, path: a/b, trust_remote_code: true}", "$.model"),
        ("defaults: [tinny]", "$.defaults"),
        ("defaults: [{betta: linear}]", "$.defaults"),
        ("defaults: [{beta: lineal}]", "$.defaults"),
        ("hydra: {callbacks: {}}", "$.hydra"),
        ("objective: sft", "$"),
    ],
)
def test_a_mistake_is_seen(text: str, place: str, tmp_path: Path) -> None:
    assert mistakes(TRAIN, text, tmp_path) == [place]


def test_settings_have_their_meanings_and_kinds_theirs() -> None:
    schema = json_schema(TRAIN)
    assert schema["properties"]["steps"]["description"].startswith("Steps of training")
    lengths = schema["definitions"]["reward=length"]["properties"]
    assert lengths["kind"]["description"]
    assert lengths["target"]["description"]
