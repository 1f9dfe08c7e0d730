"""rlhf sft, rlhf dpo and rlhf reward train as whole commands."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from rlhf_cli.cli import run
from rlhf_cli.config.compose import amend_for
from rlhf_cli.models.reward_model import make_score
from rlhf_cli.pipeline import assemble
from rlhf_cli.prompts.encoding import Encoded
from rlhf_cli.prompts.rows import read_rows
from rlhf_cli.verbs import REWARD_TRAIN
from tests.pages import parse, said
from tests.support import Outcome, lines

Rlhf = Callable[..., Outcome]

QUICK: Final = (
    "config=tiny", "model.layers=1", "steps=4", "prompts_per_step=4", "evaluate.every=2", "evaluate.prompts=4",
    "checkpoint.every=2", "sinks=[]",
)  # fmt: skip
VERBS: Final = {"sft": ("sft",), "dpo": ("dpo",), "reward": ("reward", "train")}


@pytest.fixture(scope="module", params=VERBS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A verb, and the folder of a finished run of it; leave it as it is."""
    folder = tmp_path_factory.mktemp(request.param) / "out"
    assert run([*VERBS[request.param], *QUICK, f"run_dir={folder}", "display=quiet"]) == 0
    return request.param, folder


def test_a_run_shows_its_steps_its_figures_and_what_may_follow(rlhf: Rlhf, tmp_path: Path) -> None:
    outcome = rlhf("dpo", *QUICK, "run_dir=out", "display=plain")
    assert outcome.code == 0, outcome.err
    assert "step 4/4  loss 0." in outcome.err
    assert "step 4/4  held-out: loss 0." in outcome.err
    assert "Held-out, after 4 steps: 4 rows" in outcome.out
    assert "rlhf dpo resume=out steps=8" in outcome.out
    assert "model.adapter" not in outcome.out  # a tiny model takes none


def test_json_is_the_metrics_and_then_the_result(rlhf: Rlhf, tmp_path: Path) -> None:
    outcome = rlhf("sft", *QUICK, "run_dir=out", "display=json")
    rows = [json.loads(line) for line in outcome.out.splitlines()]
    assert rows[:-1] == lines(tmp_path / "out" / "metrics.jsonl")
    assert rows[-1]["result"] == json.loads((tmp_path / "out" / "result.json").read_text())
    assert rows[-1]["result"]["task"] == "sft"


def test_a_finished_run_changes_nothing_and_more_steps_go_on(
    trained: tuple[str, Path], rlhf: Rlhf, tmp_path: Path
) -> None:
    verb, folder = trained
    copy = shutil.copytree(folder, tmp_path / "out")
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    outcome = rlhf(*VERBS[verb], "resume=out", "display=plain")
    assert outcome.code == 0, outcome.err
    assert "is finished, nothing was changed" in outcome.out
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before
    outcome = rlhf(*VERBS[verb], "resume=out", "steps=5", "display=quiet")
    assert outcome.code == 0, outcome.err
    note = "note: the schedules depend on steps, which changed: they go on as if it had been so from the start"
    assert note in outcome.err.splitlines()
    assert lines(copy / "metrics.jsonl")[-1]["step"] == 5


