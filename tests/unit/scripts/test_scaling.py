"""scripts/clusters/scaling.py: the time of a step by hand, and its table in docs/scaling.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scripts import load

scaling = load("clusters/scaling.py")

DEVICE = scaling.Device(token_s=0.1, row_s=0.01, read_s=0.5, own_s=1.0)
LINK = scaling.Link(bytes_per_s=100.0, message_s=0.0)
BATCH = scaling.Batch(rows=8, positions=10, adapter_bytes=50, row_bytes=20)


def test_one_process_sends_nothing() -> None:
    assert scaling.step_s(DEVICE, LINK, BATCH, 1) == pytest.approx(1 + 10 * (0.1 + 0.08) + 8 * 0.5)
    # four shards of two rows, one after another: every position costs its 0.1 s four times
    assert scaling.step_s(DEVICE, LINK, BATCH, 1, shards=4) == pytest.approx(1 + 4 * 10 * (0.1 + 0.02) + 8 * 0.5)


def test_two_processes_halve_the_rows_and_send() -> None:
    # weights out and a gradient back; the states of four rows, three times
    sent = (50 + 50 + 3 * 4 * 20) / 100
    assert scaling.step_s(DEVICE, LINK, BATCH, 2) == pytest.approx(1 + 10 * (0.1 + 0.04) + 4 * 0.5 + sent)
    on_one_core = scaling.step_s(DEVICE, LINK, BATCH, 2, cores=1)
    assert on_one_core == pytest.approx(1 + 2 * (10 * (0.1 + 0.04) + 4 * 0.5) + sent)


def test_a_device_is_found_from_its_own_times() -> None:
    def run(shards: int) -> object:
        decoded = shards * 10 * (DEVICE.token_s + DEVICE.row_s * 8 / shards)
        return scaling.Timed(1, shards, decoded + 5, decoded, 8 * DEVICE.read_s, DEVICE.own_s, 0.0)

    found = scaling.fit([run(shards) for shards in (1, 2, 4)], BATCH)
    assert scaling.asdict(found) == pytest.approx(scaling.asdict(DEVICE))


def test_where_a_doubling_no_longer_pays() -> None:
    assert scaling.last_that_pays([8.0, 4.0, 3.2, 3.0, 1.0]) == 4  # 4 / 3.2 is 1.25, and 3.2 / 3 is not
    assert scaling.last_that_pays([8.0, 8.0]) == 1


def test_the_table_stands_in_the_docs(capsys: pytest.CaptureFixture[str]) -> None:
    scaling.print_table(scaling.predicted())
    page = (Path(__file__).parents[3] / "docs" / "scaling.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out in page
