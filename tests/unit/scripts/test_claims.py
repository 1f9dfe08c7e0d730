"""scripts/claims: a row of docs/claims.md is what deciding its claim gives, and broken code changes a verdict."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rlhf_cli.algorithms import rloo
from rlhf_cli.types import Rollout
from rlhf_cli.verify import expected
from rlhf_cli.verify.exact import objectives
from tests.scripts import load_beside

DOCS = Path(__file__).parents[3] / "docs"


claims, claims_problem = load_beside("proofs/claims.py"), load_beside("proofs/claims_problem.py")

LONG = {"clip higher", "exact gradient", "token mean"}
"""Those that take seconds."""


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in LONG)) for n in claims.CLAIMS])
def test_a_row_of_the_page_is_what_deciding_the_claim_gives(name: str) -> None:
    row = claims.row(claims.CLAIMS[name])
    assert row in (DOCS / "claims.md").read_text(encoding="utf-8").splitlines()


def test_the_page_has_every_claim_with_a_verdict_and_a_paper() -> None:
    rows = [row for row in (DOCS / "claims.md").read_text(encoding="utf-8").splitlines() if row.endswith("** |")]
    assert len(rows) == len(claims.CLAIMS) == sum(map(len, claims.PARTS.values())) >= 12
    for row in rows:
        assert re.search(r"\*\*(holds|does not hold|holds only if .+)\*\* \|$", row), row
    assert len(set(re.findall(r"arXiv:(\d{4}\.\d{5})\]\(https://arxiv\.org/abs/\1\)", "\n".join(rows)))) >= 12


def flipped(config: object, rollout: Rollout, scores: Tensor, *_: object) -> Tensor:
    """The scores with the wrong sign, at the last token."""
    rewards = torch.zeros_like(rollout.logprobs)
    return rewards.scatter_add(1, (rollout.lengths - 1).unsqueeze(1), -scores.to(rewards).unsqueeze(1))


def test_a_verdict_follows_from_the_training_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rloo, "leave_one_out", lambda returns, *_: returns / 2)
    assert claims.CLAIMS["leave one out"].decide().verdict == "does not hold"
    assert claims.CLAIMS["RLOO is GRPO"].decide().verdict == "does not hold"


def test_scores_of_the_wrong_sign_are_found_where_the_oracle_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expected, "penalise", flipped)
    assert claims.CLAIMS["first pass"].decide().verdict == "holds"  # both sides alike
    assert claims.CLAIMS["GAE"].decide().verdict == "does not hold"


def test_the_closed_form_is_the_largest_objective_nearby() -> None:
    tables, target = claims_problem.problem(), claims_problem.target()
    best = claims_problem.optimum(tables)
    highest = float(objectives(tables, best, target).mean())
    for seed in range(5):
        noise = torch.randn(best.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        assert float(objectives(tables, best + 0.1 * noise, target).mean()) < highest


def test_probabilities_of_texts_by_hand() -> None:
    tables = claims_problem.problem()
    found, rows = claims_problem.chances(tables, tables.policy, 0.7), torch.softmax(tables.policy / 0.7, -1)
    torch.testing.assert_close(found.sum(1), torch.ones(2, dtype=torch.float64))
    torch.testing.assert_close(found[:, 5], rows[:, 0, 1] * rows[:, 2, 2])  # the text "1 2": states 0 and 1 + 1
    torch.testing.assert_close(found[:, 6], rows[:, 0, 2])


def test_how_sizes_are_written() -> None:
    assert claims_problem.size(3e-7) == claims_problem.size(-1e-9) == "0"
    assert (claims_problem.size(0.304), claims_problem.percent(0.0689, 1)) == ("0.30", "6.9 %")
