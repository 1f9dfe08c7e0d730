"""The first process's connection to one other process."""

import threading
from queue import SimpleQueue

import torch
from torch import Tensor

from rlhf_cli.ranks import wire
from rlhf_cli.ranks.messages import Answer, Opening, Order


class Link:
    """A thread that sends the orders for one process and waits for their answers."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.orders: SimpleQueue[Opening | Order | None] = SimpleQueue()
        self.answers: SimpleQueue[Answer | Exception] = SimpleQueue()
        self.device = torch.device("cpu")
        self._known: list[Tensor] = []
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def news(self, weights: list[Tensor]) -> list[Tensor] | None:
        """The trained weights; None where the other process has them already."""
        if self._known and all(map(torch.equal, self._known, weights)):
            return None
        self._known = weights
        return weights

    def _work(self) -> None:
        try:
            while (order := self.orders.get()) is not None:
                wire.send(order, self.rank)
                if isinstance(order, Order):
                    self.answers.put(wire.receive(self.rank, self.device))
            wire.send(None, self.rank)
        except Exception as error:
            self.answers.put(error)
