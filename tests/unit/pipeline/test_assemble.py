"""The memory that a run is expected to take, and its files where it begins and where it goes back."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rlhf_cli.engine.memory import forward_bytes
from rlhf_cli.engine.native import NativeEngine
from rlhf_cli.engine.reference import TwoModels
from rlhf_cli.engine.transformers import TransformersEngine
from rlhf_cli.errors import EXIT_RESUME, UserError
from rlhf_cli.models.policy import Policy
from rlhf_cli.pipeline import assemble
from rlhf_cli.pipeline.record import BUILD, GROUND
from rlhf_cli.pipeline.run import Run
from rlhf_cli.pipeline.saving import Saver
from rlhf_cli.pipeline.signals import StopSignals
from rlhf_cli.pipeline.state import Best, TrainState
from rlhf_cli.prompts.headroom import Headroom
from rlhf_cli.ranks.team import Team
from rlhf_cli.rewards.execution.scorer import Scorer
from rlhf_cli.runs.binding import CHANGED, CONFIGS, read_record
from rlhf_cli.runs.folder import CHECKPOINTS
from rlhf_cli.runs.logbook import Logbook
from rlhf_cli.runs.resume import Origin
from rlhf_cli.schema import RunConfig
from rlhf_cli.types import PromptRow
from tests.unit.pipeline.runs import MakeRun
from tests.unit.support import Recorder, config_of, rows_of


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


def test_a_step_may_take_all_that_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assemble, "total_memory", lambda device: assemble.GIB)
    watch = Recorder()
    for bytes_, count in ((assemble.GIB, 0), (assemble.GIB + 1, 1)):
        assemble.check_memory(torch.device("cuda"), bytes_, watch, "it")
        assert len(watch.notes) == count


class TestFitting:
    """The values that `auto` becomes."""

    @staticmethod
    def fit(run: Run, engine: Any, held_out: int = 0, **settings: Any) -> tuple[RunConfig, int]:
        config = run.config.model_copy(update={"shards": 1} | settings)
        return assemble.fit_memory(config, run.policy, engine, run.prompts, run.held_out[:held_out], Team())

    @pytest.mark.parametrize(("room", "reuses"), [(1.001, True), (0.999, False)])
    def test_a_pass_is_reused_where_it_fits_into_its_share_of_the_memory(
        self, room: float, reuses: bool, policy: Policy, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = make_run(policy, reuse_forward="auto")
        monkeypatch.setattr(assemble, "forward_bytes", lambda policy, tokens: 3000)
        monkeypatch.setattr(assemble, "total_memory", lambda device: room * 20_000)  # 0.15 of it is 3000
        monkeypatch.setattr(assemble, "predicted_peak", lambda *_, **__: 1000)
        config, peak = self.fit(run, NativeEngine(policy))
        assert (config.reuse_forward, peak) == (reuses, 4000 if reuses else 1000)
        assert self.fit(run, TransformersEngine(policy))[0].reuse_forward is False

    def test_a_pass_cannot_be_reused_by_the_librarys_engine(self, policy: Policy, make_run: MakeRun) -> None:
        run = make_run(policy, reuse_forward=True)
        with pytest.raises(UserError) as caught:
            self.fit(run, TransformersEngine(policy))
        assert (caught.value.where, caught.value.fix) == ("reuse_forward", "reuse_forward=false")
        config, _ = self.fit(run, TransformersEngine(policy), shard_model=True)  # it begins, and goes on without
        assert config.reuse_forward is True

    def test_sizes_and_invariance_that_are_given_stay(
        self, policy: Policy, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = make_run(policy, reuse_forward=False)
        monkeypatch.setattr(assemble, "microbatch_size", lambda *_, **__: 7)
        for invariant in (True, False):
            engine: Any = TransformersEngine(policy)
            monkeypatch.setattr(TransformersEngine, "invariant", invariant)
            for asked, becomes in (("auto", invariant), (True, True), (False, False)):
                config, _ = self.fit(run, engine, invariant=asked, microbatch_size="auto")
                assert (config.invariant, config.microbatch_size) == (becomes, 7)
        assert self.fit(run, engine)[0].microbatch_size == 3

    def test_completions_of_an_evaluation_count_where_there_is_one(
        self, policy: Policy, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[int] = []
        monkeypatch.setattr(assemble, "predicted_peak", lambda *_, at_once, **__: asked.append(at_once) or 0)
        evaluate = {"every": 1, "prompts": 2, "samples": 40}
        run = make_run(policy, reuse_forward=False, evaluate=evaluate)
        for held_out in (0, 1):
            self.fit(run, TransformersEngine(policy), held_out)
        assert asked == [4, 40]

    @pytest.mark.parametrize(("other", "peak"), [(5000, 5000), (500, 1000)])
    def test_a_reference_of_its_own_may_take_more_and_is_never_trained(
        self, other: int, peak: int, policy: Policy, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[tuple[bool, bool]] = []

        def predicted(*_: Any, recompute: bool, trained: bool = True, **__: Any) -> int:
            asked.append((recompute, trained))
            return 1000 if trained else other

        monkeypatch.setattr(assemble, "predicted_peak", predicted)
        run, engine = make_run(policy, reuse_forward=False), TransformersEngine(policy)
        assert self.fit(run, TwoModels(engine, engine))[1] == peak
        assert asked == [(False, True), (True, False)]


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
    """The content of run.json at the start."""
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


class TestWhole:
    """A run out of its settings and prompts."""

    @pytest.fixture
    def assembled(self, tmp_path: Path) -> Iterator[Callable[..., Run]]:
        """`assemble` in one folder; the files of each run are closed afterwards."""
        made: list[Run] = []
        rows = rows_of([PromptRow(text, {}, f"test:{text}") for text in "abcd"], [PromptRow("e", {}, "test:e")] * 2)

        def assembled(step: int | None = None, **settings: Any) -> Run:
            config = config_of(sinks=[], **settings)
            origin = None if step is None else Origin(tmp_path, tmp_path / CHECKPOINTS / f"step-{step:08d}", ())
            scorer = Scorer(config.reward, [], None)
            made.append(
                assemble.assemble(config, rows, tmp_path, scorer, Recorder(), StopSignals(), origin, ["rlhf", "train"])
            )
            return made[-1]

        yield assembled
        for run in made:
            run.logbook.close()

    def test_a_new_run(self, assembled: Callable[..., Run], tmp_path: Path) -> None:
        run = assembled(profile=True, microbatch_size=3)
        watch: Any = run.work.reporter
        assert watch.phases[0] == "loading the model"
        assert watch.ticks[0] == 0
        assert not [note for note in watch.notes if "prompts=" in note]
        assert (run.config.shards, run.work.microbatch_size, run.seconds, run.logs_errors) == (1, 3, 0, True)
        profiler: Any = run.profiler
        assert profiler._folder == tmp_path / "profile"
        assert read_record(tmp_path)["command"] == ["rlhf", "train"]

    @pytest.mark.parametrize("how", ["headroom", "dynamic"])
    def test_how_prompts_are_drawn_is_noted(self, how: str, assembled: Callable[..., Run]) -> None:
        settings = {"max_rollouts": 3} if how == "dynamic" else {}
        watch: Any = assembled(prompts=how, **settings).work.reporter
        (note,) = [note for note in watch.notes if "prompts=" in note]
        assert note.startswith(f"prompts={how}: ")

    def test_a_run_that_goes_on(self, assembled: Callable[..., Run], tmp_path: Path) -> None:
        run = assembled(microbatch_size=3, shards=2)
        assert run.config.shards == 2
        run.logbook.evaluation({"step": 0})
        for step, seconds in ((1, 1.5), (2, 0.25)):
            run.logbook.timings(step, {"step": seconds, "checkpoint": 0.0}, 0)
        run.logbook._logs["timings"].write({"step": 3})
        run.state = replace(run.state, step=2, microbatch_size=1, logs=run.logbook.marks())
        assert run.saver.save(run.state, run.policy, run.optimizer, run.sync, needed=True)
        again = assembled(2, microbatch_size=3, shards=2)
        assert (again.state, again.work.microbatch_size, again.seconds) == (run.state, 1, 1.75)
        assert assembled(2, microbatch_size=3, shards=2).config.microbatch_size == 3
        (tmp_path / "evaluations.jsonl").write_text('{"step": 1}\n')
        with pytest.raises(UserError, match=r"^evaluations.jsonl is not what the checkpoint saw"):
            assembled(2, microbatch_size=3, shards=2)
