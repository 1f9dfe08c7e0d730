"""`rlhf report`: pages of real runs, what train leaves by itself, mistakes, and that it costs nothing."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf_cli.report import writing
from rlhf_cli.report.page import GENERATOR
from tests.pages import parse, said
from tests.support import QUICK, Outcome

Rlhf = Callable[..., Outcome]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished runs; copied, not touched."""
    from rlhf_cli.cli import run

    folder = tmp_path_factory.mktemp("made")
    for name, beta in (("a", 0.05), ("b", 0.2)):
        assert run(["train", *QUICK, f"beta={beta}", f"run_dir={folder / name}"]) == 0
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path) -> Path:
    """The working directory of `rlhf`, with the runs a and b in it."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return tmp_path


def headings(file: Path) -> list[str]:
    return [heading.text or "" for heading in parse(file.read_text(encoding="utf-8")).iter("h2")]


def test_train_leaves_its_page(here: Path) -> None:
    found = headings(here / "a" / "report.html")
    assert found == [
        "Held-out prompts",
        "How it stands",
        "Curves",
        "Time",
        "What changed in the texts, after step 6",
        "All held-out completions",
        "Samples from training",
        "To repeat it",
    ]
    page = said(parse((here / "a" / "report.html").read_text(encoding="utf-8")))
    assert "state finished step 6 of 6" in page
    assert not list(here.rglob(".report.html*"))


def test_the_page_of_one_run(rlhf: Rlhf, made: Path, here: Path) -> None:
    page = here / "a" / "report.html"
    before = said(parse(page.read_text(encoding="utf-8")))
    page.unlink()
    outcome = rlhf("report", "a")
    assert (outcome.code, outcome.out, outcome.err) == (0, "written to a/report.html\n", "")
    after = said(parse(page.read_text(encoding="utf-8")))
    assert f"folder {here / 'a'}" in after  # the run was moved here; nothing else is different
    assert after.replace(str(here), str(made)) == before


def test_the_command_on_the_page_trains_the_same(rlhf: Rlhf, here: Path) -> None:
    text = (here / "a" / "report.html").read_text(encoding="utf-8")
    command = next(line for line in (e.text or "" for e in parse(text).iter("pre")) if line.startswith("rlhf train "))
    assert rlhf(*command.split()[1:], "run_dir=again", "display=quiet").code == 0
    assert (here / "again" / "metrics.jsonl").read_bytes() == (here / "a" / "metrics.jsonl").read_bytes()


def test_a_run_that_goes_on_writes_its_page_again(rlhf: Rlhf, here: Path) -> None:
    assert rlhf("train", "resume=a", "steps=7", "display=quiet").code == 0
    assert "state finished step 7 of 7" in said(parse((here / "a" / "report.html").read_text(encoding="utf-8")))


def test_several_runs(rlhf: Rlhf, here: Path) -> None:
    outcome = rlhf("report", "a", "b", "./a")
    assert (outcome.code, outcome.out) == (0, "written to report.html\n")
    assert headings(here / "report.html") == ["Held-out prompts", "Against a", "Curves", "Settings that differ"]
    page = said(parse((here / "report.html").read_text(encoding="utf-8")))
    assert "2 runs beside one another" in page
    assert "beta.value 0.05 0.2" in page
    assert "not paired" not in page


def test_a_run_that_was_killed(rlhf: Rlhf, here: Path) -> None:
    (here / "a" / "result.json").unlink()
    shutil.rmtree(here / "a" / "adapter")
    for name in ("metrics", "timings", "samples", "evaluations"):
        file = here / "a" / f"{name}.jsonl"
        file.write_bytes(file.read_bytes()[:-20])
    assert rlhf("report", "a").code == 0
    page = said(parse((here / "a" / "report.html").read_text(encoding="utf-8")))
    assert "state stopped step 5 of 6" in page
    assert "After step 3, at T = 1." in page
    assert f"To go on with it: rlhf train resume={here / 'a'}" in page


def test_a_run_that_was_never_evaluated(rlhf: Rlhf, here: Path) -> None:
    assert rlhf("train", *QUICK, "evaluate.every=0", "steps=2", "log_samples=0", "run_dir=never").code == 0
    page = said(parse((here / "never" / "report.html").read_text(encoding="utf-8")))
    assert "Nothing to compare: the run was never evaluated." in page
    assert "Samples from training" not in page


def test_a_page_that_cannot_be_written_fails_no_run(rlhf: Rlhf, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "out").mkdir()
    (here / "out" / "report.html").write_text("mine")
    outcome = rlhf("train", *QUICK, "steps=2", "run_dir=out")
    assert outcome.code == 0
    assert "note: no report.html: there is a file of this name that is no page of rlhf" in outcome.err
    assert (here / "out" / "report.html").read_text() == "mine"

    def full(file: Path, text: str, encoding: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)
        outcome = rlhf("train", *QUICK, "steps=2", "run_dir=full")
    assert outcome.code == 0
    page = here / "full" / "report.html"
    note = f"note: no report.html: the disk refuses: No space left on device ({page}); fix: free space or rights\n"
    assert outcome.err.endswith(note)

    def broken(folders: list[Path]) -> str:
        raise ZeroDivisionError("oh\x1b[31m")

    monkeypatch.setattr(writing, "page_of", broken)
    outcome = rlhf("train", *QUICK, "steps=2", "run_dir=other")
    assert outcome.code == 0
    assert outcome.err.endswith("note: no report.html: ZeroDivisionError: oh·[31m\n")


def test_what_is_no_page_of_ours_stays_unless_it_is_asked_for(rlhf: Rlhf, here: Path) -> None:
    (here / "report.html").write_bytes(b"\xff\xfe mine")
    outcome = rlhf("report", "a", "b")
    assert outcome.code == 2
    assert outcome.err.startswith("error: there is a file of this name that is no page of rlhf (")
    assert outcome.err.endswith("); fix: rlhf report ... --output FILE\n")
    assert (here / "report.html").read_bytes() == b"\xff\xfe mine"
    assert rlhf("report", "a", "b", "--output", "report.html").code == 0
    assert GENERATOR in (here / "report.html").read_text(encoding="utf-8")
    assert rlhf("report", "b", "a").code == 0


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        ([], 2, "the following arguments are required: RUN (rlhf report); fix: rlhf report --help"),
        (["nowhere"], 5, "no such folder (nowhere); fix: name a run's folder"),
        (["nowhere/at-all"], 5, "no such folder (nowhere/at-all); fix: name a run's folder"),
        (["."], 5, "no run here ({cwd}); fix: rlhf runs lists them"),
        (["new"], 5, "no run here ({cwd}/new); fix: it has not begun: nothing was written yet"),
        (["a", "--output", "no/such.html"], 6, "no such folder ({cwd}/no); fix: make it, or name another path"),
        (["a", "--output", "b"], 6, "a folder, and no file for a page ({cwd}/b); fix: rlhf report ... --output FILE"),
        (["a", "--jsn"], 2, "unrecognized arguments: --jsn (rlhf report); fix: did you mean --json?"),
    ],
)
def test_mistakes_are_one_line(argv: list[str], code: int, said: str, rlhf: Rlhf, here: Path) -> None:
    (here / "new").mkdir()
    (here / "new" / "config.json").write_text(json.dumps({"steps": 3}))
    outcome = rlhf("report", *argv)
    assert (outcome.code, outcome.out) == (code, "")
    assert outcome.err == f"error: {said.format(cwd=here)}\n"


def test_a_disk_that_refuses_leaves_nothing(rlhf: Rlhf, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "replace", refused)
    outcome = rlhf("report", "a", "b")
    assert outcome.code == 6
    assert outcome.err.startswith("error: the disk refuses: No space left on device")
    assert not list(here.glob("*report*"))


def test_it_loads_nothing_heavy(here: Path) -> None:
    loaded = "{'torch', 'hydra', 'transformers', 'rich'} & {*sys.modules}"
    ask = f"import sys; from rlhf_cli.cli import run; run(['report', 'a', 'b']); print({loaded})"
    done = subprocess.run([sys.executable, "-c", ask], cwd=here, capture_output=True, text=True, check=True)
    assert done.stdout == "written to report.html\nset()\n", done.stderr


def test_a_sweep_leaves_its_page_and_writes_it_again(forked: Rlhf, tmp_path: Path) -> None:
    sweep = ("config=tiny", "model.layers=1", "steps=2", "evaluate.every=2", "-m", "beta=0.02,0.2", "sweep_dir=s")
    outcome = forked("train", *sweep)
    assert outcome.code == 0, outcome.err
    written = (tmp_path / "s" / "report.html").read_text(encoding="utf-8")
    assert "Reward against KL" in written
    assert len([*(tmp_path / "s").glob("*/report.html")]) == 2
    (tmp_path / "s" / "report.html").unlink()
    assert forked("report", "s").out == "written to s/report.html\n"
    assert (tmp_path / "s" / "report.html").read_text(encoding="utf-8") == written
