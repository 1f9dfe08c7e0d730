"""`rlhf verify-gradient`: the report, the JSON, and the exit code of each verdict."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf_cli.algorithms import rloo
from rlhf_cli.verify import gradient
from tests.support import Outcome

Rlhf = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of two completions: a third of the time."""
    monkeypatch.setattr(gradient, "GROUP", 2)


def test_an_unbiased_run(rlhf: Rlhf, tmp_path: Path) -> None:
    outcome = rlhf("verify-gradient", "config=tiny", "beta=0.3", "temperature=0.7")
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines()[:3] == [
        "run         rloo, kl=reward, beta 0.3, temperature 0.7",
        "maximises   J = E[score] - beta KL(policy || reference)",
        "steps       all 56 that there are: one prompt, 2 completions of up to 2 tokens",
    ]
    assert "update      exact to " in outcome.out
    assert outcome.out.endswith("cosine 1.0000, length 1 of the gradient's, as documented (1)\nverdict     unbiased\n")
    assert list(tmp_path.iterdir()) == []


def test_a_bias_by_design_is_no_failure(rlhf: Rlhf) -> None:
    outcome = rlhf("verify-gradient", "config=tiny", "algorithm=grpo", "reward.truncated=mask", "top_p=0.9")
    assert outcome.code == 0, outcome.err
    assert "maximises   J = E[score | ended] - beta KL(truncated policy | ended || reference | ended)\n" in outcome.out
    assert "because     algorithm.scale_by_std: dividing by a group's spread weighs prompts and " in outcome.out
    assert "% off (docs/algorithms/grpo.md)\n" in outcome.out
    assert "without     these settings: exact to " in outcome.out
    assert outcome.out.endswith("verdict     biased by design\n")


def test_json_says_what_is_wrong_and_the_exit_code_too(rlhf: Rlhf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rloo, "leave_one_out", lambda returns, *_: returns / 2)  # half of the right length
    outcome = rlhf("verify-gradient", "config=tiny", "--json")
    assert outcome.code == 7
    found = json.loads(outcome.out)
    assert (found["verdict"], found["later"], found["without"], found["size"]) == ("wrong", None, None, 1.0)
    assert outcome.err.splitlines()[-1].startswith("error: the expected update is not the documented one (verify-grad")


def test_a_refused_run_is_refused(rlhf: Rlhf) -> None:
    outcome = rlhf("verify-gradient", "config=tiny", "algorithm=ppo", "reward.truncated=mask")
    assert outcome.code == 2
    assert "algorithm=ppo refuses truncated=mask" in outcome.err
