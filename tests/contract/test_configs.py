"""Every YAML in configs/ composes, builds and runs one step, the day it is added."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from itertools import chain, cycle, product
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification

from rlhf_cli import config as config_package
from rlhf_cli.cli import run
from rlhf_cli.config.jobs import compose_config, compose_for
from rlhf_cli.config.problems import build_config
from rlhf_cli.errors import UserError
from rlhf_cli.models.loading import load_tokenizer
from rlhf_cli.models.settings import Lora, Pretrained, Tiny
from rlhf_cli.models.tiny import build_tiny
from rlhf_cli.schema import RunConfig, TrainingConfig
from rlhf_cli.settings import Settings, flatten
from rlhf_cli.supervised.settings import SupervisedConfig
from rlhf_cli.verbs import TRAIN, VERBS, Verb
from tests.score_server import ScoreServer
from tests.support import lines

CONFIGS = Path(config_package.__file__).parents[2] / "configs"
NAMES = {
    group.name: sorted(file.stem for file in group.glob("*.yaml"))
    for group in sorted(CONFIGS.iterdir())
    if group.name == "config" or group.name in RunConfig.model_fields
}
"""The options of each group of `rlhf train`."""
OTHERS = [(verb, file.stem) for verb in VERBS if verb is not TRAIN for file in (CONFIGS / verb.presets).glob("*.yaml")]
"""The presets of the other verbs."""
TASKS = [name for name in NAMES["config"] if name != "tiny"]
"""Presets that train SmolLM2."""
ONE_STEP = (
    "steps=1",
    "evaluate.every=0",
    "prompts_per_step=2",
    "samples_per_prompt=2",
    "max_new_tokens=4",
    "display=quiet",
)
ANYTHING = (
    None,
    True,
    -1,
    0,
    1.5,
    math.nan,
    math.inf,
    10**30,
    "",
    "x",
    "\udcff",
    "\0",
    [],
    [1],
    [[]],
    {},
    {"kind": "x"},
)
"""Values, of which any setting should refuse most."""
PYDANTICS = re.compile("[Ii]nput|[Aa]ssertion|valid |unable|NoneType|<class|, or (.*), or \\1")
"""Words of pydantic and Python, and a rule that is said twice."""
EXTRAS = {"data=parquet": "pyarrow", "data=hub": "datasets"}
WITH_ANSWERS = ("reward=exact_match", "reward=math")


def combined() -> list[tuple[str, ...]]:
    """Runs of the tiny model with an option of each group: together they have all of them, but for EXTRAS."""
    groups = {group: names for group, names in NAMES.items() if group != "config"}
    groups["data"] = [name for name in groups["data"] if f"data={name}" not in EXTRAS]
    groups["model"] = [name for name in groups["model"] if name != "smollm2"]
    data, runs = cycle(groups.pop("data")), []
    for number in range(max(map(len, groups.values()))):
        options = [f"{group}={names[number % len(names)]}" for group, names in groups.items()]
        if "reward=none" in options:  # there is something to learn from another model alone
            options = [option.replace("reference=initial", "reference=model") for option in options]
        has_own = not {*options}.isdisjoint(WITH_ANSWERS)
        runs.append((*options, "data=jsonl" if has_own else f"data={next(data)}"))
    return runs


@pytest.fixture(scope="session")
def filled_in(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What the options that leave something open are completed with."""
    folder = tmp_path_factory.mktemp("given")
    rows = [json.dumps({"prompt": f"Say {n}.", "answer": f"#### {n}"}) + "\n" for n in range(9)]
    (folder / "prompts.jsonl").write_text("".join(rows))
    (folder / "prompts.csv").write_text("prompt\n" + "".join(f"Say {n}.\n" for n in range(9)))
    texts = [json.dumps({"text": f"Text {n}.", "label": n % 2}) + "\n" for n in range(8)]
    (folder / "texts.jsonl").write_text("".join(texts))
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
        "data=writing": ["data.too_long=truncate_left"],  # the model of a folder reads 64 tokens
        "data=labelled": [f"data.path={folder / 'texts.jsonl'}"],
        "data=text": [f"data.path={folder / 'prompts.jsonl'}"],
        "data=csv": [f"data.path={folder / 'prompts.csv'}"],
        "data=parquet": [f"data.path={folder / 'table' / 'prompts.parquet'}"],
        "data=hub": [f"data.id={folder / 'table'}"],
        "data=mixture": [f"+data@{part}=csv", f"{part}.path={folder / 'prompts.csv'}", "data.weights.one=1"],
        "config=reviews": [f"data.path={folder / 'prompts.jsonl'}", "data.prompt=prompt"],
        "config=gsm8k": [f"data.path={folder / 'prompts.jsonl'}", "data.template={prompt}"],
        "reference=model": [f"reference.path={folder / 'model'}"],
        "config=distill": ["reference.path=${model.path}"],
        "model=pretrained": [f"model.path={folder / 'model'}"],
    }


@pytest.fixture(scope="session")
def small_smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2's tokenizer with a small model of its kind."""
    settings = compose_config(["config=tiny", "model=smollm2"]).model
    assert isinstance(settings, Pretrained)
    tokenizer, config = load_tokenizer(settings)
    config.update({"hidden_size": 36, "head_dim": 4, "intermediate_size": 36, "num_hidden_layers": 1})
    folder = tmp_path_factory.mktemp("small")
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def completed(options: tuple[str, ...], filled_in: dict[str, list[str]]) -> list[str]:
    """The options, and whatever they leave open, once."""
    return [*options, *dict.fromkeys(chain.from_iterable(filled_in.get(option, []) for option in options))]