def test_the_last_stretch_repeats_bit_for_bit(
    trained: tuple[str, Path], rlhf: Rlhf, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, folder = trained
    outcome = rlhf("verify-resume", str(folder))
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("identical: steps 3-4, 2 metrics lines, 1 evaluation, ")
    of_step = Encoded.of_step
    monkeypatch.setattr(Encoded, "of_step", lambda self, step, *more: of_step(self, step - 1, *more))
    outcome = rlhf("verify-resume", str(folder))
    assert outcome.code == 5
    assert "not identical from step 3 on: metrics: " in outcome.err


def test_a_step_that_may_not_fit_into_memory_is_noted(
    rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = ("sft", *QUICK, "steps=1", "evaluate.every=0")
    assert "a step may need" not in rlhf(*quick, "run_dir=fits").err
    peak = json.loads((tmp_path / "fits" / "run.json").read_text())["memory"]["predicted_mib"] * 2**20
    for total, begins in ((peak // 2, "a step may need "), (peak // 40, "a step would need ")):
        monkeypatch.setattr(assemble, "total_memory", lambda device, total=total: total)
        outcome = rlhf(*quick, f"run_dir={total}")
        assert begins in outcome.err
        assert "lower microbatch_size, or the length of the texts" in outcome.err
        assert (tmp_path / str(total)).exists() is (begins == "a step may need ")


def test_it_leaves_no_completions_to_label(trained: tuple[str, Path], rlhf: Rlhf) -> None:
    verb, folder = trained
    assert not (folder / "samples.jsonl").exists()
    outcome = rlhf("label", str(folder))
    said = f"error: a run of rlhf {' '.join(VERBS[verb])}, not of rlhf train ({folder}); fix: only runs of rlhf train"
    assert (outcome.code, outcome.err[: len(said)]) == (5, said)


def test_two_runs_are_compared_on_a_page(trained: tuple[str, Path], rlhf: Rlhf, tmp_path: Path) -> None:
    _, folder = trained
    shutil.copytree(folder, tmp_path / "copy")
    outcome = rlhf("report", str(folder), "copy")
    assert (outcome.code, outcome.out) == (0, "written to report.html\n")
    page = said(parse((tmp_path / "report.html").read_text(encoding="utf-8")))
    assert "+0.000 ± 0.000" in page
    assert "not paired" not in page


def test_runs_lists_it_with_the_command_that_goes_on(trained: tuple[str, Path], rlhf: Rlhf, tmp_path: Path) -> None:
    verb, folder = trained
    copy = shutil.copytree(folder, tmp_path / "out")
    (copy / "result.json").unlink()
    listed = json.loads(rlhf("runs", ".", "--json").out)
    words = " ".join(VERBS[verb])
    assert (listed["state"], listed["verb"], listed["continue"]) == ("stopped", words, f"rlhf {words} resume=out")
    assert listed["made_of"] == ["tiny", {"sft": "sft", "dpo": "dpo", "reward": "bradley_terry"}[verb]]


def test_latest_is_the_latest_of_the_verb(trained: tuple[str, Path], rlhf: Rlhf, tmp_path: Path) -> None:
    verb, folder = trained
    copy = shutil.copytree(folder, tmp_path / "outputs" / "out")
    (copy / "result.json").unlink()
    other = VERBS["dpo" if verb == "sft" else "sft"]
    assert "no unfinished run" in rlhf(*other, "resume=latest").err
    assert rlhf(*VERBS[verb], "resume=latest", "display=quiet").code == 0
    assert (copy / "result.json").exists()


def test_a_policy_answers_and_a_reward_model_does_not(trained: tuple[str, Path], rlhf: Rlhf) -> None:
    verb, folder = trained
    outcome = rlhf("generate", str(folder), "Say a.", "--max-new-tokens", "3")
    if verb == "reward":
        assert outcome.code == 5
        assert "a reward model scores texts, and writes none" in outcome.err
    else:
        assert outcome.code == 0, outcome.err
        assert outcome.out.strip()


def test_a_trained_reward_model_gives_the_scores_of_its_training(tmp_path: Path, rlhf: Rlhf) -> None:
    assert rlhf("reward", "train", *QUICK, "run_dir=out", "optimizer.lr=0.03", "display=quiet").code == 0
    folder = tmp_path / "out"
    config = amend_for(REWARD_TRAIN, json.loads((folder / "config.json").read_text()), ())
    rows = read_rows(config).held_out
    score = make_score(
        str(folder), revision=None, label=None, activation="none", reads="auto", max_tokens=999, batch_size=4,
        device="cpu", dtype="float32",
    )  # fmt: skip
    columns = lines(folder / "evaluations.jsonl")[-1]["columns"]
    for side in ("chosen", "rejected"):
        scores = score([row.prompt for row in rows], [row.columns[side] for row in rows])
        assert scores == pytest.approx(columns[side], abs=1e-5)
    assert max(columns["chosen"]) > 0.01


@pytest.mark.parametrize(
    ("argv", "code", "what"),
    [
        (("sft", *QUICK, "objective=dpo"), 2, "objective=dpo is for rlhf dpo"),
        (("sft", *QUICK, "patience=2", "evaluate.every=0"), 2, "patience: needs held-out losses"),
        (("sft", *QUICK, "patience=2", "checkpoint.keep_best=false"), 2, "patience: exports the best step"),
        (("dpo", *QUICK, "objective.chosen=better"), 3, "no column 'better'"),
        (("dpo", *QUICK, "algorithm=ppo"), 2, "algorithm"),
        (("sft", *QUICK, "-m", "seed=1,2"), 2, "-m"),
        (("sft", *QUICK, "max_new_tokens=1"), 3, "more than max_new_tokens=1"),
        (("sft", *QUICK, "resume=auto"), 2, "resume=auto needs a folder"),
        (("reward", "trian"), 2, "unknown verb 'reward trian'"),
    ],
)
def test_mistakes_are_one_line_and_leave_no_folder(
    argv: tuple[str, ...], code: int, what: str, rlhf: Rlhf, tmp_path: Path
) -> None:
    outcome = rlhf(*argv, *(["display=quiet"] if argv[-1] != "trian" else []))
    assert outcome.code == code, outcome.err
    assert what in outcome.err.splitlines()[-1]
    assert not list(tmp_path.rglob("*.json"))
