"""Whatever kind of reward it is: cases 37 to 42 hold for each that runs in a process.

The kind's own function scores, in its own process, until a fault is put behind it from the third step on. (Rewards
that are `PlainSource` are functions of the texts: that they have a finite score for any text is tested here too.)
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForSequenceClassification

from rlhf_cli.models.tiny import byte_tokenizer
from rlhf_cli.rewards.kinds import SingleSource
from rlhf_cli.rewards.kinds.base import IsolatedSource, PlainSource
from rlhf_cli.runs.checkpoint import find_newest
from rlhf_cli.types import PromptRow
from tests.score_server import ScoreServer, score_server
from tests.support import Outcome, lines
from tests.unit.rewards.support import made

Rlhf = Callable[..., Outcome]

MEMBERS = get_args(get_args(SingleSource)[0])
KINDS = {str(get_args(member.model_fields["kind"].annotation)[0]): member for member in MEMBERS}
ISOLATED = {kind: member for kind, member in KINDS.items() if issubclass(member, IsolatedSource) and kind != "python"}
PLAIN = sorted(kind for kind, member in KINDS.items() if issubclass(member, PlainSource))

SHORT = (
    "config=tiny",
    "steps=4",
    "prompts_per_step=2",
    "samples_per_prompt=2",
    "max_new_tokens=4",
    "evaluate.every=0",
    "checkpoint.every=2",
    "display=plain",
    "run_dir=out",
    "data=jsonl",
    "data.path=prompts.jsonl",
    "reward.retries=0",
)

FAULTY = """
import inspect, math, time
from importlib import import_module

def make_score(**options):
    module, _, name = {target!r}.rpartition(":")
    inner = getattr(import_module(module), name)(**options)
    parameters = inspect.signature(inner).parameters
    anything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    calls = 0

    def score(**given):
        nonlocal calls
        calls += 1
        scores = inner(**{{name: given[name] for name in given if anything or name in parameters}})
        if calls > 2:
            {fault}
        return scores

    return score
"""

FAULTS = {
    "hang": (37, "time.sleep(99)", "did not answer within "),
    "raise": (38, "raise ValueError('no')", "raised ValueError: no"),
    "one without": (40, "scores[1] = None", "gave None for the completion"),
    "infinite": (41, "scores[-1] = math.inf", "gave inf for the completion"),
    "too few": (42, "scores.pop()", "returned 3 scores for 4 completions"),
}


@pytest.fixture(scope="module")
def server() -> Iterator[ScoreServer]:
    """A server that scores, as long as these tests last."""
    with score_server() as listening:
        yield listening


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small reward model."""
    shape = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    tokenizer, folder = byte_tokenizer(), tmp_path_factory.mktemp("judge")
    config = LlamaConfig(vocab_size=len(tokenizer), num_labels=1, pad_token_id=None, **shape)
    LlamaForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def given_to(tmp_path: Path, server: ScoreServer, judge: Path) -> Callable[[str], list[str]]:
    """What a kind needs besides its name."""
    (tmp_path / "prompts.jsonl").write_text(
        "".join(json.dumps({"prompt": f"Say {n}.", "answer": n}) + "\n" for n in range(9))
    )
    open_settings = {
        "regex": ["reward.pattern=a"],
        "http": [f"reward.url={server.url}"],
        "judge": [f"reward.url={server.url}", "reward.model=m", "reward.best=1e6"],
        "model": [f"reward.path={judge}"],
    }
    return lambda kind: open_settings.get(kind, [])


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        pytest.param(kind, name, marks=pytest.mark.case(FAULTS[name][0]), id=f"{kind}, {name}")
        for kind in ISOLATED
        for name in FAULTS
    ],
)
def test_a_fault_ends_the_run_with_its_steps_saved(
    kind: str,
    fault: str,
    rlhf: Rlhf,
    given_to: Callable[[str], list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, code, said = FAULTS[fault]
    member: Any = ISOLATED[kind]
    (tmp_path / "faulty.py").write_text(FAULTY.format(target=member.factory, fault=code))
    monkeypatch.setattr(member, "factory", f"{tmp_path / 'faulty.py'}:make_score")
    seconds = 15 if kind == "model" else 2  # in which transformers is to be imported too
    limit = [f"reward.timeout_s={seconds}"] if fault == "hang" else []
    outcome = rlhf("train", *SHORT, f"reward={kind}", *given_to(kind), "reward.on_error=stop", *limit)
    assert outcome.code == 4, outcome.err
    assert f"error: reward={kind} {said}" in outcome.err.splitlines()[-1]
    assert "step 3" in outcome.err.splitlines()[-1]
    newest = find_newest(tmp_path / "out" / "checkpoints").folder
    assert newest is not None
    assert newest.name == "step-00000002"
    assert [row["step"] for row in lines(tmp_path / "out" / "metrics.jsonl")] == [1, 2]


@pytest.mark.case(39)
@pytest.mark.parametrize("kind", ISOLATED)
def test_no_score_for_any_ends_the_run_after_a_few_steps(
    kind: str, rlhf: Rlhf, given_to: Callable[[str], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    member: Any = ISOLATED[kind]
    (tmp_path / "faulty.py").write_text(FAULTY.format(target=member.factory, fault="scores = [None] * len(scores)"))
    monkeypatch.setattr(member, "factory", f"{tmp_path / 'faulty.py'}:make_score")
    few = ("reward.on_error=mask", "max_skipped_steps=1", "steps=6")
    outcome = rlhf("train", *SHORT, f"reward={kind}", *given_to(kind), *few)
    assert outcome.code == 4, outcome.err
    last = outcome.err.splitlines()[-1]
    assert last.startswith("error: no prompt has a score for each of its completions; the first failure: ")
    assert f"reward={kind} gave None" in last
    assert " in step 4, and 2 steps in a row changed nothing" in last
    assert [row["skipped"] for row in lines(tmp_path / "out" / "metrics.jsonl")] == [0, 0, 1]


@pytest.mark.parametrize("kind", PLAIN)
@given(texts=st.lists(st.text(max_size=60), min_size=1, max_size=5))
def test_a_plain_reward_has_a_finite_score_for_any_text_that_its_neighbours_do_not_change(
    kind: str, texts: list[str]
) -> None:
    reward = made(kind)
    row = PromptRow("p", {}, "p.jsonl:1")
    scores = reward.score([row] * len(texts), texts)
    assert all(math.isfinite(score) and score <= reward.highest for score in scores)
    assert scores == [reward.score([row], [text])[0] for text in texts]
