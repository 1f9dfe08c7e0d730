"""Let all processes that hold parts of one model make the same passes through it.

A pass needs every process's part of the weights, so each of them must take part in every pass of the others. But their
shards differ: one decodes longer, one has nothing to do. Before a pass each says what comes next; those with nothing
left to do make the passes of the others on one token, for the sake of the weights.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Final, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Variable

R = TypeVar("R")

PATIENCE: Final = timedelta(minutes=10)
"""The longest wait for another process in a pass, or for the turn to load. One that is stopped is noticed by its heart,
long before."""

Pass = Callable[..., Tensor]
"""A forward pass through the decoder: its inputs -> the hidden states [b, t, H]."""

DONE, GIVE_UP, READ, LEARN, BACKWARD = range(5)
"""The next action of a process: nothing; it raises an error; a pass without or with a gradient; a backward pass."""
_WORDS: Final = ("done", "given up", "a pass", "a pass with a gradient", "a backward pass")


class GivenUp(Exception):
    """Another process raised an error, or is gone: this one's work has no end."""


class Torn(Exception):
    """An error in the middle of a pass: the other processes wait for the rest of it, and cannot go on."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        super().__init__(str(error))


class Lockstep:
    """The passes that this process makes through a model of which it holds a part."""

    def __init__(self) -> None:
        """Join the processes; all of them must do so."""
        self._group = dist.new_group(backend="gloo", timeout=PATIENCE)
        self._idle: Callable[[], Tensor] | None = None
        self._reset: Callable[[], None] = lambda: None
        self._is_inside = False

    def bind(self, forward: Pass, idle: Callable[[Pass], Tensor], reset: Callable[[], None]) -> Pass:
        """Make passes in step from now on: returns the pass to use instead of `forward`.

        `idle` makes a pass on one token with the function that it is given; `reset` frees the weights of the others
        after some work.
        """
        self._idle = lambda: idle(run)

        def run(**inputs: object) -> Tensor:
            with self._inside():
                self._reset = reset  # before the first pass there is nothing to free, and FSDP has no place for it yet
                states = forward(**inputs)
            if torch.is_grad_enabled() and states.requires_grad:
                states = states.view_as(states)  # its gradient is there before any layer's backward pass begins
                states.register_hook(self._begin_backward)
            return states

        def announced(**inputs: object) -> Tensor:
            self._agree(LEARN if torch.is_grad_enabled() else READ)
            return run(**inputs)

        return announced

    def run(self, calculate: Callable[[], R]) -> R:
        """Calculate, and make the others' passes until all are done; all processes call it at the same time.

        Raises GivenUp where another process failed, and Torn for an error in the middle of a pass.
        """
        try:
            result = calculate()
            while (other := self._agree(DONE)) != DONE:
                self._accompany(other)
        except GivenUp:
            self._reset()
            raise
        except BaseException as error:
            if self._is_inside:
                raise (GivenUp() if is_lost(error) else Torn(error)) from error
            self.give_up()
            self._reset()
            raise
        self._reset()
        return result

    def meet(self) -> None:
        """Wait until all processes are here."""
        with self._inside():
            dist.barrier(self._group)

    def give_up(self) -> None:
        """Let the others stop at their next pass."""
        with suppress(GivenUp, RuntimeError):
            self._agree(GIVE_UP)

    def _agree(self, own: int) -> int:
        """Say what comes next; returns what comes next in those that are not done, or DONE."""
        said = torch.empty(self._group.size(), dtype=torch.long)
        with self._inside():
            dist.all_gather_single(said, torch.tensor([own]), group=self._group)
        others = {*said.tolist()} - {DONE}
        if GIVE_UP in others:
            raise GivenUp
        if len(others) > 1:
            raise RuntimeError(f"the processes part: {' and '.join(_WORDS[one] for one in sorted(others))}")
        return others.pop() if others else DONE

    def _accompany(self, other: int) -> None:
        """Make the pass of another process."""
        assert self._idle is not None
        with torch.set_grad_enabled(other == LEARN):
            states = self._idle()
            if other == LEARN:
                (0.0 * states.sum()).backward()

    def _begin_backward(self, gradient: Tensor) -> None:
        """Agree before the layers' backward pass begins: until then a process may still run out of memory."""
        self._agree(BACKWARD)
        self._is_inside = True
        Variable._execution_engine.queue_callback(self._end_backward)

    def _end_backward(self) -> None:
        self._is_inside = False

    @contextmanager
    def _inside(self) -> Iterator[None]:
        """The block cannot be left halfway."""
        self._is_inside = True
        yield
        self._is_inside = False


def is_lost(error: BaseException) -> bool:
    """Whether it says that another process is gone."""
    return isinstance(error, RuntimeError) and "gloo" in str(error).lower()
