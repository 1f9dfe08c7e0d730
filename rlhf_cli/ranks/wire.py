"""Send messages between two processes of a run, over torch.distributed's gloo."""

from datetime import timedelta
from typing import Any, Final

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import Store

from rlhf_cli.ranks.coding import pack, unpack

FOREVER: Final = timedelta(days=30)
"""A process may wait this long for the next message: a reward may take hours. Heartbeats tell whether it is alive."""
START: Final = timedelta(minutes=5)
"""The longest wait for the other processes to start."""


def join_group(store: Store, rank: int, size: int) -> None:
    """Join the processes of the run; returns once all are there."""
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=FOREVER)


def send(message: object, rank: int) -> None:
    """Send a message to the process of that rank; raises RuntimeError where it is gone."""
    content = pack(message)
    dist.send(torch.tensor([len(content)]), rank)
    dist.send(torch.frombuffer(content, dtype=torch.uint8), rank)


def receive(rank: int, device: torch.device) -> Any:
    """Wait for a message of that rank, whose tensors go to `device`; raises RuntimeError where the process is gone."""
    size = torch.zeros(1, dtype=torch.long)
    dist.recv(size, rank)
    content = torch.empty(int(size), dtype=torch.uint8)
    dist.recv(content, rank)
    return unpack(bytearray(content.numpy()), device)
