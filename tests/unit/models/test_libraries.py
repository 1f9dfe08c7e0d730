"""The import of torch, transformers and PEFT."""

from __future__ import annotations

import pytest

from rlhf_cli.models import libraries
from rlhf_cli.models.libraries import AMD, PATIENT, SPINS, let_threads_sleep


@pytest.mark.parametrize(
    ("vendor", "makes_room", "environment", "spins"),
    [
        (AMD, False, {}, SPINS),
        (AMD, True, {}, PATIENT),
        ("GenuineIntel", True, {}, SPINS),
        ("", True, {}, SPINS),
        (AMD, True, {"GOMP_SPINCOUNT": "5"}, "5"),
        (AMD, True, {"OMP_WAIT_POLICY": "ACTIVE"}, None),
    ],
)
def test_threads_sleep_soon_unless_they_make_room_or_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch, vendor: str, makes_room: bool, environment: dict[str, str], spins: str | None
) -> None:
    monkeypatch.setattr(libraries, "cpu_vendor", lambda: vendor)
    let_threads_sleep(environment, makes_room=makes_room)
    assert environment.get("GOMP_SPINCOUNT") == spins
