"""feedback.queue and feedback.readings: pairs while a run trains, the votes that it reads, the same after a resume."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from rlhf_cli.errors import UserError
from rlhf_cli.evaluation.evaluation import Evaluation
from rlhf_cli.evaluation.intervals import wilson
from rlhf_cli.feedback.pairs import Pair, read_pairs
from rlhf_cli.feedback.queue import Queue
from rlhf_cli.feedback.readings import odd_readings, queued_files, read_readings, undone_files
from rlhf_cli.feedback.votes import Ballot, VoteFile
from rlhf_cli.runs.folder import EVALUATIONS
from rlhf_cli.schema import Opponent
from rlhf_cli.types import PromptRow
from tests.unit.evaluation.samples import evaluation
from tests.unit.feedback.samples import vote

PROMPTS = [PromptRow(f"prompt {n}", {}, "") for n in range(4)]


def evaluation_of(step: int, mark: str = "") -> Evaluation:
    """Four prompts of two samples; the policy's reward beats the reference's on all prompts but the last."""
    texts = [[f"step {step}{mark} {n}.{sample}" for sample in range(2)] for n in range(4)]
    rewards = [[float(step if n < 3 else -step)] * 2 for n in range(4)]
    columns: Any = dict.fromkeys(("reward", "kl", "logprob", "ref_logprob"), rewards)
    return replace(
        evaluation(rewards, step), **columns, length=[[1, 1]] * 4, truncated=[[False, False]] * 4, texts=texts
    )


class World:
    """A run that only evaluates: every fourth step. Its process may end and start anew at any step."""

    def __init__(self, folder: Path, against: Opponent = "reference") -> None:
        self.run, self.against, self.notes = folder / "run", against, list[str]()
        self.run.mkdir()
        (self.run / EVALUATIONS).write_text(f"{json.dumps(evaluation_of(0).row())}\n")
        self.queue: Queue | None = None
        self.begin(0)

    def begin(self, step: int) -> None:
        """A process starts at this step: evaluations after it are cut off."""
        self.end()
        rows = [line for line in (self.run / EVALUATIONS).read_text().splitlines() if json.loads(line)["step"] <= step]
        (self.run / EVALUATIONS).write_text("".join(f"{row}\n" for row in rows))
        self.queue = Queue(self.run, PROMPTS, self.against, step, self.notes.append)
        self.step = step

    def end(self) -> None:
        """The process ends."""
        if self.queue is not None:
            self.queue.close()
        self.queue = None

    def go_on(self, steps: int, mark: str = "") -> list[dict[str, float]]:
        """The metrics of some more steps."""
        assert self.queue is not None
        lines = []
        for _ in range(steps):
            self.step += 1
            evaluated = None if self.step % 4 else evaluation_of(self.step, mark)
            lines.append(self.queue.observe(self.step, evaluated))
            if evaluated is not None:
                with (self.run / EVALUATIONS).open("a") as file:
                    file.write(f"{json.dumps(evaluated.row())}\n")
        return lines

    def file(self, step: int) -> Path:
        return next(file for file in queued_files(self.run) if file.name.startswith(f"step-{step:08d}"))

    def pairs(self, step: int) -> tuple[Pair, ...]:
        return read_pairs(self.file(step))

    def vote(self, step: int, words: str, rater: str = "me", first: int = 0) -> None:
        """Votes (a, b, tie, undo) on the step's pairs from the `first` on."""
        names: dict[str, Ballot] = {"a": "a", "b": "b", "t": "tie", "u": "undo"}
        for pair, word in zip(self.pairs(step)[first:], words, strict=False):
            VoteFile(self.file(step)).append(vote(pair, names[word], rater=rater, chance=1 / 4))


MakeWorld = Callable[..., World]


@pytest.fixture
def make_world(tmp_path: Path) -> Iterator[MakeWorld]:
    made: list[World] = []

    def make(against: Opponent = "reference") -> World:
        made.append(World(tmp_path, against))
        return made[-1]

    yield make
    for world in made:
        world.end()


@pytest.fixture
def world(make_world: MakeWorld) -> World:
    return make_world()


