"""Pieces of a run's folder, for the tests of those who read one."""

from __future__ import annotations

CONFIG = {"steps": 8, "reward": {"kind": "characters"}, "algorithm": {"kind": "rloo"}}
