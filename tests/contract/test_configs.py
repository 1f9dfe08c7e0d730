"""Every YAML in configs/ composes, builds and runs one step, the day it is added; every setting is read by a run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from transformers import LlamaConfig, LlamaForSequenceClassification

from rlhf_cli import config as config_package
from rlhf_cli.cli import run
from rlhf_cli.config.jobs import compose_config
from rlhf_cli.models.settings import Lora, Tiny
from rlhf_cli.models.tiny import build_tiny
from rlhf_cli.schema import RunConfig
from rlhf_cli.settings import Settings
from tests.score_server import ScoreServer
from tests.support import lines

CONFIGS = Path(config_package.__file__).parents[2] / "configs"
OPTIONS = sorted(f"{file.parent.name}={file.stem}" for file in CONFIGS.glob("*/*.yaml") if file.parent.name != "hydra")
ONE_STEP = (
    "steps=1",
    "evaluate.every=0",
    "prompts_per_step=2",
    "samples_per_prompt=2",
    "max_new_tokens=4",
    "display=quiet",
)
EXTRAS = {"data=parquet": "pyarrow", "data=hub": "datasets"}
REAL = ("model=smollm2", "config=sentiment", "config=brevity", "config=format", "config=gsm8k", "config=reviews")
MARKS = dict.fromkeys(REAL, pytest.mark.real_model) | dict.fromkeys(EXTRAS, pytest.mark.slow)


@pytest.fixture(scope="session")
def filled_in(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What the options that leave something open are completed with."""
    folder = tmp_path_factory.mktemp("given")
    rows = [json.dumps({"prompt": f"Say {n}.", "answer": n}) + "\n" for n in range(9)]
    (folder / "prompts.jsonl").write_text("".join(rows))
    (folder / "prompts.csv").write_text("prompt\n" + "".join(f"Say {n}.\n" for n in range(9)))
    part = "data.parts.one"
    if find_spec("pyarrow"):
        from pyarrow import parquet, table

        (folder / "table").mkdir()
        parquet.write_table(table({"prompt": [f"Say {n}." for n in range(9)]}), folder / "table" / "prompts.parquet")
    lora = Lora(rank=2, alpha=2.0, target_modules="all-linear", dropout=0.0, rslora=False, dora=False)
    shape = {"kind": "tiny", "architecture": "llama", "layers": 1, "width": 16, "context": 64, "seed": 0}
    model, tokenizer = build_tiny(Tiny(**shape, engine="auto", gradient_checkpointing=False, lora=lora))
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    (folder / "rewards.py").write_text("def longest(completions):\n    return [len(text) for text in completions]\n")
    judge = LlamaForSequenceClassification(LlamaConfig.from_pretrained(folder / "model", num_labels=1))
    judge.save_pretrained(folder / "judge")
    tokenizer.save_pretrained(folder / "judge")
    server = ScoreServer()
    answers = ["data=jsonl", f"data.path={folder / 'prompts.jsonl'}"]
    return {
        "reward=python": [f"reward.function={folder / 'rewards.py'}:longest"],
        "reward=weighted": ["+reward@reward.parts.letters=characters", "+reward.weights.letters=1.0"],
        "reward=regex": ["reward.pattern=a"],
        "reward=exact_match": answers,
        "reward=math": answers,
        "reward=http": [f"reward.url={server.url}"],
        "reward=judge": [f"reward.url={server.url}", "reward.model=m", "reward.best=1000"],
        "reward=model": [f"reward.path={folder / 'judge'}"],
        "data=jsonl": [f"data.path={folder / 'prompts.jsonl'}"],
        "data=text": [f"data.path={folder / 'prompts.jsonl'}"],
        "data=csv": [f"data.path={folder / 'prompts.csv'}"],
        "data=parquet": [f"data.path={folder / 'table' / 'prompts.parquet'}"],
        "data=hub": [f"data.id={folder / 'table'}"],
        "data=mixture": [f"+data@{part}=csv", f"{part}.path={folder / 'prompts.csv'}", "data.weights.one=1"],
        "config=reviews": [f"data.path={folder / 'prompts.jsonl'}", "data.prompt=prompt"],
        "config=gsm8k": [f"data.path={folder / 'prompts.jsonl'}", "data.template={prompt}"],
        "model=pretrained": [f"model.path={folder / 'model'}"],
    }


