"""The memory that a run is expected to take, and its files where it begins and where it goes back."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rlhf_cli.engine.memory import forward_bytes
from rlhf_cli.engine.native import NativeEngine
from rlhf_cli.errors import EXIT_RESUME, UserError
from rlhf_cli.models.policy import Policy
from rlhf_cli.pipeline import assemble
from rlhf_cli.pipeline.record import BUILD, GROUND
from rlhf_cli.pipeline.saving import Saver
from rlhf_cli.pipeline.state import Best, TrainState
from rlhf_cli.prompts.headroom import Headroom
from rlhf_cli.ranks.team import Team
from rlhf_cli.runs.binding import CHANGED, CONFIGS, read_record
from rlhf_cli.runs.folder import CHECKPOINTS
from rlhf_cli.runs.logbook import Logbook
from rlhf_cli.runs.resume import Origin
from tests.unit.pipeline.runs import MakeRun
from tests.unit.support import Recorder, config_of


class Two(Team):
    """The first of two processes."""

    size = 2


@pytest.mark.parametrize(
    ("held_out", "draws", "completions", "at_once"),
    [
        (0, "uniform", 15, 6),
        (5, "uniform", 20, 8),  # 2 of 5 held-out prompts with 4 completions each
        (0, "dynamic", 60, 6),  # of 4 rollouts, which are written one after the other
    ],
)
def test_a_process_writes_a_shard_at_a_time_and_keeps_the_pass_of_its_own(
    held_out: int,
    draws: str,
    completions: int,
    at_once: int,
    policy: Policy,
    make_run: MakeRun,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Five prompts in shards of 2, 2 and 1; the first of two processes has the first and the third."""
    asked = list[tuple[int, int]]()

    def predicted(policy: Policy, *shape: int, at_once: int, **_: Any) -> int:
        asked.append((shape[2], at_once))
        return 1000

    monkeypatch.setattr(assemble, "predicted_peak", predicted)
    evaluate = {"every": 1, "prompts": 2, "samples": 4}
    settings = {"prompts_per_step": 5, "samples_per_prompt": 3, "shards": 3, "evaluate": evaluate, "prompts": draws}
    run = make_run(policy, reuse_forward=True, max_rollouts=4, **settings)
    longest = max(len(prompt.tokens) for prompt in run.held_out) + run.config.max_new_tokens
    forward = forward_bytes(policy, 5 * (longest + 2 * run.config.max_new_tokens))
    of = run.config, policy, NativeEngine(policy), run.prompts, run.held_out[:held_out]
    peaks = [assemble.fit_memory(*of, team)[1] for team in (Team(), Two())]
    assert peaks == [1000 + forward, 1000 + forward * 3 // 5]
    assert asked == [(completions, at_once)] * 2


def test_the_reward_s_own_process_has_its_part_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of 6 GiB beside a reward of 2 fits into 8 and not into less; a GPU's memory has no such part."""
    monkeypatch.setattr(assemble, "resident_of_children", lambda: 2 * assemble.GIB)
    for total, kind, noted in (
        (8.0, "cpu", []),
        (7.9, "cpu", ["a step may need 8.0 GiB of memory"]),
        (7.9, "cuda", []),
    ):
        monkeypatch.setattr(assemble, "total_memory", lambda device, total=total: total * assemble.GIB)
        watch = Recorder()
        assemble.check_memory(torch.device(kind), 6 * assemble.GIB, watch, "it")
        assert [note.partition(",")[0] for note in watch.notes] == noted


@pytest.mark.parametrize(("peak", "refused"), [(9.9, False), (10.0, False), (10.2, True)])
def test_a_step_that_no_prediction_could_be_wrong_about_is_refused(
    peak: float, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assemble, "resident_of_children", lambda: 0)
    monkeypatch.setattr(assemble, "total_memory", lambda device: assemble.GIB)
    watch, bytes_ = Recorder(), int(peak * assemble.GIB)
    if refused:
        with pytest.raises(
            UserError, match=r"^a step would need 10.2 GiB of memory, and there are 1.0; fix: lower it$"
        ):
            assemble.check_memory(torch.device("cpu"), bytes_, watch, "it")
    else:
        assemble.check_memory(torch.device("cpu"), bytes_, watch, "it")
        (note,) = watch.notes
        assert note.endswith("GiB of memory, and there are 1.0: take dtype=bfloat16 or a smaller model, or lower it")


def record_of(**changes: Any) -> dict[str, Any]:
    """What run.json says at the start."""
    ground = dict.fromkeys(GROUND, "same") | {"device": "cpu", "dtype": "float32", "command": ["rlhf", "train"]}
    hashes = {"data": {"sha256": "d"}, "model": {"sha256_sampled": "m"}, "reward": {"sha256": "5", "environment": None}}
    return ground | hashes | {BUILD: "b", CONFIGS: []} | changes


class Folder:
    """The folder of a run that is begun, saved and taken back."""

    def __init__(self, folder: Path, policy: Policy) -> None:
        self.folder, self.policy, self.watch = folder, policy, Recorder()
        self.open: list[Logbook] = []

    def settle(
        self, record: dict[str, Any] | None = None, step: int | None = None, **settings: Any
    ) -> tuple[TrainState, Saver, Logbook]:
        config = config_of(sinks=[], **settings)
        origin = None if step is None else Origin(self.folder, self.folder / CHECKPOINTS / f"step-{step:08d}", ())
        settled = assemble.settle(config, self.folder, record or record_of(), self.policy, origin, self.watch)
        state, self.optimizer, saver, logbook = settled
        self.open.append(logbook)
        return state, saver, logbook

    def save(self, state: TrainState, saver: Saver, logbook: Logbook) -> TrainState:
        state = replace(state, logs=logbook.marks())
        assert saver.save(state, self.policy, self.optimizer, logbook.sync, needed=True)
        return state


@pytest.fixture
def home(tmp_path: Path, policy: Policy) -> Iterator[Folder]:
    (tmp_path / "run").mkdir()
    made = Folder(tmp_path / "run", policy)
    yield made
    for logbook in made.open:
        logbook.close()


@pytest.mark.parametrize(
    ("asked", "taken", "notes"),
    [
        ("auto", "bfloat16", ["bfloat16 weights, which are quick on this CPU; dtype=float32 rounds less"]),
        ("auto", "float32", []),
        ("bfloat16", "bfloat16", []),
    ],
)
def test_a_run_begins_with_its_settings_and_what_it_found(
    asked: str, taken: str, notes: list[str], home: Folder
) -> None:
    state, saver, _ = home.settle(record_of(dtype=taken), dtype=asked, resume_allow=["seed"])
    text = (home.folder / "config.json").read_text()
    config = config_of(sinks=[], dtype=taken).model_dump(mode="json")
    assert text == json.dumps(config, indent=2) + "\n"
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    record = read_record(home.folder)
    assert (record[CONFIGS], saver.bound) == ([sha256], {"config.json": sha256})
    assert (record["command"], record["dtype"]) == (["rlhf", "train"], taken)
    assert state == TrainState()
    assert home.watch.notes == notes


def test_a_run_goes_back_to_the_bytes_of_its_checkpoint(home: Folder) -> None:
    state, saver, logbook = home.settle()
    logbook.metrics(1, {"objective": 1.0})
    first = home.save(
        replace(state, step=2, sampler_gap=0.5, headroom=Headroom(), best=Best(2, 1.0, 0.0)), saver, logbook
    )
    files = {file.name: file.read_bytes() for file in home.folder.iterdir() if file.is_file()}
    logbook.metrics(3, {"objective": 2.0})
    home.save(replace(state, step=4), saver, logbook)
    (home.folder / "result.json").write_text("{}")
    again, _, _ = home.settle(step=2)
    assert again == first
    assert {file.name: file.read_bytes() for file in home.folder.iterdir() if file.is_file()} == files
    assert sorted(path.name for path in (home.folder / CHECKPOINTS).iterdir()) == [
        ".abandoned-step-00000004", "latest", "step-00000002",
    ]  # fmt: skip
    assert home.watch.notes == []


def test_a_log_that_is_not_what_the_checkpoint_saw_is_kept_beside_it(home: Folder) -> None:
    state, saver, logbook = home.settle()
    logbook.metrics(1, {"objective": 1.0})
    home.save(replace(state, step=2), saver, logbook)
    (home.folder / "metrics.jsonl").write_text('{"step": 1, "objective": 9.0}\n')
    home.settle(step=2)
    assert home.watch.notes == ["metrics.jsonl is not what the checkpoint saw; kept as metrics.orphan-1.jsonl"]
    assert (home.folder / "metrics.orphan-1.jsonl").read_text() == '{"step": 1, "objective": 9.0}\n'


def test_on_other_ground_sampler_and_trainer_are_compared_again(home: Folder) -> None:
    state, saver, logbook = home.settle()
    saved = home.save(replace(state, step=2, sampler_gap=0.5, headroom=Headroom()), saver, logbook)
    before = (home.folder / "run.json").read_bytes()
    again, _, _ = home.settle(record_of(processor="another", command=[]), step=2)
    assert again == replace(saved, sampler_gap=None)
    assert home.watch.notes == ["processor changed (same -> another): the run continues, but not bit for bit"]
    assert (home.folder / "run.json").read_bytes() == before


def test_other_prompts_have_no_estimates_yet_and_other_settings_a_new_command(home: Folder) -> None:
    state, saver, logbook = home.settle()
    saved = home.save(replace(state, step=2, headroom=Headroom()), saver, logbook)
    now = record_of(data={"sha256": "other"}, command=["rlhf", "train", "beta=0.2"])
    again, _, _ = home.settle(now, step=2, resume_allow=["data"])
    assert again == replace(saved, headroom=None)
    record = read_record(home.folder)
    assert (record["data"], record["command"]) == ({"sha256": "other"}, ["rlhf", "train", "beta=0.2"])
    assert record[CHANGED] == {"data": 2}
    assert len(record[CONFIGS]) == 1  # the allowance is no setting


@pytest.mark.parametrize(("best", "is_kept"), [(2, False), (1, False), (None, True)])
def test_a_best_step_is_none_where_evaluations_judge_otherwise_since(
    best: int | None, is_kept: bool, home: Folder
) -> None:
    state, saver, logbook = home.settle()
    saved = home.save(replace(state, step=2, best=best and Best(best, 1.0, 0.0)), saver, logbook)
    again, _, _ = home.settle(step=2, max_new_tokens=9)
    assert again == (saved if is_kept else replace(saved, best=None))


def test_a_best_step_after_the_last_change_stays(home: Folder) -> None:
    state, saver, logbook = home.settle()
    home.save(replace(state, step=2), saver, logbook)
    _, saver, logbook = home.settle(step=2, max_new_tokens=9)
    saved = home.save(replace(state, step=3, best=Best(3, 1.0, 0.0)), saver, logbook)
    assert home.settle(step=3, max_new_tokens=9)[0] == saved


def test_evaluations_are_those_that_the_checkpoint_saw(home: Folder) -> None:
    state, saver, logbook = home.settle()
    logbook.evaluation({"step": 0})
    saved, file = home.save(state, saver, logbook), home.folder / "evaluations.jsonl"
    logbook.evaluation({"step": 2})
    assemble.check_evaluations(home.folder, saved)
    file.write_text('{"step": 1}\n')
    with pytest.raises(UserError) as caught:
        assemble.check_evaluations(home.folder, saved)
    assert caught.value.exit_code == EXIT_RESUME
    assert (caught.value.what, caught.value.where) == (f"{file.name} is not what the checkpoint saw", str(file))
    assemble.check_evaluations(home.folder, TrainState())  # of an earlier version, which did not mark them
    file.unlink()
    assemble.check_evaluations(home.folder, saved)


@pytest.mark.parametrize(
    ("lines", "logs_them"),
    [
        ([], True),
        ([{"step": 0}], True),
        ([{"step": 1, "objective": 1.0}], False),
        ([{"step": 1, "objective": 1.0, "objective_se": 0.1}], True),
        ([{"step": 1, "objective": 1.0, "objective_se": 0.1}, {"step": 2, "objective": 1.0}, {"step": 3}], False),
    ],
)
def test_a_resumed_run_logs_errors_where_it_did_before(
    lines: list[dict[str, Any]], logs_them: bool, tmp_path: Path
) -> None:
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert assemble._logs_errors(tmp_path) == logs_them
