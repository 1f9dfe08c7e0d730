"""The first process's side: who calculates what, who is gone, and why."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rlhf_cli.errors import Stopped, UserError
from rlhf_cli.ranks import leader as module
from rlhf_cli.ranks.leader import BEAT_S, Leader
from rlhf_cli.ranks.lockstep import GivenUp, Torn
from rlhf_cli.ranks.messages import Answer, Failure, Opening, Order
from tests.unit.support import config_of


class Clock:
    """A clock that only moves in sleep."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.slept = 1000.0, list[float]()
        monkeypatch.setattr(module.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(module.time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@dataclass
class Hearts:
    """A store in which each heart beats as it is told to."""

    beats: Iterator[int]
    asked: list[str] = field(default_factory=list)

    def add(self, key: str, amount: int) -> int:
        assert amount == 0
        self.asked.append(key)
        return next(self.beats)


class Gone:
    """Children of which some are gone."""

    def __init__(self, reasons: dict[int, str] | None = None) -> None:
        self.reasons, self.killed = reasons or {}, 0

    def why_gone(self, rank: int) -> str | None:
        return self.reasons.get(rank)

    def kill(self) -> None:
        self.killed += 1


class Near:
    """A link whose process answers at once, in this one."""

    def __init__(self, rank: int, answer: Callable[[Order], list[Answer | Exception]]) -> None:
        self.rank, self.answer = rank, answer
        self.orders, self.answers = self, SimpleQueue[Any]()
        self.sent: list[Order] = []
        self.device: Any = None

    def news(self, weights: list[torch.Tensor]) -> list[torch.Tensor]:
        return weights

    def put(self, order: Order) -> None:
        self.sent.append(order)
        for one in self.answer(order):
            self.answers.put(one)


def leader_of(size: int = 3, **fields: Any) -> Any:
    """A leader whose processes were never started."""
    made: Any = Leader.__new__(Leader)
    made.size, made._children, made._check = size, None, lambda: None
    made._number, made._looked, made._lost, made._lockstep, made._links = 0, 0.0, None, None, [object()]
    made._silent = dict.fromkeys(range(1, size), (-1, 0))
    made._hearts, made._closed = Hearts(iter(range(10**6))), threading.Event()
    for name, value in fields.items():
        setattr(made, f"_{name}", value)
    return made


POLICY: Any = SimpleNamespace(
    device="there", parameters=lambda: {"w": torch.nn.Parameter(torch.tensor([1.0, 2.0])), "v": torch.ones(1)}
)


def double(policy: Any, engine: Any, number: int, *, tick: Callable[[], None]) -> int:
    """A task."""
    tick()
    return 2 * number


def calculate(order: Order) -> list[Answer | Exception]:
    """The answer of a process to an order for `double`, after one that was given up."""
    old = Answer(order.number - 1, Failure("bug", "given up"))
    return [old, Answer(order.number, [2 * number for (number,) in order.parts])]


class TestMap:
    """Every shard is calculated once, by the process whose turn it is."""

    def test_results_are_in_the_order_of_the_parts(self) -> None:
        links, ticks = [Near(rank, calculate) for rank in (1, 2)], list[int]()
        leader = leader_of(links=links)
        parts = {number: (number,) for number in (4, 0, 1, 3, 2)}
        for _ in range(2):
            assert leader.map(POLICY, None, double, parts, lambda: ticks.append(1)) == [8, 0, 2, 6, 4]
        assert ticks == [1] * 4  # this process calculates 0 and 3
        first, second = links[0].sent
        assert (first.number, second.number, first.task) == (1, 2, "double")
        assert [order.parts for link in links for order in link.sent[:1]] == [[(4,), (1,)], [(2,)]]
        assert [weights.tolist() for weights in first.weights or ()] == [[1.0, 2.0], [1.0]]
        assert not any(weights.requires_grad for weights in first.weights or ())
        assert links[0].device == "there"

    def test_a_process_without_a_shard_is_not_asked(self) -> None:
        links = [Near(rank, calculate) for rank in (1, 2)]
        assert leader_of(links=links).map(POLICY, None, double, {0: (0,), 2: (2,)}, lambda: None) == [0, 4]
        assert [len(link.sent) for link in links] == [0, 1]

    def test_in_lockstep_every_process_is_asked(self) -> None:
        links = [Near(rank, calculate) for rank in (1, 2)]
        lockstep = SimpleNamespace(run=lambda calculate: calculate())
        leader = leader_of(links=links, lockstep=lockstep)
        assert leader.map(POLICY, None, double, {0: (0,)}, lambda: None) == [0]
        assert [order.parts for link in links for order in link.sent] == [[], []]

    def test_what_a_process_refuses_is_said_with_its_rank(self) -> None:
        def refuse(order: Order) -> list[Answer | Exception]:
            return [Answer(order.number, Failure("user", "no such model", "model", "name another", 3))]

        with pytest.raises(UserError) as caught:
            leader_of(links=[Near(1, refuse)]).map(POLICY, None, double, {1: (1,)}, lambda: None)
        assert caught.value.line() == "rank 1: no such model (model); fix: name another"
        assert caught.value.exit_code == 3

    def test_who_gave_up_in_lockstep_says_why(self) -> None:
        def run(calculate: object) -> None:
            raise GivenUp

        def fail(order: Order) -> list[Answer | Exception]:
            return [Answer(order.number, Failure("follows" if order.parts else "user", "no such file"))]

        leader = leader_of(links=[Near(rank, fail) for rank in (1, 2)], lockstep=SimpleNamespace(run=run))
        with pytest.raises(UserError, match=r"^rank 2: no such file$"):
            leader.map(POLICY, None, double, {1: (1,)}, lambda: None)

    @pytest.mark.parametrize(
        ("error", "said"), [(torch.OutOfMemoryError("full"), r"rank 0"), (KeyError("x"), r"^'x'$")]
    )
    def test_an_error_in_the_middle_of_a_pass_is_the_own_one(self, error: Exception, said: str) -> None:
        def run(calculate: object) -> None:
            raise Torn(error)

        leader = leader_of(links=[], lockstep=SimpleNamespace(run=run))
        with pytest.raises((UserError, KeyError), match=said):
            leader.map(POLICY, None, double, {0: (0,)}, lambda: None)


def answer_of(error: Exception, **fields: Any) -> None:
    """Wait for the answer of rank 1, whose thread had this error."""
    link: Any = SimpleNamespace(rank=1, answers=SimpleQueue())
    link.answers.put(error)
    leader_of(**fields)._answer(link)


def test_a_connection_that_breaks_is_a_process_that_is_gone() -> None:
    with pytest.raises(Stopped) as caught:
        answer_of(RuntimeError("Connection closed by peer\nframe #0"))
    assert caught.value.reason == "rank 1 is gone: Connection closed by peer"


def test_a_connection_that_breaks_after_a_process_was_lost_says_which() -> None:
    with pytest.raises(Stopped) as caught:
        answer_of(RuntimeError("Connection closed by peer"), lost="rank 2 was killed by SIGKILL")
    assert caught.value.reason == "rank 2 was killed by SIGKILL"


def test_a_child_that_is_gone_has_a_second_to_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, children = Clock(monkeypatch), Gone()
    with pytest.raises(Stopped) as caught:
        answer_of(RuntimeError("closed"), children=children)
    assert caught.value.reason == "rank 1 is gone: closed"
    assert set(clock.slept) == {0.02}
    assert clock.now == pytest.approx(1000 + BEAT_S, abs=0.03)
    children.reasons = {1: "was killed by SIGKILL", 2: "ended"}
    with pytest.raises(Stopped) as caught:
        answer_of(RuntimeError("closed"), children=children)
    assert caught.value.reason == "rank 1 was killed by SIGKILL"


def test_after_an_error_in_lockstep_the_one_that_is_gone_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_S", 0.5)
    clock, leader = Clock(monkeypatch), leader_of()
    assert leader._why_lost(RuntimeError("gloo\nframe")) == "a process is gone: gloo"
    assert set(clock.slept) == {0.02}
    assert clock.now == pytest.approx(1001, abs=0.03)
    leader._lost = "rank 1 ended"
    assert leader._why_lost(RuntimeError("gloo")) == "rank 1 ended"
    assert clock.now == pytest.approx(1001, abs=0.03)


def test_a_message_that_cannot_be_written_is_our_bug_and_no_process_that_is_gone() -> None:
    with pytest.raises(TypeError, match="has no place for set"):
        answer_of(TypeError("a message between processes has no place for set"))


class TestSignsOfLife:
    """A process is gone once it has ended, or its heart was silent for thirty looks in a row."""

    def test_thirty_looks_without_a_heartbeat(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "BEAT_S", 0.5)
        leader = leader_of(size=2, hearts=Hearts(iter([7] * 30 + [8] * 40)))
        found = [leader._find_lost() for _ in range(61)]
        assert found == [None] * 60 + ["rank 1 gave no sign of life for 15 s"]  # the 30th after the first 8
        assert set(leader._hearts.asked) == {"rlhf/heart/1"}

    def test_every_rank_is_looked_at(self) -> None:
        leader = leader_of(size=4)
        assert leader._find_lost() is None
        assert leader._hearts.asked == [f"rlhf/heart/{rank}" for rank in (1, 2, 3)]

    def test_a_child_that_has_ended_is_named_at_once(self) -> None:
        leader = leader_of(children=Gone({2: "ended with exit code 3"}))
        assert leader._find_lost() == "rank 2 ended with exit code 3"
        assert leader._hearts.asked == ["rlhf/heart/1"]

    def test_before_all_are_there_no_heart_is_listened_to(self) -> None:
        leader = leader_of(links=[], children=Gone())
        assert leader._find_lost() is None
        assert leader._hearts.asked == []

    def test_one_looks_once_a_second(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = Clock(monkeypatch)
        leader = leader_of(looked=1000.0, children=Gone({1: "ended"}))
        clock.now = 1000.75
        leader._look()
        clock.now = 1001.0
        with pytest.raises(Stopped) as caught:
            leader._look()
        assert caught.value.reason == "rank 1 ended"
        clock.now = 1001.75
        leader._look()

    def test_in_lockstep_a_thread_looks(self) -> None:
        leader = leader_of(lockstep=object(), children=Gone({1: "ended"}))
        leader._look()
        leader._lost = "rank 1 ended"
        with pytest.raises(Stopped) as caught:
            leader._look()
        assert caught.value.reason == "rank 1 ended"

    @pytest.mark.parametrize("has_children", [True, False])
    def test_the_thread_ends_the_children_that_wait_for_a_lost_one(self, has_children: bool) -> None:
        waits, children = list[float](), Gone() if has_children else None

        def wait(seconds: float) -> bool:
            waits.append(seconds)
            return len(waits) > 100

        beats = Hearts(iter([1] * 1000))
        leader = leader_of(size=2, children=children, hearts=beats, closed=SimpleNamespace(wait=wait))
        leader._watch()
        assert waits == [1.0] * 31
        assert leader._lost == "rank 1 gave no sign of life for 30 s"
        assert children is None or children.killed == 1

    def test_the_thread_ends_with_the_run(self) -> None:
        leader = leader_of(size=2)
        leader._closed.set()
        leader._watch()
        assert leader._lost is None


def test_who_waits_looks_after_signals_and_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[int] = []

    class Late:
        def get(self, timeout: float) -> str:
            assert timeout == 0.2
            if len(checked) < 3:
                raise module.Empty
            return "answer"

    leader = leader_of(check=lambda: checked.append(1), looked=float("inf"))
    assert leader._wait(Late()) == "answer"
    assert len(checked) == 3


class TestBeginning:
    """The first process meets the others, and lets them load the model."""

    @pytest.fixture
    def joined(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
        """Every join of the group, and the threads that are begun; no process is there."""
        seen: list[tuple[Any, ...]] = []

        class Thread(threading.Thread):
            def start(self) -> None:
                seen.append(("thread", self.daemon))
                super().start()

        monkeypatch.setattr(
            module, "_open_store", lambda size, children: SimpleNamespace(clone=lambda: Hearts(iter(())))
        )
        monkeypatch.setattr(module.wire, "join_group", lambda store, rank, size: seen.append((rank, size)))
        monkeypatch.setattr(module.threading, "Thread", Thread)
        monkeypatch.setattr(module, "Link", lambda rank: SimpleNamespace(rank=rank, orders=SimpleQueue()))
        return seen

    def test_it_is_rank_0_and_has_a_link_to_each_other(self, joined: list[tuple[Any, ...]]) -> None:
        leader: Any = Leader(3, None, lambda: None)
        assert joined == [("thread", True), (0, 3)]
        assert [link.rank for link in leader._links] == [1, 2]
        assert leader._silent == {1: (-1, 0), 2: (-1, 0)}
        assert (leader.size, leader._number, leader._watching.daemon) == (3, 0, True)

    def test_processes_that_do_not_find_each_other_end_the_run(
        self, joined: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*given: object) -> None:
            raise RuntimeError("timed out")

        monkeypatch.setattr(module.wire, "join_group", fail)
        with pytest.raises(Stopped) as caught:
            Leader(2, None, lambda: None)
        assert caught.value.reason == "the processes of the run do not find each other: timed out"

    @pytest.mark.parametrize("shares", [False, True])
    def test_each_loads_the_model_whole_or_its_part(
        self, shares: bool, joined: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "Lockstep", lambda: "in step")
        leader: Any = Leader(3, None, lambda: None)
        config = config_of(shard_model=shares, processes=2, shards=2)
        duties: Any = SimpleNamespace(load=lambda config, note, lockstep: lockstep)
        assert leader.load(duties, config, 2, print) == ("in step" if shares else None)
        sent = [link.orders.get_nowait() for link in leader._links]
        assert sent == [Opening(config.model_dump(mode="json"), 2)] * 2
        assert leader._watching.is_alive() == shares
        leader._closed.set()
        if shares:
            leader._watching.join()

    @pytest.mark.parametrize("error", [RuntimeError("Gloo: closed"), RuntimeError("too large"), KeyError("x")])
    def test_a_process_that_is_gone_while_it_loads_is_named(
        self, error: Exception, joined: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "Lockstep", lambda: "in step")
        leader: Any = Leader(2, None, lambda: None)
        leader._lost = "rank 1 ended"
        leader._closed.set()

        def fail(*given: object) -> None:
            raise error

        duties: Any = SimpleNamespace(load=fail)
        with pytest.raises((Stopped, RuntimeError, KeyError)) as caught:
            leader.load(duties, config_of(shard_model=True, processes=2, shards=2), 2, print)
        assert getattr(caught.value, "reason", None) == ("rank 1 ended" if "Gloo" in str(error) else None)

    def test_children_meet_at_the_port_that_is_held_for_them_and_others_where_torchrun_says(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[tuple[Any, ...]] = []

        def meet(*given: Any, **named: Any) -> Any:
            asked.append((*given, named))
            return iter([("store", "rank", "size")])

        monkeypatch.setattr(module, "rendezvous", meet)
        monkeypatch.setattr(module, "TCPStore", meet)
        children: Any = SimpleNamespace(port=99, socket=SimpleNamespace(detach=lambda: 7))
        assert module._open_store(3, None) == "store"
        module._open_store(3, children)
        start = module.wire.START
        assert asked == [
            ("env://", 0, 3, {"timeout": start}),
            ("127.0.0.1", 99, 3, True, start, {"wait_for_workers": False, "master_listen_fd": 7}),
        ]


@pytest.mark.parametrize("alive", [[False, False], [True, False], []])
def test_the_others_have_two_seconds_in_all_to_end(alive: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    waits, ended, done = list[float](), list[object](), list[int]()
    monkeypatch.setattr(module.dist, "destroy_process_group", lambda: done.append(1))
    links = [
        SimpleNamespace(
            orders=SimpleNamespace(put=ended.append),
            thread=SimpleNamespace(join=waits.append, is_alive=lambda is_alive=is_alive: is_alive),
        )
        for is_alive in alive
    ]
    leader = leader_of(links=links, watching=SimpleNamespace(is_alive=lambda: True, join=waits.append))
    leader.close()
    assert leader._closed.is_set()
    assert waits == [2.0, *[1.0] * len(alive)]
    assert ended == [None] * len(alive)
    assert done == ([1] if alive == [False, False] else [])
