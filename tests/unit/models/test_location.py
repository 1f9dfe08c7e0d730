"""Find a model, or the adapter of a run."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from rlhf_cli.errors import UserError
from rlhf_cli.models.location import adapter_path, check_reference, local_path, reward_model_path
from rlhf_cli.models.settings import OtherModel

REFERENCE = OtherModel(kind="model", path="base", revision=None, adapter=None)


def run_in(folder: Path, **config: Any) -> Path:
    (folder / "adapter").mkdir(parents=True)
    for name in ("run.json", "adapter/adapter_config.json", "adapter/adapter_model.safetensors"):
        (folder / name).write_text("{}")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("part", ["", "adapter", "checkpoints/step-00000004"])
def test_an_adapter_over_another_adapter_of_the_model_is_refused(part: str, tmp_path: Path) -> None:
    first = run_in(tmp_path / "sft", model={"path": "base", "adapter": None})
    assert adapter_path(str(first), "base") == str(first / "adapter")
    second = run_in(tmp_path / "my dpo", model={"path": "base", "adapter": str(first)})
    with pytest.raises(UserError, match="its adapter alone would leave that out") as caught:
        adapter_path(str(second / part), "base")
    assert caught.value.fix == f"rlhf merge '{second}' OUT, then model=pretrained model.path=OUT"
    assert adapter_path(str(second), "merged").endswith(
        "my dpo/adapter"
    )  # the merged weights have the first one in them


def test_errors_of_a_reference_name_its_settings_and_leave_paths_alone(tmp_path: Path) -> None:
    only_adapter = tmp_path / "model.v2"
    only_adapter.mkdir()
    (only_adapter / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match="is an adapter, not a model") as caught:
        check_reference(OtherModel(kind="model", path=str(only_adapter), revision=None, adapter=None))
    assert caught.value.where == "reference.path"
    assert caught.value.fix == f"give the model that it was trained on, and reference.adapter={only_adapter}"
    over = run_in(tmp_path / "dpo", model={"path": "base", "adapter": "sft"})
    with pytest.raises(UserError, match="would leave that out") as caught:
        check_reference(OtherModel(kind="model", path="base", revision=None, adapter=str(over)))
    assert caught.value.fix == f"rlhf merge {over} OUT, then reference=model reference.path=OUT"


@pytest.mark.parametrize("over", [None, "sft"])
def test_the_adapter_of_a_reward_model_is_refused(over: str | None, tmp_path: Path) -> None:
    """Also of one over another adapter, which could not be merged either."""
    run = run_in(tmp_path / "rm", model={"path": "base", "adapter": over}, objective={"kind": "bradley_terry"})
    with pytest.raises(UserError, match="its adapter writes no texts"):
        adapter_path(str(run), "base")


@pytest.mark.parametrize("config", ["", "[]", '{"model": 3}', "[" * 100_000])
def test_a_run_that_says_nothing_of_its_origin_is_taken(config: str, tmp_path: Path) -> None:
    run = run_in(tmp_path / "old")
    (run / "config.json").write_text(config)
    assert adapter_path(str(run), "base") == str(run / "adapter")


def test_a_pipe_in_the_place_of_a_runs_settings_is_not_waited_for(tmp_path: Path) -> None:
    run = run_in(tmp_path / "run")
    (run / "config.json").unlink()
    os.mkfifo(run / "config.json")
    assert adapter_path(str(run), "base") == str(run / "adapter")


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """A run of rlhf train, one of rlhf reward train, a model, an adapter and a function."""
    run_in(tmp_path / "run")
    shutil.copytree(run_in(tmp_path / "scorer"), tmp_path / "scorer" / "reward_model")
    for name in ("model/config.json", "model/model.safetensors", "peft/adapter_config.json", "rewards.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "what", "fix"),
    [
        ("run", "{}/run is a run without a trained reward model", "give a run of rlhf reward train that is done, or "),
        ("run/config.json", "{}/run is a run without a trained reward model", "give a run of rlhf reward train that"),
        ("scorer/config.json", "{}/scorer/config.json is a file, not the folder of a model", "{}/scorer"),
        ("model/model.safetensors", "{}/model/model.safetensors is a file, not the folder of a model", "{}/model"),
        ("rewards.py", "{}/rewards.py is a file, not", "a function of yours is reward=python reward.function={}/rewa"),
        ("peft", "{}/peft is an adapter, not a model", "give a transformers folder or a hub id"),
        ("no", "{}/no is no folder", "give a transformers folder or a hub id"),
    ],
)
def test_a_path_that_is_no_reward_model_is_refused_with_the_fix(path: str, what: str, fix: str, places: Path) -> None:
    with pytest.raises(UserError) as caught:
        reward_model_path(str(places / path), "reward.path")
    assert caught.value.what.startswith(what.format(places))
    fix = fix if not fix.startswith("{}") else f"give the folder that it is in: reward.path={fix}"
    assert caught.value.fix.startswith(fix.format(places))
    assert caught.value.where == "reward.path"


def test_a_run_that_trained_a_reward_model_stands_for_it(places: Path) -> None:
    assert reward_model_path(str(places / "scorer"), "reward.path") == str(places / "scorer" / "reward_model")
    assert reward_model_path(f"{places}/scorer/", "reward.path") == str(places / "scorer" / "reward_model")
    assert reward_model_path(str(places / "model"), "reward.path") == str(places / "model")
    assert reward_model_path("someone/some-model", "reward.path") == "someone/some-model"


@pytest.mark.parametrize("path", ["no", "run", "peft"])
def test_an_adapter_that_is_not_there_is_refused_before_a_model_is_loaded(path: str, places: Path) -> None:
    (places / "run" / "adapter" / "adapter_config.json").unlink()
    model = REFERENCE.pretrained().model_copy(update={"adapter": str(places / path)})
    with pytest.raises(UserError) as caught:
        local_path(model)
    what = "run is a run without an exported" if path == "run" else f"{path} holds no adapter_model.safetensors"
    assert caught.value.what.startswith(f"{places}/{what}")
    assert caught.value.where == "model.adapter"


@pytest.mark.parametrize("path", ["run", "run/config.json"])
def test_a_run_is_no_model_to_train_nor_a_reference(path: str, places: Path) -> None:
    for settings, check in ((REFERENCE.pretrained(), local_path), (REFERENCE, check_reference)):
        with pytest.raises(UserError, match="/run is a run, not a model") as caught:
            check(settings.model_copy(update={"path": str(places / path)}))
        group = caught.value.where.removesuffix(".path")
        assert group == ("model" if check is local_path else "reference")
        fix = f"give its model, and {group}.adapter={places / 'run'}, or the folder of rlhf merge RUN OUT"
        assert caught.value.fix == fix
