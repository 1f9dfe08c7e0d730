"""`rlhf runs`: the table of real runs, how to go on, and that it costs nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf_cli.sweep.record import Ending, SweepRecord, Trial
from tests.support import QUICK, Outcome

Rlhf = Callable[..., Outcome]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, one that was stopped, a trial of a sweep, and one that is broken; copied, not touched."""
    from rlhf_cli.cli import run

    folder = tmp_path_factory.mktemp("outputs")
    done = folder / "2026-01-02" / "03-04-05"
    assert run(["train", *QUICK, "steps=2", "evaluate.every=0", f"run_dir={done}"]) == 0
    config = json.loads((done / "config.json").read_text())
    for name in ("sweeps/2026-01-02/03-04-05/beta=0.02,temperature=0.8-3fa2c1", "odd [red]\x1b[2J name", "broken"):
        shutil.copytree(done, folder / name)
        (folder / name / "config.json").write_text(json.dumps(config | {"steps": 40}))
    for weights in (folder / "broken").rglob("adapter_model.safetensors"):
        weights.write_bytes(weights.read_bytes()[:-1])
    for age, name in enumerate(("broken", "odd [red]\x1b[2J name", "sweeps/2026-01-02/03-04-05", "2026-01-02")):
        for file in [*(folder / name).rglob("config.json"), *(folder / name).rglob("metrics.jsonl")]:
            os.utime(file, (1e9 - age, 1e9 - age))
    return folder


@pytest.fixture
def here(outputs: Path, tmp_path: Path) -> Path:
    """The working directory of `rlhf`, with these runs under outputs/."""
    shutil.copytree(outputs, tmp_path / "outputs", copy_function=shutil.copy2)
    return tmp_path