def test_pairs_come_with_an_evaluation_and_hold_no_step(world: World) -> None:
    assert world.go_on(4) == [{}, {}, {}, {"human/waiting": 4}]
    assert [(pair.prompt, pair.a, pair.b, pair.rewards) for pair in world.pairs(4)][:1] == [
        ("prompt 0", "step 4 0.0", "step 0 0.1", (4.0, 0.0))
    ]
    assert world.notes == []


def test_votes_enter_the_next_line_alone(world: World) -> None:
    """Three prompts prefer the policy by the reward, one the reference: a a b a agree, agree, do not, and do not."""
    world.go_on(4)
    world.vote(4, "aaba")
    first, second = world.go_on(2)
    win, agreement = wilson(3 / 4, 4), wilson(2 / 4, 4)
    assert first == {
        "human/waiting": 0, "human/step": 4, "human/votes": 4,
        "human/win_rate": 0.75,
        "human/win_rate_low": pytest.approx(win.low), "human/win_rate_high": pytest.approx(win.high),
        "human/agreement": 0.5, "human/agreement_low": pytest.approx(agreement.low),
        "human/agreement_high": pytest.approx(agreement.high),
    }  # fmt: skip
    assert second == {}


def test_the_raters_agreement_is_by_hand(world: World) -> None:
    """Two raters say a a b b and a a b a: observed 3/4, expected 1/2 * 3/4 + 1/2 * 1/4 = 1/2, so kappa is 1/2."""
    world.go_on(4)
    world.vote(4, "aabb", "anna")
    world.vote(4, "aaba", "ben")
    (line,) = world.go_on(1)
    assert (line["human/votes"], line["human/kappa"]) == (8, pytest.approx(0.5))


def test_the_newest_step_with_votes_is_shown_and_the_newest_pairs_wait(world: World) -> None:
    world.go_on(8)
    world.vote(4, "a")
    (line,) = world.go_on(1)
    assert (line["human/step"], line["human/waiting"]) == (4, 4)
    world.vote(8, "bt")
    world.vote(4, "a", first=1)
    (line,) = world.go_on(1)
    assert (line["human/step"], line["human/waiting"], line["human/win_rate"]) == (8, 2, 0.25)


def test_a_vote_that_is_taken_back_is_taken_back(world: World) -> None:
    world.go_on(4)
    world.vote(4, "ab")
    world.go_on(1)
    world.vote(4, "u", first=1)
    (line,) = world.go_on(1)
    assert (line["human/votes"], line["human/win_rate"], line["human/waiting"]) == (1, 1.0, 3)


def test_an_alarm_where_people_and_the_reward_part(world: World) -> None:
    """Three pairs cannot tell, four can: the interval of 0 of 3 reaches 0.56, that of 0 of 4 reaches 0.49."""
    world.go_on(4)
    world.vote(4, "bbb")
    world.go_on(1)
    assert world.notes == []
    world.vote(4, "a", first=3)
    world.go_on(2)
    assert world.notes == ["people and the reward part: they agree on 0.0% [0.0%, 49.0%] of step 4's pairs"]


def test_pairs_against_the_newest_step_with_votes(make_world: MakeWorld) -> None:
    world = make_world("labelled")
    world.go_on(4)
    assert world.pairs(4)[0].b == "step 0 0.1"
    world.go_on(4)
    assert world.pairs(8)[0].b == "step 0 0.1"  # nobody has voted
    world.vote(4, "ab")
    world.go_on(4)
    assert world.file(12).name.startswith("step-00000012-over-00000004-")
    assert world.pairs(12)[0].b == "step 4 0.1"
    world.vote(12, "a")
    assert world.go_on(1)[0]["human/step"] == 12
    world.begin(13)  # and the same from the files
    world.vote(12, "a", first=1)
    assert world.go_on(1)[0]["human/votes"] == 2
    world.go_on(2)
    assert world.file(16).name.startswith("step-00000016-over-00000012-")


def test_equal_lines_are_as_many_votes(world: World) -> None:
    world.go_on(4)
    for _ in range(3):
        world.vote(4, "a")
    world.go_on(1)
    assert [len(lines) for lines in read_readings(world.run)[5].votes.values()] == [3]


def test_a_line_that_is_no_reading_is_said_wherever_it_stands(tmp_path: Path) -> None:
    (tmp_path / "feedback").mkdir()
    (tmp_path / "feedback" / "queue.jsonl").write_text("x\n{}\n")
    assert odd_readings(tmp_path) == ["queue.jsonl:1: no reading", "queue.jsonl:2: no reading"]


