"""Whatever kind of reward it is: cases 37 to 42 hold for each that runs in a process.

The kind's own function scores, in its own process, until a fault is put behind it; the process of `reward=model`, which
would import torch for it, has a function of the test (that a run is scored by a reward model is in
tests/contract/test_configs.py). What a fault costs the run is the
same for all kinds, and shown with the user's own function (test_rewards.py), and once with a kind of ours. (Rewards
that are `PlainSource` are functions of the texts: that they have a finite score for any text is tested here too.)
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_cli.rewards.execution.retrying import RetryingSource
from rlhf_cli.rewards.kinds import SingleSource
from rlhf_cli.rewards.kinds.base import IsolatedSource, PlainSource
from rlhf_cli.runs.checkpoint import find_newest
from rlhf_cli.types import PromptRow
from tests.score_server import ScoreServer
from tests.support import Outcome, lines
from tests.unit.rewards.execution.support import ask, refused
from tests.unit.rewards.support import made

Rlhf = Callable[..., Outcome]

MEMBERS = get_args(get_args(SingleSource)[0])
KINDS = {str(get_args(member.model_fields["kind"].annotation)[0]): member for member in MEMBERS}
ISOLATED = {kind: member for kind, member in KINDS.items() if issubclass(member, IsolatedSource) and kind != "python"}
PLAIN = sorted(kind for kind, member in KINDS.items() if issubclass(member, PlainSource))

SHORT = (
    "config=tiny",
    "model.layers=1",
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

LENGTH = """
import builtins
builtins.make_length = lambda **options: lambda completions: [float(len(text)) for text in completions]
"""
FAULTY = """
import inspect, math, time
from importlib import import_module
from pathlib import Path

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
        {fault}
        return scores

    return score
"""

FAULTS = {
    "raise": (38, "raise ValueError('no')", "raised ValueError: no"),
    "one without": (40, "scores[1] = None", "gave None for the completion"),
    "infinite": (41, "scores[-1] = math.inf", "gave inf for the completion"),
    "too few": (42, "scores.pop()", "returned 3 scores for 4 completions"),
    "hang": (37, "time.sleep(99)", "did not answer within "),
}
"""The last kills the process."""


@pytest.fixture
def given_to(server: ScoreServer) -> Callable[[str], dict[str, Any]]:
    """What a kind needs besides its name."""
    open_settings = {
        "regex": {"pattern": "a"},
        "http": {"url": server.url},
        "judge": {"url": server.url, "model": "m", "best": 1e6},
        "model": {"path": "anything"},
    }
    return lambda kind: open_settings.get(kind, {})


@pytest.mark.parametrize("kind", ISOLATED)
@pytest.mark.case(37)
@pytest.mark.case(38)
@pytest.mark.case(40)
@pytest.mark.case(41)
@pytest.mark.case(42)
def test_each_fault_is_named_and_never_becomes_a_score(
    kind: str, given_to: Callable[[str], dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    member: Any = ISOLATED[kind]
    now, file = tmp_path / "fault", tmp_path / "faulty.py"
    now.touch()
    target = "builtins:make_length" if kind == "model" else member.factory
    file.write_text(LENGTH + FAULTY.format(target=target, fault=f"exec(Path({str(now)!r}).read_text())"))
    monkeypatch.setattr(member, "factory", f"{file}:make_score")
    source = RetryingSource(made(kind, retries=0, on_error="stop", **given_to(kind)), "reward", ["answer"], None)
    with ExitStack() as opened:
        opened.callback(source.close)
        source.open()
        ask(source)
        monkeypatch.setattr(source._process, "_timeout_s", 0.5)  # its imports, which take longer, are done
        faults = FAULTS if kind == "regex" else {"one without": FAULTS["one without"]}  # the process is the same one
        for name, (_, code, said) in faults.items():
            assert all(score is not None and math.isfinite(score) for score in ask(source).scores), f"before {name}"
            now.write_text(code)
            error = refused(lambda: ask(source))
            now.write_text("")
            assert error.startswith(f"reward={kind} {said}"), name
            assert "(step 3" in error, name


@pytest.mark.case(39)
def test_no_score_for_any_ends_the_run_with_its_steps_saved(
    rlhf: Rlhf, given_to: Callable[[str], dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = "regex"
    member: Any = ISOLATED[kind]
    (tmp_path / "prompts.jsonl").write_text(
        "".join(json.dumps({"prompt": f"Say {n}.", "answer": n}) + "\n" for n in range(9))
    )
    fault = "if calls > 2: scores = [None] * len(scores)"
    (tmp_path / "faulty.py").write_text(FAULTY.format(target=member.factory, fault=fault))
    monkeypatch.setattr(member, "factory", f"{tmp_path / 'faulty.py'}:make_score")
    own = [f"reward.{key}={value}" for key, value in given_to(kind).items()]
    few = ("reward.on_error=mask", "max_skipped_steps=1", "steps=6")
    outcome = rlhf("train", *SHORT, f"reward={kind}", *own, *few)
    assert outcome.code == 4, outcome.err
    last = outcome.err.splitlines()[-1]
    assert last.startswith("error: no prompt has a score for each of its completions; the first failure: ")
    assert f"reward={kind} gave None" in last
    assert " in step 4, and 2 steps in a row changed nothing" in last
    assert [row["skipped"] for row in lines(tmp_path / "out" / "metrics.jsonl")] == [0, 0, 1]
    newest = find_newest(tmp_path / "out" / "checkpoints").folder
    assert newest is not None
    assert newest.name == "step-00000002"


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
