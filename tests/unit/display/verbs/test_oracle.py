"""display.verbs.oracle."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from rlhf_cli.display.verbs.oracle import show_dial, show_oracle
from rlhf_cli.evaluation.dial import DialPoint
from rlhf_cli.evaluation.intervals import Estimate
from rlhf_cli.evaluation.optimum import FrontierPoint
from rlhf_cli.evaluation.oracle import BestOf, CurvePoint, Oracle


def test_the_oracle_is_shown_with_its_doubts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    reason = "too few samples: doubling them moved J* by 7.5 % of the gap, more than 2 %"
    points = tuple(
        FrontierPoint(beta, 0.1, 0.31, 0.01, 0.4, 0.02, -1e-17, 0.03, 12.34, 1.26, reason if beta < 0.1 else "")
        for beta in (0.02, 0.05, 0.1)
    )
    curve = (CurvePoint(-1e-18, 0.1, True), CurvePoint(1.0, 0.3, True), CurvePoint(2.0, 0.4, False))
    best_of = (BestOf(1, 0.1, 0.0), BestOf(8, 0.3, 1.2))
    show_oracle(Oracle(8, 64, 1.3, 0.05, points, best_of, curve))
    out, err = capsys.readouterr()
    assert err == ""
    assert max(map(len, out.splitlines())) <= 80
    rows = [" ".join(line.replace("│", " ").split()) for line in out.splitlines()]
    assert rows[0] == "The optimum, from 8 prompts x 64 completions of the reference at T = 1.3"
    assert "0.05 0.100 0.310 ± 0.020 0.400 0.000 12.3 (min 1.3) no" in rows
    assert "0.1 0.100 0.310 ± 0.020 0.400 0.000 12.3 (min 1.3) yes" in rows
    assert f"beta 0.02, 0.05: {reason}" in " ".join(rows)
    assert "8 0.300 1.200 0.240" in rows
    drawn = out[out.index("Reward against") : out.index("** the optimum")]
    canvas = "".join(line.partition("│")[2] + line.partition("┤")[2] for line in drawn.splitlines())
    assert set(canvas) == {"*", "o", "+", " "}


def test_no_figure_of_a_controlled_beta_is_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    own, figure = 0.0451960437, Estimate(-0.123456, 0.019, 3)
    points = [DialPoint(factor * own, 1 / factor, 0.5, "", figure, figure, figure) for factor in (0.5, 1.0, 2.0)]
    evaluation: Any = SimpleNamespace(prompts=[0, 1, 2], reward=[[0.0] * 4], reference=None, step=6, beta=own)
    show_dial(points, evaluation)
    out = capsys.readouterr().out
    assert "\N{HORIZONTAL ELLIPSIS}" not in out
    assert out.count("0.019") == 9