def test_pairs_of_a_run_without_readings_are_not_undone(tmp_path: Path) -> None:
    (tmp_path / "feedback").mkdir()
    (tmp_path / "feedback" / "step-00000001-0123abcd.jsonl").touch()
    assert undone_files(tmp_path) == []


def lines_of(pairs: Path) -> list[str]:
    """The lines of the votes on a file of pairs."""
    return VoteFile(pairs).file.read_text().splitlines()


STORY: Sequence[Callable[[World], None]] = (
    lambda world: None,
    lambda world: world.vote(4, "ab"),
    lambda world: world.vote(4, "ta", "ben", first=2),
    lambda world: world.vote(8, "bb"),
)
"""What arrives before step 5, 6, 9 and 10 in the first life."""


def told(world: World) -> list[dict[str, float]]:
    """The metrics of twelve steps with these votes."""
    lines = world.go_on(4)
    for arrives, steps in zip(STORY, (1, 3, 1, 3), strict=True):
        arrives(world)
        lines += world.go_on(steps)
    return lines


@pytest.mark.parametrize("against", ["reference", "labelled"])
@pytest.mark.parametrize("step", range(12))
def test_a_resumed_run_reads_the_same_votes_at_the_same_steps(
    step: int, against: Opponent, make_world: MakeWorld
) -> None:
    """Resumed from any step, with votes that came meanwhile: the old steps are as they were, the new step has them."""
    world = make_world(against)
    lines, before = told(world), (world.run / "feedback" / "queue.jsonl").read_bytes()
    world.vote(8, "a", first=2)
    world.vote(12, "abab", "carl")
    world.begin(step)
    assert world.go_on(12 - step) == lines[step:]
    assert (world.run / "feedback" / "queue.jsonl").read_bytes() == before
    assert world.go_on(1)[0]["human/step"] == 12
    assert read_readings(world.run)[13].votes.keys() == {world.file(8).stem, world.file(12).stem}
    assert world.notes == []


def test_a_vote_file_that_was_edited_changes_no_step_that_read_it(world: World) -> None:
    """One line is gone, another says the opposite: what was read counts, and the changed line comes as a new vote."""
    lines, votes = told(world), VoteFile(world.file(4)).file
    _, second, *rest = lines_of(world.file(4))
    changed = second.replace('"vote": "b"', '"vote": "a"')
    votes.write_text("".join(f"{line}\n" for line in (changed, *rest)))
    world.begin(2)
    assert world.go_on(10) == lines[2:]
    assert world.notes == []
    world.go_on(2)
    kept = "they count as they were read, changed ones once more as new ones"
    assert world.notes == [f"2 votes of {votes.name} changed or gone: {kept}"]
    assert [read_readings(world.run)[step].votes for step in (13, 14)] == [{world.file(4).stem: [changed]}, {}]


def test_half_a_line_waits_for_its_end_and_a_line_that_is_no_vote_is_said_once(world: World) -> None:
    world.go_on(4)
    whole = json.dumps(asdict(vote(world.pairs(4)[0], "a")))
    votes = VoteFile(world.file(4)).file
    votes.write_text(whole)
    assert world.go_on(1) == [{}]
    assert world.notes == []
    votes.write_text(f"{whole}\nwhatever\n")
    assert world.go_on(1)[0]["human/votes"] == 1
    world.go_on(1)
    assert world.notes == [f"{votes.name}:2: no vote; it stays, and does not count"]
    assert [read_readings(world.run)[step].votes for step in (6, 7)] == [{world.file(4).stem: [whole]}, {}]


def test_a_step_that_is_done_again_with_other_texts_has_pairs_of_its_own(world: World) -> None:
    told(world)
    old = world.file(8)
    world.begin(7)
    world.go_on(1, mark="'")
    votes = f"2 votes left in {old.stem}.votes.jsonl, not counted"
    assert world.notes == [f"step 8 was done again with other texts: {votes}"]
    assert world.pairs(8)[0].a == "step 8' 0.0"
    assert undone_files(world.run) == [old]
    assert old not in queued_files(world.run)
    assert len(VoteFile(old).read().lines) == 2
    world.vote(8, "a")
    assert world.go_on(1)[0]["human/step"] == 8  # what step 9 read before was beside other texts


