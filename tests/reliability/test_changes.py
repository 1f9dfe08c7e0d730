"""A resumed run is the same run, or says why not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import QUICK, Outcome, contents, lines

Rlhf = Callable[..., Outcome]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        pytest.param("optimizer.lr=0.02", "optimizer.lr: 0.01 -> 0.02", marks=pytest.mark.case(25)),
        pytest.param("optimizer.schedule=cosine", "optimizer.schedule: linear -> cosine", marks=pytest.mark.case(25)),
        pytest.param("beta=0.5", "beta.value: 0.01 -> 0.5", marks=pytest.mark.case(26)),
        pytest.param("seed=1", "seed: 0 -> 1", marks=pytest.mark.case(26)),
        pytest.param("data=writing", "data.path: ", marks=pytest.mark.case(26)),
        pytest.param("model.lora.rank=4", "model.lora.rank: 8 -> 4", marks=pytest.mark.case(27)),
        pytest.param("model.lora.dropout=0.1", "model.lora.dropout: 0.0 -> 0.1", marks=pytest.mark.case(27)),
    ],
)
def test_what_changed_is_refused_with_the_difference(
    override: str, said: str, rlhf: Rlhf, copied: Callable[[], Path]
) -> None:
    run = copied()
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    outcome = rlhf("train", "resume=out", "steps=8", override)
    assert outcome.code == 5
    assert outcome.err.startswith("error: the resumed run would not be the same: ")
    assert said in outcome.err
    assert outcome.err.count("\n") == 1
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("override", "key", "metric", "value"),
    [
        pytest.param("optimizer.lr=0.02", "optimizer.lr", "lr", 0.005, marks=pytest.mark.case(25)),
        pytest.param("beta=0.5", "beta", "beta", 0.5, marks=pytest.mark.case(26)),
    ],
)
def test_what_is_allowed_is_obeyed(
    override: str, key: str, metric: str, value: float, rlhf: Rlhf, copied: Callable[[], Path]
) -> None:
    run = copied()
    outcome = rlhf("train", "resume=out", "steps=8", override, f"resume_allow=[{key}]")
    assert outcome.code == 0, outcome.err
    # the learning rate warms up over 4 of 8 steps and falls to zero after the last: the 8th has a quarter of 0.02
    assert lines(run / "metrics.jsonl")[-1][metric] == pytest.approx(value)


@pytest.mark.case(27)
@pytest.mark.parametrize("override", ["model.lora.rank=4", "model.layers=2", "model.lora.target_modules=[q_proj]"])
def test_an_adapter_of_another_shape_is_one_line_even_where_it_is_allowed(
    override: str, rlhf: Rlhf, copied: Callable[[], Path]
) -> None:
    run = copied()
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    outcome = rlhf("train", "resume=out", "steps=8", override, "resume_allow=[model]")
    assert outcome.code == 5
    last = outcome.err.splitlines()[-1]
    assert last.startswith("error: the adapter does not fit the model: ")
    assert last.endswith("; newest valid checkpoint: step 6")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.case(26)
def test_other_prompts_under_the_same_name_are_refused(rlhf: Rlhf, tmp_path: Path) -> None:
    data = tmp_path / "prompts.jsonl"
    data.write_text("".join(json.dumps({"prompt": f"Say {n}."}) + "\n" for n in range(30)))
    assert rlhf("train", *QUICK, "data=jsonl", f"data.path={data}", "run_dir=out", "steps=2").code == 0
    data.write_text(data.read_text().replace("Say 7.", "Say seven."))
    outcome = rlhf("train", "resume=out", "steps=4")
    assert outcome.code == 5
    assert "the data changed since the run began" in outcome.err


NOTHING = "does not say what the run began with"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        *((content, NOTHING) for content in (None, "", "{", "[]", "{}")),
        ('{"data": {}, "model": 3, "reward": {}}', "is not what the run wrote"),
    ],
)
def test_a_run_that_does_not_say_what_it_began_with_is_not_continued(
    content: str | None, what: str, rlhf: Rlhf, copied: Callable[[], Path]
) -> None:
    record = copied() / "run.json"
    record.unlink() if content is None else record.write_text(content)
    outcome = rlhf("train", "resume=out", "steps=8")
    assert outcome.code == 5
    assert outcome.err.splitlines()[-1].startswith(f"error: run.json {what}")


@pytest.mark.case(25)
def test_what_was_allowed_once_is_not_allowed_for_ever(rlhf: Rlhf, copied: Callable[[], Path]) -> None:
    copied()
    assert rlhf("train", "resume=out", "steps=8", "optimizer.lr=0.02", "resume_allow=[optimizer.lr]").code == 0
    outcome = rlhf("train", "resume=out", "steps=9", "optimizer.lr=0.5")
    assert outcome.code == 5
    assert "optimizer.lr: 0.02 -> 0.5" in outcome.err


@pytest.mark.case(26)
def test_other_data_can_be_allowed_and_is_what_counts_from_then_on(rlhf: Rlhf, tmp_path: Path) -> None:
    for name in ("one", "other"):
        rows = (json.dumps({"prompt": f"Say {name} {n}."}) + "\n" for n in range(30))
        (tmp_path / f"{name}.jsonl").write_text("".join(rows))
    assert (
        rlhf("train", *QUICK, "data=jsonl", "prompts=headroom", "data.path=one.jsonl", "run_dir=out", "steps=2").code
        == 0
    )
    outcome = rlhf("train", "resume=out", "steps=4", "data.path=other.jsonl", "resume_allow=[data]")
    assert outcome.code == 0, outcome.err
    assert "the data changed, as allowed: the run continues with the new one" in outcome.err
    state = json.loads((tmp_path / "out" / "checkpoints" / "step-00000004" / "state.json").read_text())
    assert 0 < len(state["headroom"]["groups"]) <= 2 * 2  # of two steps; what the other prompts showed is gone
    assert "nothing to compare: data changed after step 2, and the evaluations with it" in outcome.err
    assert json.loads((tmp_path / "out" / "result.json").read_text())["comparison"] is None
    assert rlhf("train", "resume=out", "steps=6").code == 0


@pytest.mark.case(26)
def test_an_automatic_microbatch_stays_what_it_was(rlhf: Rlhf, tmp_path: Path) -> None:
    assert rlhf("train", *QUICK, "run_dir=out", "steps=2", "evaluate.every=0", "microbatch_size=3").code == 0
    assert rlhf("train", "resume=out", "steps=4", "microbatch_size=auto").code == 0
    assert json.loads((tmp_path / "out" / "config.json").read_text())["microbatch_size"] == 3


@pytest.mark.case(31)
@pytest.mark.parametrize("by", ["resume=out", "resume=auto"])
def test_where_to_go_on_is_found_out_when_the_folder_is_ones_own(
    by: str, rlhf: Rlhf, copied: Callable[[], Path], finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A requeued job starts while the old one does its last steps."""
    import shutil
    from collections.abc import Iterator
    from contextlib import contextmanager

    import rlhf_cli.commands.parts.ready as module

    run, plain = copied(), module.hold
    late = run.with_name("late")
    late.mkdir()
    for step in (4, 6):
        (run / "checkpoints" / f"step-{step:08d}").rename(late / f"step-{step:08d}")

    @contextmanager
    def hold(folder: Path) -> Iterator[None]:
        for checkpoint in late.iterdir():
            shutil.move(checkpoint, run / "checkpoints")
        with plain(folder):
            yield

    monkeypatch.setattr(module, "hold", hold)
    given = ("resume=out",) if by == "resume=out" else (*QUICK, "resume=auto", "run_dir=out")
    outcome = rlhf("train", *given)
    assert outcome.code == 0, outcome.err
    assert "resumed from step 6" in outcome.err
    assert contents(run) == contents(finished)
