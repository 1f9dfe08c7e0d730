"""How a run begins and how each step ends."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch

from rlhf_cli.errors import EXIT_DISK, EXIT_NONFINITE, EXIT_REWARD, Stopped, UserError
from rlhf_cli.evaluation.evaluation import Evaluation
from rlhf_cli.evaluation.optimum import unknown
from rlhf_cli.pipeline.run import Run, Unfinished
from rlhf_cli.pipeline.saving import SaveFailed
from rlhf_cli.pipeline.skipping import Skip, dump
from rlhf_cli.pipeline.state import Best, TrainState, copy_tensors
from rlhf_cli.pipeline.step import begin, complete, report, skip, undo
from rlhf_cli.prompts.headroom import Headroom
from rlhf_cli.runs.disk import Disk
from rlhf_cli.runs.json_files import content_of
from rlhf_cli.runs.no_signal import NoSignal, read_no_signal
from rlhf_cli.types import Advantages
from tests.unit.pipeline.runs import TARGET, MakeRun
from tests.unit.support import SHAPING, Recorder, build, rollout_of, scored_of, tiny

LEARNED = {"loss": -0.5, "grad_norm": 2.0, "lr": 0.01, "sampler/gap": 0.003}
NORMALISED = {"kind": "characters", "characters": "abc"} | SHAPING | {"normalise": True}
NOT_FINITE = "the gradient is not finite"


class RefusingDisk(Disk):
    """A full disk."""

    def write(self, path: Path, content: bytes) -> None:
        """Refuse."""
        raise OSError(28, "No space left on device")


@pytest.fixture
def run(make_run: MakeRun) -> Run:
    """A run of four steps that saves after every second one; its policy is its own."""
    return make_run(build(tiny()))


def advantages_of(**changes: Any) -> Advantages:
    """Two completions with the scores 1 and 3, of which the first alone counts; the KL is 0.5 and 0.1 nats."""
    scored = scored_of(
        rollout_of([[1, 1], [1, 0]], samples=2, truncated=[True, False]),
        [1.0, 3.0],
        exact_kl=torch.tensor([[0.3, 0.2], [0.1, 0.0]]),
        learnable=torch.tensor([True, False]),
    )
    scored = replace(scored, **changes)
    return Advantages(scored, torch.ones(2, 2))


def evaluation(step: int, reward: float) -> Evaluation:
    """Two prompts with one completion each, all of the same reward, at 1 nat."""
    two: Any = [[reward], [reward]], [[1.0], [1.0]], [[3], [3]], [[False], [False]], [["a"], ["b"]]
    return Evaluation(step, 0.05, [0, 1], 0, *two, [[-2.0], [-2.0]], [[-3.0], [-3.0]], None, unknown("a reason"))


def lines(run: Run, name: str) -> list[dict[str, Any]]:
    """The lines of one of the run's logs."""
    return [json.loads(line) for line in content_of(run.folder / f"{name}.jsonl").splitlines()]


def notes_of(run: Run) -> list[str]:
    assert isinstance(run.work.reporter, Recorder)
    return run.work.reporter.notes


def saved(run: Run) -> list[int]:
    """The steps that have a checkpoint."""
    return sorted(int(folder.name[-8:]) for folder in (run.folder / "checkpoints").glob("step-*"))


def spoil(run: Run) -> None:
    """Do what an update does: keep the weights, then change weights and moments."""
    run.unfinished.before = copy_tensors(run.policy, run.optimizer)
    for parameter in run.policy.parameters().values():
        parameter.grad = torch.full_like(parameter, 0.5)
    run.optimizer.step()


def is_as(run: Run, parameters: dict[str, torch.Tensor]) -> bool:
    now = copy_tensors(run.policy, run.optimizer)
    return not now.moments and all(torch.equal(now.parameters[name], value) for name, value in parameters.items())


