"""Parquet files and data sets of the hub; what needs an extra is for scripts/test --all."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from logging import ERROR, getLogger
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from rlhf_cli.data.hub import Hub
from rlhf_cli.data.parquet import Parquet
from rlhf_cli.data.reading import read_source
from rlhf_cli.data.source import as_json
from rlhf_cli.errors import EXIT_DATA, UserError
from tests.unit.support import data_fields


def parquet(path: Path, **changes: Any) -> Parquet:
    return Parquet.model_validate(data_fields(kind="parquet", path=str(path), **changes))


def hub(**changes: Any) -> Hub:
    fields = data_fields(kind="hub", id="me/set", name=None, split="train", eval_split=None, revision=None)
    del fields["path"], fields["eval_path"]
    return Hub.model_validate(fields | changes)


@pytest.mark.parametrize(("kind", "module"), [("parquet", "pyarrow"), ("hub", "datasets")])
def test_an_extra_that_is_missing_is_named_in_one_line(
    kind: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "p.parquet").touch()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError) as caught:
        read_source(parquet(tmp_path / "p.parquet") if kind == "parquet" else hub())
    assert caught.value.line() == (
        f"data={kind} needs {module}, which is not installed (data); fix: pip install 'rlhf-cli[{kind}]'"
    )
    assert caught.value.exit_code == EXIT_DATA


class Refused(Exception):
    """What datasets raises."""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the library is asked for; it has two rows of everything but the split `none`."""
    found: list[tuple[Any, ...]] = []

    def load_dataset(path: str, name: str | None, *, split: str, revision: str | None) -> list[dict[str, Any]]:
        found.append((path, name, split, revision))
        if split == "none":
            raise Refused("there is no such split.\nIt has: train")
        return [{"prompt": f"{split} {i}", "day": datetime.date(2026, 1, i)} for i in (1, 2)]

    module: Any = ModuleType("datasets")
    module.load_dataset, module.exceptions = load_dataset, SimpleNamespace(DatasetsError=Refused)
    module.logging = SimpleNamespace(set_verbosity_error=lambda: None)
    module.disable_progress_bars = lambda: found.append(("no bars",))
    monkeypatch.setitem(sys.modules, "datasets", module)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    return found


def test_a_split_of_the_hub(asked: list[tuple[Any, ...]]) -> None:
    found = read_source(hub(name="main", revision="abc"))
    assert [(row.shown, row.where) for row in found.rows] == [
        ("train 1", "me/set/train:1"),
        ("train 2", "me/set/train:2"),
    ]
    assert found.rows[0].columns == {"day": "2026-01-01"}  # JSON has no dates
    assert asked == [("me/set", "main", "train", "abc")]


def test_rows_of_a_table_are_json() -> None:
    """A text that is stored as bytes is that text, and a number that is missing is null."""
    row = {"text": "né".encode(), "image": b"\xff\xd8", "day": datetime.date(2026, 1, 1), "n": 2.0, "of": [{"x": b"y"}]}
    assert as_json(row | {"answer": float("nan"), "top": float("inf")}) == {
        "text": "né",
        "image": "b'\\xff\\xd8'",
        "day": "2026-01-01",
        "n": 2.0,
        "of": [{"x": "y"}],
        "answer": None,
        "top": None,
    }


def test_held_out_prompts_may_come_from_another_split(asked: list[tuple[Any, ...]]) -> None:
    assert hub().sets_aside
    source = hub(eval_split="test")
    assert not source.sets_aside
    assert read_source(source, held_out=True).rows[0].shown == "test 1"
    assert read_source(source).rows[0].shown == "train 1"


@pytest.mark.parametrize("is_watched", [True, False])
def test_bars_are_for_a_download_that_is_watched(
    is_watched: bool, asked: list[tuple[Any, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_watched)
    log = getLogger("huggingface_hub")
    log.setLevel("WARNING")
    read_source(hub())
    assert (("no bars",) in asked) is not is_watched
    assert log.level == ERROR
    read_source(hub(id=str(tmp_path)))
    assert ("no bars",) in asked


@pytest.mark.usefixtures("asked")
def test_a_folder_has_no_revisions(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is a folder, which has no revisions: abc would be ignored \(data.revision\)"):
        read_source(hub(id=str(tmp_path), revision="abc"))


@pytest.mark.usefixtures("asked")
def test_a_missing_split_is_refused() -> None:
    with pytest.raises(UserError) as caught:
        read_source(hub(split="none"))
    assert caught.value.line() == (
        "cannot load the data set: there is no such split (me/set/none); "
        "fix: check data.id, data.name, data.split and the network"
    )
    assert caught.value.exit_code == EXIT_DATA


def test_a_parquet_file_that_ends_early_is_named_by_the_row_behind_its_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(Exception):
        """The error of a file that ends early."""

    def iter_batches(batch_size: int) -> Iterator[Any]:
        yield SimpleNamespace(to_pylist=lambda: [{"prompt": "a"}, {"prompt": "b"}])
        raise Broken("unexpected end of stream.\nmore")

    table = SimpleNamespace(iter_batches=iter_batches)
    arrow: Any = ModuleType("pyarrow")
    arrow.ArrowException = Broken
    arrow.parquet = SimpleNamespace(ParquetFile=lambda file: nullcontext(table))
    monkeypatch.setitem(sys.modules, "pyarrow", arrow)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", arrow.parquet)
    (tmp_path / "p.parquet").touch()
    assert [row.where for row in read_source(parquet(tmp_path / "p.parquet"), limit=1).rows] == ["p.parquet:1"]
    with pytest.raises(UserError, match=r"^not parquet: unexpected end of stream.? \(p\.parquet:3\)"):
        read_source(parquet(tmp_path / "p.parquet"))


@pytest.mark.slow
def test_parquet_is_read_batch_by_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow")
    from pyarrow import parquet as library
    from pyarrow import table

    monkeypatch.setattr("rlhf_cli.data.parquet.BATCH", 2)
    days = [datetime.date(2026, 1, i) for i in range(1, 6)]
    library.write_table(table({"prompt": list("abcde"), "n": range(5), "day": days}), tmp_path / "p.parquet")
    found = read_source(parquet(tmp_path / "p.parquet", where={"n": [0, 3]}))
    assert [(row.shown, row.where, row.columns) for row in found.rows] == [
        ("a", "p.parquet:1", {"n": 0, "day": "2026-01-01"}),
        ("d", "p.parquet:4", {"n": 3, "day": "2026-01-04"}),
    ]
    (tmp_path / "p.parquet").write_bytes(b"PAR1 is not enough")
    with pytest.raises(UserError, match=r"^not parquet: .* \(p\.parquet:1\)"):
        read_source(parquet(tmp_path / "p.parquet"))
