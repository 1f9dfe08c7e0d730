"""A policy for the tests of the room."""

from __future__ import annotations

import pytest

from rlhf_cli.models.policy import Policy
from tests.unit.support import build, tiny


@pytest.fixture(scope="session")
def tiny_policy() -> Policy:
    """A tiny Llama as it was born: the policy is the reference. Shared, so leave it as it is."""
    return build(tiny())
