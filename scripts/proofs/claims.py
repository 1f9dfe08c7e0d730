"""Decide claims of papers on policy gradients with a KL, and write docs/claims.md: scripts/claims [NAME ...]

Each claim is decided by the figures that its function finds, with the training code where the claim is about it. With
names, these claims are decided and printed, and no page is written.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import claims_advantages
import claims_kl
import claims_lora
import claims_optimum
import claims_updates
import claims_values
from claims_problem import Claim

PAGE = Path(__file__).resolve().parents[2] / "docs" / "claims.md"
PARTS = {
    "The KL": claims_kl.CLAIMS,
    "The optimum": claims_optimum.CLAIMS,
    "Advantages": claims_advantages.CLAIMS,
    "The value head": claims_values.CLAIMS,
    "Updates": claims_updates.CLAIMS,
    "LoRA": claims_lora.CLAIMS,
}
CLAIMS = {claim.name: claim for claims in PARTS.values() for claim in claims}
ABOUT = """\
# Claims, decided

Claims of papers on policy gradients with a KL to a reference, each decided on a problem whose completions can all be
listed: two prompts with seven completions of one or two tokens each, a policy away from the reference, and β = 0.3
where there is a β. "Every step" goes through the training code, as in `rlhf verify-gradient`; the gradients of J and
of the KL come from its oracle. "Off by" is the length of the error over that of the right gradient; 0 is rounding,
below 1e-6.

The verdict follows from the figures, so it can change with the code; a test repeats each row
([test_claims.py](../tests/unit/scripts/test_claims.py)). `scripts/claims` writes this page in half a minute on a core.
A verdict is about the claim as it is worded here, on this problem: "holds" is no proof for all problems, and "does not
hold" is a counterexample.
"""
COLUMNS = "| claim | paper | decided by | found | verdict |\n|---|---|---|---|---|"


def row(claim: Claim) -> str:
    """The claim's row of the page."""
    paper = claim.paper
    if paper[:4].isdigit():
        paper = f"[arXiv:{paper}](https://arxiv.org/abs/{paper})"
    found = claim.decide()
    return f"| {claim.text} | {paper} | {claim.how} | {found.figures} | **{found.verdict}** |"


def main(names: list[str]) -> None:
    """Decide the claims of these names, or all of them, and then write the page."""
    if names:
        for name in names:
            begun = time.process_time()
            print(row(CLAIMS[name]), f"({time.process_time() - begun:.1f} s)")
        return
    parts = [ABOUT]
    for title, claims in PARTS.items():
        parts.append("\n".join([f"## {title}", "", COLUMNS, *map(row, claims)]) + "\n")
    PAGE.write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
