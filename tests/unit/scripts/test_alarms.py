"""scripts/benchmark/alarms.py: its runs compose, and its faults name rules that there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from rlhf_cli.config.jobs import compose_config
from rlhf_cli.health.rules import RULES
from tests.scripts import load_beside

alarms = load_beside("benchmark/alarms.py")


def test_every_fault_fits_rules_and_every_rule_has_a_fault() -> None:
    assert {rule for fault in alarms.FAULTS for rule in fault.fits} == {*RULES}
    assert len({fault.name for fault in alarms.FAULTS}) == len(alarms.FAULTS) == 20


def test_a_broken_run_is_a_healthy_one_with_its_fault(tmp_path: Path) -> None:
    alarms.write_files(tmp_path)
    healthy = alarms.draw(0)
    config = compose_config(healthy)
    (fault,) = [fault for fault in alarms.FAULTS if fault.function == "opposite"]
    broken = compose_config(alarms.damage(healthy, fault, tmp_path))
    changed = {name for name in type(config).model_fields if getattr(config, name) != getattr(broken, name)}
    assert changed == {"data", "reward", "optimizer", "evaluate"}
    assert broken.optimizer.lr == pytest.approx(0.06)