class TestState:
    """The state after a step."""

    def test_a_step_that_learned_moves_the_running_figures_by_what_counted(self, make_run: MakeRun) -> None:
        run = make_run(build(tiny()), beta=TARGET, reward=NORMALISED)
        run.state = TrainState(step=1, skipped=2)
        complete(run, advantages_of(), LEARNED, None)
        state = run.state
        assert (state.step, state.skipped, state.best, state.microbatch_size) == (2, 0, None, None)
        assert (state.baseline.count, state.baseline.mean) == (1, 1.0)  # of the first completion
        assert (state.spread.count, state.spread.mean) == (1, 1.0)
        expected = run.config.beta.observe(run.config.beta.begin(), 0.3)
        assert state.control is not None
        assert (state.control.beta, state.control.error) == pytest.approx((expected.beta, expected.error))
        assert state.control.beta != 0.05
        assert state.sampler_gap == 0.003

    def test_without_normalising_and_control_there_is_neither_spread_nor_control(self, run: Run) -> None:
        complete(run, advantages_of(), LEARNED, None)
        assert (run.state.spread.count, run.state.control) == (0, None)

    @pytest.mark.parametrize("batch", [True, False])
    def test_a_skipped_step_moves_the_step_alone(self, batch: bool, make_run: MakeRun) -> None:
        run = make_run(build(tiny()), beta=TARGET, reward=NORMALISED)
        before = run.state = replace(TrainState(), step=2, skipped=1, sampler_gap=0.5)
        complete(run, advantages_of() if batch else None, {"skipped": 1.0}, None)
        assert run.state == replace(before, step=3, skipped=2, logs=run.logbook.marks())

    @pytest.mark.parametrize("skipped", [0.0, 1.0])
    def test_what_the_groups_show_of_their_prompts_is_kept(self, skipped: float, make_run: MakeRun) -> None:
        run = make_run(build(tiny()), prompts="headroom", beta=TARGET)
        plain = advantages_of(learnable=torch.tensor([True, True]))
        rollout = plain.scored.rollout
        batch = replace(rollout.batch, draws=((4, 0.5),))
        drawn = replace(plain.scored, rollout=replace(rollout, batch=batch))
        complete(run, Advantages(drawn, torch.ones(2, 2)), LEARNED | {"skipped": skipped}, None)
        assert run.state.headroom == (None if skipped else Headroom({4: 1.0}, {4: 2.0}))  # the variance of 1 and 3

    def test_a_controller_hears_the_kl_of_all_prompts(self, make_run: MakeRun) -> None:
        run = make_run(build(tiny()), beta=TARGET)
        scored = scored_of(rollout_of([[1, 1], [1, 0]]), [1.0, 3.0], exact_kl=torch.tensor([[0.3, 0.2], [0.1, 0.0]]))
        batch = replace(scored.rollout.batch, draws=((4, 1.5), (2, 0.5)))
        drawn = replace(scored, rollout=replace(scored.rollout, batch=batch))
        complete(run, Advantages(drawn, torch.ones(2, 2)), LEARNED, None)
        expected = run.config.beta.observe(run.config.beta.begin(), (3 * 0.5 + 0.1) / 4)
        assert run.state.control is not None
        assert run.state.control.beta == pytest.approx(expected.beta)

    def test_the_gap_is_that_of_all_completions_where_they_were_compared(self, run: Run) -> None:
        complete(run, advantages_of(log_weights=torch.tensor([0.25, -0.75])), LEARNED, None)
        assert run.state.sampler_gap == 0.75
        assert lines(run, "metrics")[0]["sampler/gap"] == 0.75

    def test_without_a_gap_the_last_one_holds(self, run: Run) -> None:
        run.state = TrainState(sampler_gap=0.5)
        complete(run, advantages_of(), {"loss": 1.0}, None)
        assert run.state.sampler_gap == 0.5

    @pytest.mark.parametrize(("before", "after"), [(None, 5), (7, 9)])
    def test_the_rollouts_of_a_dynamic_step_are_counted(
        self, before: int | None, after: int, make_run: MakeRun
    ) -> None:
        run = make_run(build(tiny()), prompts="dynamic", max_rollouts=3)
        run.state, run.unfinished.rollouts = TrainState(step=3, rollouts=before), 2  # None: one a step so far
        complete(run, None, {"skipped": 1.0}, None)
        assert run.state.rollouts == after
        run.unfinished.rollouts = 3
        complete(run, advantages_of(), LEARNED, None)
        assert run.state.rollouts == after + 3
        assert lines(run, "metrics")[-1]["drawn/rollouts"] == 3

    def test_a_step_of_one_rollout_counts_none(self, run: Run) -> None:
        complete(run, advantages_of(), LEARNED, None)
        assert run.state.rollouts is None
        assert not [name for name in lines(run, "metrics")[0] if name.startswith("drawn/")]

    def test_a_halved_microbatch_is_remembered(self, run: Run) -> None:
        run.work.microbatch_size = 1
        complete(run, advantages_of(), LEARNED, None)
        assert run.state.microbatch_size == 1

    def test_the_logs_are_marked_where_the_steps_lines_end(self, run: Run) -> None:
        complete(run, advantages_of(), LEARNED, None)
        assert run.state.logs["metrics"].size == (run.folder / "metrics.jsonl").stat().st_size > 0
        assert run.state.logs == run.logbook.marks()

    def test_nothing_is_unfinished_afterwards(self, run: Run) -> None:
        spoil(run)
        run.unfinished.retries, run.unfinished.failure_noted = 3, True
        complete(run, advantages_of(), LEARNED, None)
        assert run.unfinished == Unfinished()
        assert [line["reward/retries"] for line in lines(run, "timings")] == [3]

    @pytest.mark.parametrize(("reward", "best"), [(0.9, 1), (0.5, 0), (0.4, 0)])
    def test_the_best_evaluation_is_the_one_with_the_highest_objective(
        self, reward: float, best: int, run: Run
    ) -> None:
        run.state = TrainState(best=Best(0, 0.5, 1.0))
        complete(run, advantages_of(), LEARNED, evaluation(1, reward))
        assert run.state.best == Best(best, reward if best else 0.5, 1.0)