def test_votes_that_were_read_beside_votes_on_undone_texts_are_read_again(world: World) -> None:
    world.go_on(8)
    world.vote(8, "a")
    world.vote(4, "b")
    assert world.go_on(1)[0]["human/step"] == 8
    world.begin(7)
    assert world.go_on(1, mark="'")[0]["human/step"] == 4
    assert read_readings(world.run)[8].votes == {world.file(4).stem: lines_of(world.file(4))}
    assert list(read_readings(world.run)) == list(range(1, 9))  # step 9 is of the life before


def test_a_file_of_readings_that_was_cut_or_lost_is_made_again(world: World) -> None:
    lines = told(world)
    file = world.run / "feedback" / "queue.jsonl"
    content = file.read_bytes()
    file.write_bytes(content[:-9])
    world.begin(11)
    assert world.go_on(1) == lines[-1:]
    assert file.read_bytes() == content
    file.unlink()
    world.begin(12)
    assert world.go_on(1) == [{}]  # it knows of no pairs, until the next come
    world.go_on(3)
    world.vote(16, "a")
    assert world.go_on(1)[0]["human/votes"] == 1


def test_votes_on_pairs_that_do_not_exist_are_said_once(world: World) -> None:
    world.go_on(4)
    world.vote(4, "a")
    VoteFile(world.file(4)).append(vote("f" * 16, "b", chance=1 / 4))
    assert [line.get("human/votes") for line in world.go_on(2)] == [1, None]
    assert world.notes == [f"1 line of {world.file(4).stem}.votes.jsonl on pairs that are not asked: not counted"]


def test_a_last_line_without_its_end_stays(world: World) -> None:
    """As an editor may leave it, or a kill just before the end."""
    lines = told(world)
    file = world.run / "feedback" / "queue.jsonl"
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    world.begin(world.step)
    assert file.read_bytes() == content
    assert world.notes == []
    assert lines


def test_lines_that_are_no_reading_are_said_and_their_votes_do_not_count(world: World) -> None:
    """The line of step 8, whose step became a text: its pairs are asked no more, and the file of votes stays."""
    told(world)
    old, file = world.file(8), world.run / "feedback" / "queue.jsonl"
    file.write_text(file.read_text().replace('"step": 8,', '"step": "8",'))
    world.begin(world.step)
    said = "queue.jsonl:8: no reading"
    assert world.notes == [f"{said}; it stays, and does not count"]
    assert odd_readings(world.run) == [said]
    assert undone_files(world.run) == [old]
    assert len(VoteFile(old).read().lines) == 2


def test_pairs_that_were_edited_or_deleted_change_nothing(world: World) -> None:
    lines = told(world)
    world.file(8).write_text('{"prompt": "p", "a": "1", "b": "2"}\n')
    world.file(4).unlink()
    world.begin(8)
    assert world.go_on(4) == lines[8:]


def test_without_the_reference_there_are_no_pairs_and_one_note(world: World) -> None:
    (world.run / EVALUATIONS).unlink()
    (world.run / EVALUATIONS).touch()
    world.begin(0)
    assert world.go_on(5) == [{}] * 5
    assert world.notes == [f"no pairs for people at step 4: {EVALUATIONS} lacks the completions to compare with"]


def test_a_process_that_begins_knows_how_many_wait(world: World) -> None:
    told(world)
    for step, waiting in ((10, 2), (9, 4), (8, 4), (7, 2), (4, 4), (3, 0)):
        world.begin(step)
        assert world.queue is not None
        assert world.queue.waiting() == waiting


def test_votes_that_cannot_be_read_are_said_and_stop_nothing(world: World) -> None:
    world.go_on(4)
    VoteFile(world.file(4)).file.mkdir()
    assert world.go_on(2) == [{}, {}]
    (note,) = world.notes
    assert "no file of votes: a folder" in note


def test_readings_that_are_no_file_are_refused(world: World) -> None:
    file = world.run / "feedback" / "queue.jsonl"
    file.mkdir()
    with pytest.raises(UserError, match="no file of readings"):
        world.begin(0)