@pytest.fixture
def run_one_step(
    filled_in: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Run one step with such options, completed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))

    def run_one_step(*options: str) -> None:
        assert run(["train", *completed(options, filled_in), *ONE_STEP, "run_dir=out"]) == 0, options
        (row,) = lines(tmp_path / "out" / "metrics.jsonl")
        assert (row["step"], row["reward/failures"]) == (1, 0), options

    return run_one_step


@pytest.mark.parametrize("options", combined(), ids=" ".join)
def test_every_option_runs_one_step(options: tuple[str, ...], run_one_step: Callable[..., None]) -> None:
    run_one_step("config=tiny", *options)


@pytest.mark.parametrize("option", EXTRAS)
def test_an_option_that_needs_an_extra_composes(option: str, filled_in: dict[str, list[str]]) -> None:
    assert compose_config(["config=tiny", option, *filled_in[option]])


@pytest.mark.slow
@pytest.mark.parametrize("option", EXTRAS)
def test_an_option_that_needs_an_extra_runs_one_step(option: str, run_one_step: Callable[..., None]) -> None:
    pytest.importorskip(EXTRAS[option])
    run_one_step("config=tiny", option)


@pytest.mark.real_model
@pytest.mark.parametrize("name", TASKS)
def test_every_task_runs_one_step(name: str, small_smollm2: Path, run_one_step: Callable[..., None]) -> None:
    """On the tokenizer and chat template of SmolLM2; its weights are in tests/integration/test_real_model.py."""
    run_one_step(f"config={name}", f"model.path={small_smollm2}")


def test_every_option_states_every_value(filled_in: dict[str, list[str]]) -> None:
    """So a default in Python, for runs from before the setting, is never what a new run takes."""
    for options in combined():
        check_every_value_is_set(compose_config(["config=tiny", *completed(options, filled_in)]))


@pytest.mark.parametrize(("verb", "preset"), OTHERS, ids=lambda each: each if isinstance(each, str) else each.words)
def test_every_preset_of_another_verb_states_every_value(verb: Verb[TrainingConfig], preset: str) -> None:
    data = ["data.path=pairs.jsonl"] if preset == "preferences" else []
    config = compose_for(verb, [f"config={preset}", *data])
    assert isinstance(config, SupervisedConfig)
    assert config.objective.kind == {"sft": "sft", "dpo": "dpo", "reward train": "bradley_terry"}[verb.words]
    check_every_value_is_set(config)


def check_every_value_is_set(config: Settings) -> None:
    todo = [config]
    while todo:
        settings = todo.pop()
        assert settings.model_fields_set == type(settings).model_fields.keys(), type(settings)
        todo += [value for value in settings.__dict__.values() if isinstance(value, Settings)]


def test_every_value_of_every_setting_is_taken_or_refused_in_our_words(filled_in: dict[str, list[str]]) -> None:
    runs: list[tuple[Verb[TrainingConfig], TrainingConfig]] = [
        (TRAIN, compose_config(["config=tiny", *completed(options, filled_in)])) for options in combined()
    ]
    runs += [(verb, compose_for(verb, ["data.path=rows.jsonl"])) for verb in VERBS if verb is not TRAIN]
    tried = set[str]()
    for verb, config in runs:
        data = config.model_dump(mode="json")
        keys = {key for key, _ in flatten(data)} - tried
        tried |= keys
        for key, value in product(keys, ANYTHING):
            line = refusal(verb, replaced(data, key.split("."), value))
            assert not PYDANTICS.search(line), (key, value, line)


def refusal(verb: Verb[TrainingConfig], data: dict[str, Any]) -> str:
    """The line that refuses these settings; empty where they are taken."""
    try:
        build_config(verb, data, lambda key: "")
    except UserError as error:
        return error.line()
    return ""


def replaced(data: Mapping[str, Any], path: list[str], value: object) -> dict[str, Any]:
    """The settings with another value at the path."""
    name, *rest = path
    return {**data, name: replaced(data[name], rest, value) if rest else value}


def test_every_task_trains_smollm2(filled_in: dict[str, list[str]]) -> None:
    smollm2 = compose_config(["config=tiny", "model=smollm2"]).model
    for name in TASKS:
        model = compose_config([f"config={name}", *filled_in.get(f"config={name}", [])]).model
        assert isinstance(model, Pretrained), name
        assert model.model_copy(update={"prompt_format": "auto"}) == smollm2, name


def test_no_option_is_forgotten() -> None:
    every = {f"{group}={name}" for group, names in NAMES.items() for name in names}
    run = {*chain.from_iterable(combined()), *EXTRAS, *(f"config={name}" for name in TASKS)}
    assert every - run == {"config=tiny", "model=smollm2"}  # which all of them stand on


def test_every_option_explains_itself() -> None:
    for file in CONFIGS.rglob("*.yaml"):
        if "hydra" not in file.parts:
            first, second, *_ = file.read_text().splitlines()
            assert (second if first.startswith("# @package") else first).startswith("# "), file