class TestLogs:
    """The lines of a step."""

    def test_metrics_come_in_one_order(self, make_run: MakeRun) -> None:
        run = make_run(build(tiny()), reward=NORMALISED)
        complete(run, advantages_of(), LEARNED, evaluation(1, 0.5))
        (line,) = lines(run, "metrics")
        keys = list(line)
        assert keys[:2] == ["step", "objective"]
        assert keys[keys.index("skipped") :][:6] == ["skipped", *LEARNED, "reward/scale"]
        assert keys[keys.index("reward/scale") + 1] == "eval/objective"
        assert (line["step"], line["skipped"], line["reward/scale"]) == (1, 0.0, 0.0)
        assert line["reward/mean"] == 2.0

    def test_a_step_without_a_batch_has_no_samples(self, run: Run) -> None:
        complete(run, None, {"skipped": 1.0, "reward/failures": 4.0}, None)
        assert lines(run, "metrics") == [{"step": 1, "skipped": 1.0, "reward/failures": 4.0}]
        assert lines(run, "samples") == []
        assert "tokens_per_s" not in lines(run, "timings")[0]  # not 0: its tokens were not counted
        assert notes_of(run) == []

    def test_samples_and_evaluation(self, run: Run) -> None:
        complete(run, advantages_of(), LEARNED, evaluation(1, 0.5))
        assert [row["completion"] for row in lines(run, "samples")] == ["text 0"]  # log_samples=1
        assert lines(run, "evaluations") == [evaluation(1, 0.5).row()]

    def test_a_line_that_cannot_be_shown_leaves_the_step_unfinished(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A curve's note may meet a closed pipe: the step is then undone and its lines are cut off on resume."""

        def broken(*arguments: Any) -> None:
            raise BrokenPipeError

        monkeypatch.setattr(type(run.logbook), "metrics", broken)
        spoil(run)
        with pytest.raises(BrokenPipeError):
            complete(run, advantages_of(), LEARNED, None)
        assert run.state == TrainState()
        assert run.unfinished.before is not None


class TestDisplay:
    """The events of a step that a display gets."""

    def test_the_step_with_its_first_completion(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        told: list[tuple[Any, ...]] = []
        monkeypatch.setattr(Recorder, "step", lambda self, *given: told.append(given))
        complete(run, advantages_of(rollout=rollout_of([[1, 1], [1, 0]], samples=1)), LEARNED, None)
        complete(run, None, {"skipped": 1.0}, None)
        assert [(step, sample) for step, _, _, sample in told] == [(1, ("prompt 0", "text 0")), (2, ("", ""))]
        assert [{"step": step, **metrics} for step, metrics, _, _ in told] == lines(run, "metrics")
        for (_, _, timings, _), line in zip(told, lines(run, "timings"), strict=True):
            assert timings.items() <= line.items()

    def test_pairs_that_wait_for_people(self, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
        evaluate = {"every": 1, "prompts": 2, "samples": 1, "human": 2}
        run, told, asked = make_run(build(tiny()), evaluate=evaluate), list[Any](), list[Any]()
        answers = iter([{}, {"human/waiting": 3.0}, {}, {"human/waiting": 0.0}])

        def observe(step: int, found: Evaluation | None) -> dict[str, float]:
            asked.append((step, found and found.step))
            return next(answers)

        queue: Any = SimpleNamespace(observe=observe, sync=lambda: None, command="rlhf label")
        run.queue = queue
        monkeypatch.setattr(Recorder, "pairs_wait", lambda self, count, command: told.append((count, command)))
        for step in range(1, 5):
            complete(run, advantages_of(), LEARNED, evaluation(step, 0.5))
        assert told == [(3, "rlhf label"), (0, "rlhf label")]
        assert asked == [(1, None), (2, 2), (3, None), (4, 4)]
        assert [line.get("human/waiting") for line in lines(run, "metrics")] == [None, 3.0, None, 0.0]


class TestTruncatedNote:
    """The note about truncated completions in the first step."""

    @pytest.mark.parametrize(
        ("truncated", "fate"),
        [("keep", "judged as cut"), ("penalty", "penalised for it"), ("mask", "nothing is learned from them")],
    )
    def test_it_says_how_many_and_what_becomes_of_them(self, truncated: str, fate: str, make_run: MakeRun) -> None:
        reward = {"kind": "characters", "characters": "abc"} | SHAPING | {"truncated": truncated}
        run = make_run(build(tiny()), reward=reward)
        complete(run, advantages_of(), LEARNED, None)
        assert run.work.reporter.notes == [f"50% of the completions were cut at max_new_tokens=8, and {fate}"]

    @pytest.mark.parametrize(("share", "count"), [(0.3, 0), (0.31, 1)])
    def test_beyond_three_of_ten(self, share: float, count: int, run: Run) -> None:
        run.state = TrainState(step=1)
        report(run, {"completion/truncated": share}, {}, None)
        assert len(notes_of(run)) == count

    def test_not_in_later_steps_nor_for_a_few(self, run: Run) -> None:
        few = advantages_of()
        rollout = replace(few.scored.rollout, truncated=torch.tensor([False, False]))
        complete(run, replace(few, scored=replace(few.scored, rollout=rollout)), LEARNED, None)
        complete(run, advantages_of(), LEARNED, None)
        assert run.work.reporter.notes == []
        assert run.work.reporter.steps == [1, 2]


class TestSaving:
    """When a step is saved."""

    def test_due_steps_and_the_last_one(self, make_run: MakeRun) -> None:
        keep = {"every": 2, "keep": 9, "keep_best": True, "max_failures": 3}
        run = make_run(build(tiny()), checkpoint=keep, steps=5)
        for _ in range(5):
            complete(run, advantages_of(), LEARNED, None)
        assert saved(run) == [2, 4, 5]

    def test_none_while_steps_are_skipped_but_the_last(self, run: Run) -> None:
        for _ in range(3):
            complete(run, advantages_of(), {"skipped": 1.0}, None)
        assert saved(run) == []
        complete(run, advantages_of(), {"skipped": 1.0}, None)
        assert saved(run) == [4]

    @pytest.mark.parametrize(("keep_best", "expected"), [(True, [1]), (False, [])])
    def test_a_best_one_at_once_where_it_is_kept(self, keep_best: bool, expected: list[int], make_run: MakeRun) -> None:
        keep = {"every": 2, "keep": 1, "keep_best": keep_best, "max_failures": 3}
        run = make_run(build(tiny()), checkpoint=keep)
        complete(run, advantages_of(), LEARNED, evaluation(1, 0.5))
        assert saved(run) == expected
        assert run.state.best == Best(1, 0.5, 1.0)

    @pytest.mark.parametrize("before", [None, Best(0, 0.1, 1.0)])
    def test_a_best_one_that_cannot_be_saved_is_not_the_best(self, before: Best | None, run: Run) -> None:
        run.state = TrainState(best=before)
        run.saver.disk = RefusingDisk()
        complete(run, advantages_of(), LEARNED, evaluation(1, 0.5))
        assert (run.state.step, run.state.best) == (1, before)
        assert "cannot be written" in run.work.reporter.notes[-1]

    def test_the_last_step_has_to_be_saved(self, run: Run) -> None:
        run.state = TrainState(step=3)
        run.saver.disk = RefusingDisk()
        with pytest.raises(SaveFailed) as caught:
            complete(run, advantages_of(), LEARNED, None)
        assert caught.value.exit_code == EXIT_DISK


class TestSkip:
    """Steps that change nothing."""

    def test_weights_and_moments_are_those_of_before(self, run: Run) -> None:
        before = copy_tensors(run.policy, run.optimizer).parameters
        spoil(run)
        assert not is_as(run, before)
        batch = advantages_of()
        assert skip(run, Skip(NOT_FINITE, "a fix", EXIT_NONFINITE, batch=batch)) == (batch, {"skipped": 1.0})
        assert is_as(run, before)
        assert run.unfinished.before is None

    def test_the_batch_is_dumped_and_the_note_says_where(self, run: Run) -> None:
        skip(run, Skip(NOT_FINITE, "a fix", EXIT_NONFINITE, batch=advantages_of()))
        folder = run.folder / "skipped" / "step-00000001"
        assert run.work.reporter.notes == [f"step 1 changes nothing: {NOT_FINITE}: see {folder}"]
        assert json.loads((folder / "batch.json").read_text())["reason"] == NOT_FINITE

    def test_the_newest_batches_are_kept_and_foreign_files_left_alone(self, run: Run) -> None:
        (run.folder / "skipped").mkdir()
        (run.folder / "skipped" / ".DS_Store").touch()
        for step in range(1, 7):
            dump(run.folder, step, NOT_FINITE, advantages_of())
        left = [".DS_Store", *(f"step-{step:08d}" for step in (3, 4, 5, 6))]
        assert sorted(path.name for path in (run.folder / "skipped").iterdir()) == left

    def test_a_disk_that_refuses_a_batch_says_so(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(path: Path, content: bytes) -> None:
            raise OSError(28, "No space left on device", str(path))

        monkeypatch.setattr(Path, "write_bytes", refuse)
        with pytest.raises(OSError, match="No space left on device"):
            dump(run.folder, 1, NOT_FINITE, advantages_of())

    def test_without_a_batch_the_failures_are_a_metric(self, run: Run) -> None:
        reason = Skip("no prompt has a score", "a fix", EXIT_REWARD, failures=4)
        run.unfinished.length, run.unfinished.rollouts = 7.5, 1
        sampled = {"reward/failures": 4.0, "completion/length": 7.5}
        assert skip(run, reason) == (None, {"skipped": 1.0, **sampled})
        assert run.work.reporter.notes == ["step 1 changes nothing: no prompt has a score"]

    @pytest.mark.parametrize(("skipped", "expected"), [(0, [2]), (1, [])])
    def test_the_first_in_a_row_saves_the_step_before(self, skipped: int, expected: list[int], run: Run) -> None:
        run.state = TrainState(step=2, skipped=skipped)
        skip(run, Skip(NOT_FINITE, "a fix", EXIT_NONFINITE, batch=advantages_of()))
        assert saved(run) == expected
        assert (run.folder / "skipped" / "step-00000003").is_dir()

    def test_a_full_disk_does_not_end_a_run_that_skips(self, run: Run) -> None:
        run.saver.disk = RefusingDisk()
        skip(run, Skip("reason", "a fix", EXIT_REWARD))
        assert "cannot be written" in notes_of(run)[0]

    @pytest.mark.parametrize("exit_code", [EXIT_NONFINITE, EXIT_REWARD])
    def test_too_many_in_a_row_end_the_run(self, exit_code: int, run: Run) -> None:
        before = copy_tensors(run.policy, run.optimizer).parameters
        run.state = TrainState(step=3, skipped=2)
        skip(run, Skip("reason", "a fix", exit_code))  # the third: max_skipped_steps=3
        run.state = TrainState(step=4, skipped=3)
        spoil(run)
        with pytest.raises(UserError) as caught:
            skip(run, Skip("reason", "a fix", exit_code))
        assert caught.value.line() == (
            "reason in step 5, and 4 steps in a row changed nothing (max_skipped_steps); fix: a fix"
        )
        assert caught.value.exit_code == exit_code
        assert is_as(run, before)


class TestNoSignal:
    """A step in which no completion scored above another of its prompt."""

    BOTH: ClassVar[dict[str, Any]] = {"learnable": torch.tensor([True, True])}
    SAME: ClassVar[dict[str, Any]] = {"scores": torch.tensor([0.0, 0.0])} | BOTH

    @pytest.mark.case(63)
    def test_the_first_is_noted_and_ten_in_a_row(self, run: Run) -> None:
        for scores in [[1.0, 3.0], [0.0, 0.0], [1.0, 3.0], *[[0.5, 0.5]] * 11]:
            complete(run, advantages_of(scores=torch.tensor(scores), **self.BOTH), LEARNED, None)
        nothing = "learned nothing from the reward"
        notes = [note for note in notes_of(run) if nothing in note]
        assert notes == [
            f"step 2 {nothing}, as no completion scored above another of its prompt: every score is 0",
            f"steps 4 to 13 {nothing}: every score is 0.5",
        ]

    def test_under_a_mask_the_completions_that_ended_are_compared(self, make_run: MakeRun) -> None:
        reward = {"kind": "characters", "characters": "abc"} | SHAPING | {"truncated": "mask"}
        run = make_run(build(tiny()), reward=reward)
        complete(run, advantages_of(**self.SAME), LEARNED, None)
        assert notes_of(run)[1] == (
            "step 1 learned nothing from the reward, as no completion that ended scored above another of its prompt: "
            "every score is 0"
        )

    def test_a_resumed_run_knows_what_was_said(self, make_run: MakeRun) -> None:
        run = make_run(build(tiny()))
        complete(run, advantages_of(**self.SAME), LEARNED, None)
        assert read_no_signal(run.folder, 2) == run.no_signal == NoSignal(1, 1)

    @pytest.mark.case(63)
    def test_stop_ends_the_run_with_the_step_logged(self, make_run: MakeRun) -> None:
        run = make_run(build(tiny()), on_no_signal="stop")
        complete(run, advantages_of(), LEARNED, None)
        with pytest.raises(UserError) as caught:
            complete(run, advantages_of(**self.SAME), LEARNED, None)
        assert caught.value.exit_code == EXIT_REWARD
        assert caught.value.line().startswith("step 2 learned nothing from the reward, as no completion scored above ")
        assert caught.value.line().endswith("go on with on_no_signal=warn")
        assert (run.state.step, [row["step"] for row in lines(run, "metrics")]) == (2, [1, 2])


class TestAlarms:
    """The rules of `rlhf doctor` while the run trains."""

    APART: ClassVar[dict[str, Any]] = {"log_weights": torch.tensor([1.0, -1.0])}
    """Sampler and trainer: the samples are worth 63 % of their number."""

    def test_an_alarm_is_noted_when_it_begins(self, make_run: MakeRun) -> None:
        run = make_run(build(tiny()), steps=9)
        for changes in ({}, self.APART, self.APART):
            complete(run, advantages_of(**changes), LEARNED, None)
        notes = [note for note in notes_of(run) if "alarm" in note]
        (note,) = notes
        assert note.startswith("alarm at step 2: sampler and trainer part: the samples of 10 steps are worth 63% of ")
        assert note.endswith("; try dtype=float32")

    def test_what_a_note_has_said_is_not_said_again(self, make_run: MakeRun) -> None:
        """The first step was said to be cut, and ten in a row to have learned nothing."""
        run = make_run(build(tiny()), steps=20)
        cut = rollout_of([[1, 1], [1, 0]], samples=2, truncated=[True, True])
        same = {"rollout": cut, "scores": torch.tensor([0.0, 0.0]), "learnable": torch.tensor([True, True])}
        for _ in range(12):
            complete(run, advantages_of(**same), LEARNED, None)
        assert {*run.alarms.active} == {"truncation", "zero-variance groups", "entropy collapse"}
        notes = [note for note in notes_of(run) if "alarm" in note]
        assert [note.split(": ")[1] for note in notes] == ["entropy collapse"]

    def test_what_a_skipped_first_step_could_not_say_is_said(self, make_run: MakeRun) -> None:
        """Nothing was said of truncation: the first step had no metrics, and later ones are not noted."""
        run = make_run(build(tiny()), steps=20)
        complete(run, None, {"skipped": 1.0}, None)
        cut = rollout_of([[1, 1], [1, 0]], samples=2, truncated=[True, True])
        for _ in range(10):
            complete(run, advantages_of(rollout=cut), LEARNED, None)
        assert [note.split(": ")[1] for note in notes_of(run) if "truncation" in note] == ["truncation"]

    def test_three_of_ten_in_the_first_step_were_not_noted_so_the_alarm_is(self, make_run: MakeRun) -> None:
        run = make_run(build(tiny()), steps=20)
        for cut in (3, *[10] * 10):
            rollout = rollout_of([[1, 1]] * 10, samples=2, truncated=[True] * cut + [False] * (10 - cut))
            scored = scored_of(rollout, [1.0, 3.0] * 5, exact_kl=torch.full((10, 2), 0.1))
            complete(run, Advantages(scored, torch.ones(10, 2)), LEARNED, None)
        assert len([note for note in notes_of(run) if "truncation" in note]) == 1

    def test_stop_ends_the_run_with_the_step_complete(self, make_run: MakeRun) -> None:
        run = make_run(build(tiny()), on_alarm="stop", steps=3)
        complete(run, advantages_of(), LEARNED, None)
        with pytest.raises(Stopped, match=r"^step 2: sampler and trainer part: .*; go on with on_alarm=warn$"):
            complete(run, advantages_of(**self.APART), LEARNED, None)
        assert (run.state.step, [row["step"] for row in lines(run, "metrics")]) == (2, [1, 2])
        complete(run, advantages_of(**self.APART), LEARNED, None)  # the last step: there is nothing left to save


def test_where_nothing_was_changed_there_is_nothing_to_undo(run: Run) -> None:
    before = copy_tensors(run.policy, run.optimizer).parameters
    undo(run)
    assert is_as(run, before)


class TestBegin:
    """Step 0."""

    def test_it_is_saved_before_it_is_evaluated(self, run: Run) -> None:
        begin(run)
        assert saved(run) == [0]
        assert run.work.reporter.phases == ["checkpoint", "evaluation"]
        assert run.work.reporter.ticks[0] == 0
        assert [line["step"] for line in lines(run, "metrics")] == [0]
        assert (run.state.step, run.state.best.step) == (0, 0)
        assert [line["step"] for line in lines(run, "evaluations")] == [0]

    def test_display_and_alarms_are_told_of_step_0(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        told, watched = list[Any](), list[Any]()
        monkeypatch.setattr(Recorder, "evaluated", lambda self, step, metrics: told.append({"step": step, **metrics}))
        monkeypatch.setattr(type(run.alarms), "observe", lambda self, row, found: watched.append((row, found.step)))
        begin(run)
        assert told == lines(run, "metrics")
        assert watched == [({"step": 0}, 0)]
        (timings,) = lines(run, "timings")
        assert (timings["step"], "tokens_per_s" in timings) == (0, False)
        assert run.seconds == timings["time/step_s"]
        assert run.unfinished == Unfinished()

    def test_a_run_that_is_never_evaluated_is_only_saved(self, make_run: MakeRun) -> None:
        run = make_run(build(tiny()), evaluate={"every": 0, "prompts": 2, "samples": 1})
        begin(run)
        assert (saved(run), lines(run, "metrics"), run.state.best) == ([0], [], None)

    def test_a_disk_that_refuses_ends_the_run_at_once(self, run: Run) -> None:
        run.saver.disk = RefusingDisk()
        with pytest.raises(SaveFailed):
            begin(run)
        assert run.work.reporter.phases == ["checkpoint"]
        assert math.isfinite(run.work.clock.lap()["step"])