@pytest.mark.parametrize("columns", [80, 140])
def test_the_table(columns: int, here: Path, rlhf: Rlhf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    outcome = rlhf("runs")
    assert (outcome.code, outcome.err) == (0, "")
    table, commands, faults = outcome.out.split("\n\n")
    about = [row.strip() for row in table.splitlines() if row.startswith("    ")]
    rows = [row for row in table.splitlines() if not row.startswith("    ")]
    assert rows[0].split() == ["state", "step", "J", "reward", "KL", "saved", "run"]
    assert about == ["tiny · rloo · characters"] * 4
    assert [(row.split()[0], *row.split()[-1:]) if row[0] == " " else row for row in rows[1:]] == [
        "outputs/",
        ("broken", "broken"),
        ("stopped", "name"),
        "outputs/sweeps/2026-01-02/03-04-05/",
        ("stopped", "beta=0.02,temperature=0.8-3fa2c1"),
        "outputs/2026-01-02/",
        ("finished", "03-04-05"),
    ]
    assert all(len(row) <= 80 for row in rows)
    metrics = json.loads((here / "outputs/broken/metrics.jsonl").read_text().splitlines()[-1])
    figures = f"{metrics['objective']:+.3f}  {metrics['reward/mean']:+.3f}  {metrics['kl/seq']:.2f}"
    assert rows[2] == f"  broken    2/40  {figures}   none  broken"
    assert rows[3] == f"  stopped   2/40  {figures}      2  odd [red]·[2J name"
    assert rows[7] == f"  finished   2/2  {figures}      2  03-04-05"
    assert commands.splitlines() == [
        "Continue",
        "  rlhf train resume='outputs/odd [red]·[2J name'",
        "  rlhf train resume=outputs/sweeps/2026-01-02/03-04-05/beta=0.02,temperature=0.8-3fa2c1",
    ]
    assert faults.startswith(
        "Not as it should be\n  outputs/broken: no usable checkpoint: step-00000002: adapter_model"
    )


def test_as_json(here: Path, rlhf: Rlhf) -> None:
    rows = [json.loads(line) for line in rlhf("runs", "outputs/2026-01-02", "outputs", "--json").out.splitlines()]
    assert [row["state"] for row in rows] == ["broken", "stopped", "stopped", "finished"]
    last = rows[-1]
    assert last["folder"] == str(here / "outputs/2026-01-02/03-04-05")
    assert last["continue"] == "rlhf train resume=outputs/2026-01-02/03-04-05 steps=4"
    assert last["checkpoint"] == last["folder"] + "/checkpoints/step-00000002"
    assert (last["step"], last["steps"], last["reason"]) == (2, 2, "")


def test_the_command_it_gives_works_and_changes_what_it_says(here: Path, rlhf: Rlhf) -> None:
    (row,) = (json.loads(line) for line in rlhf("runs", "outputs/2026-01-02", "--json").out.splitlines())
    assert rlhf(*row["continue"].split()[1:], "display=quiet").code == 0
    (row,) = (json.loads(line) for line in rlhf("runs", "outputs/2026-01-02", "--json").out.splitlines())
    assert (row["state"], row["step"], row["steps"]) == ("finished", 4, 4)


def test_it_only_reads(here: Path, rlhf: Rlhf) -> None:
    def seen() -> list[tuple[str, int, float]]:
        return sorted((str(f), f.stat().st_size, f.stat().st_mtime) for f in here.rglob("*"))

    before = seen()
    assert rlhf("runs").code == 0
    assert seen() == before


@pytest.mark.parametrize(
    ("argv", "code", "said"),
    [
        ([], 5, "no run there: no folder with the config.json of one ({cwd}/outputs); fix: start one (rlhf train"),
        (["."], 5, "no run there: no folder with the config.json of one ({cwd}); fix: "),
        (["nowhere"], 5, "no such folder (nowhere); fix: name a folder with runs"),
        (["--jsn"], 2, "unrecognized arguments: --jsn (rlhf runs); fix: did you mean --json?"),
    ],
)
def test_mistakes_are_one_line(argv: list[str], code: int, said: str, rlhf: Rlhf, tmp_path: Path) -> None:
    outcome = rlhf("runs", *argv)
    assert outcome.code == code
    assert outcome.err.startswith("error: " + said.format(cwd=tmp_path))
    assert outcome.err.count("\n") == 1


def test_it_loads_nothing_heavy(here: Path) -> None:
    """torch and hydra take seconds; a table of what is on disk needs neither."""
    loaded = "{'torch', 'hydra', 'transformers'} & {*sys.modules}"
    ask = f"import sys; from rlhf_cli.cli import run; run(['runs']); print({loaded})"
    done = subprocess.run([sys.executable, "-c", ask], cwd=here, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("  state "), done.stderr
    assert done.stdout.splitlines()[-1] == "set()"


def test_a_sweep_stands_together_and_goes_on_by_one_command(here: Path, rlhf: Rlhf) -> None:
    folder = here / "outputs" / "sweeps" / "2026-01-02" / "03-04-05"
    (stopped,) = folder.iterdir()
    for name in ("done", "failed"):
        shutil.copytree(here / "outputs" / "2026-01-02" / "03-04-05", folder / name)
    config = json.loads((stopped / "config.json").read_text())
    (folder / "failed" / "config.json").write_text(json.dumps(config))
    Ending(-9, "killed by SIGKILL").write(folder / "failed")
    Ending(75, "stopped: Ctrl-C").write(stopped)
    names = (stopped.name, "done", "failed", "not begun")
    trials = tuple(Trial(name, {}, 2) for name in names)
    SweepRecord(folder, "rlhf train -m beta=0.02,0.1,0.2", trials, str(here)).write()
    table, commands, faults = rlhf("runs").out.split("\n\n")
    assert "outputs/sweeps/2026-01-02/03-04-05/  a sweep, 1 of 4 trials finished" in table
    states = {line.split()[-1]: line.split()[0] for line in table.splitlines()[1:]}
    assert [states[name] for name in names[:3]] == ["stopped", "finished", "failed"]
    assert commands.splitlines()[1].strip() == "rlhf train -m beta=0.02,0.1,0.2"
    assert "resume=outputs/sweeps" not in commands
    assert "outputs/sweeps/2026-01-02/03-04-05/failed/log.txt: killed by SIGKILL" in faults
    # with more steps wanted none is finished, and from elsewhere the command needs its folder
    SweepRecord(folder, "rlhf train -m beta=0.02", tuple(Trial(name, {}, 3) for name in names), "/else where").write()
    table, commands, _ = rlhf("runs").out.split("\n\n")
    assert "a sweep, 0 of 4 trials finished" in table
    assert "  cd '/else where' && rlhf train -m beta=0.02" in commands.splitlines()
    rows = {Path(row["folder"]).name: row for row in map(json.loads, rlhf("runs", "--json").out.splitlines())}
    assert [(rows[name]["sweep"], rows[name]["failed"]) for name in ("failed", "done")] == [
        (str(folder), "killed by SIGKILL"),
        (str(folder), ""),
    ]
    assert rows["broken"]["sweep"] is None