@pytest.mark.parametrize("option", [pytest.param(option, marks=MARKS.get(option, ())) for option in OPTIONS])
def test_every_option_runs_one_step(
    option: str, filled_in: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if option in EXTRAS:
        pytest.importorskip(EXTRAS[option])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    preset = [] if option.startswith("config=") else ["config=tiny"]
    assert run(["train", *preset, option, *filled_in.get(option, []), *ONE_STEP, "run_dir=out"]) == 0
    assert [row["step"] for row in lines(tmp_path / "out" / "metrics.jsonl")] == [1]


def test_every_option_explains_itself() -> None:
    for file in CONFIGS.rglob("*.yaml"):
        if "hydra" not in file.parts:
            first, second, *_ = file.read_text().splitlines()
            assert (second if first.startswith("# @package") else first).startswith("# "), file


def test_every_setting_is_read_by_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A knob that nothing reads is a lie."""
    read: set[tuple[str, str]] = set()
    plain = BaseModel.__getattribute__

    def recording(self: Settings, name: str) -> Any:
        read.add((type(self).__name__, name))
        return plain(self, name)

    (tmp_path / "rewards.py").write_text("def none(completions):\n    return [None for _ in completions]\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Settings, "__getattribute__", recording, raising=False)
    for extra in (
        [],
        [
            "temperature=linear",
            "beta=cosine",
            "algorithm=reinforce",
            "evaluate.every=1",
            "evaluate.prompts=6",
            "data.max_prompt_tokens=16",
            "data.too_long=drop",
            "optimizer.warmup_steps=0",
            "reward.truncated=penalty",
        ],
        ["algorithm=ppo", "beta=target"],
        ["algorithm=grpo", "beta=adaptive", "temperature=cosine"],
        [
            "reward=python",
            "reward.function=rewards.py:none",
            "reward.on_error=value",
            "reward.retries=0",
            "evaluate.every=1",
            "evaluate.prompts=6",
        ],
    ):
        assert run(["train", "config=tiny", *ONE_STEP, *extra, f"run_dir=out{len(extra)}"]) == 0
    for setting in chain(
        _settings(compose_config(["config=tiny", "temperature=linear", "beta=cosine", "algorithm=reinforce"])),
        _settings(compose_config(["config=tiny", "algorithm=ppo", "beta=target"])),
        _settings(compose_config(["config=tiny", "algorithm=grpo", "beta=adaptive"])),
        _settings(compose_config(["config=tiny", "reward=python", "reward.function=rewards.py:none"])),
    ):
        kind, name = setting
        # read by the union, by resume, by multirun; and where the disk refuses, or a gradient is not finite
        if name not in ("kind", "resume_allow", "sweep_dir", "seeds", "jobs", "max_failures", "max_skipped_steps"):
            assert setting in read, f"{kind}.{name} is read by nothing"


def _settings(model: Settings) -> Iterator[tuple[str, str]]:
    for name in type(model).model_fields:
        value = model.__dict__[name]
        if isinstance(value, Settings):
            yield from _settings(value)
        else:
            yield type(model).__name__, name


def test_no_value_has_a_default_in_python() -> None:
    """Types live in Python, values in YAML: a value has one home."""
    seen, todo = set(), [RunConfig]
    while todo:
        model = todo.pop()
        seen.add(model)
        for name, field in model.model_fields.items():
            assert field.is_required(), f"{model.__name__}.{name}"
        kinds = (*Settings.__subclasses__(), *model.__subclasses__())
        todo += [kind for kind in kinds if kind not in seen and kind not in todo]
    assert len(seen) > 8
