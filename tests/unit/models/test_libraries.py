"""The import of torch, transformers and PEFT."""

from __future__ import annotations

import pytest

from rlhf_cli.models.libraries import SPINS, let_threads_sleep


@pytest.mark.parametrize(
    ("environment", "spins"),
    [({}, SPINS), ({"GOMP_SPINCOUNT": "5"}, "5"), ({"OMP_WAIT_POLICY": "ACTIVE"}, None)],
)
def test_threads_sleep_soon_unless_the_user_says_otherwise(environment: dict[str, str], spins: str | None) -> None:
    let_threads_sleep(environment)
    assert environment.get("GOMP_SPINCOUNT") == spins
