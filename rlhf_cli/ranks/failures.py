"""An error of another process: as a message, and as an error of the first process."""

import traceback

import torch

from rlhf_cli.errors import EXIT_STOPPED, UserError
from rlhf_cli.models.memory import is_out_of_memory
from rlhf_cli.ranks.lockstep import GivenUp
from rlhf_cli.ranks.messages import Failure


class Follows(RuntimeError):
    """Another process failed because one more did."""


class RankFailed(RuntimeError):
    """Another process had an error that is no mistake of the user."""


def failure_of(error: BaseException) -> Failure:
    """The message of an error; frees the memory of one that ran out of it."""
    if is_out_of_memory(error):
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return Failure("memory", str(error))
    if isinstance(error, GivenUp):
        return Failure("follows", "another process failed")
    if isinstance(error, UserError):
        return Failure("user", error.what, error.where, error.fix, error.exit_code)
    return Failure("bug", "".join(traceback.format_exception(error)))


def error_of(failure: Failure, rank: int) -> Exception:
    """The error of another process, as if it had been here."""
    if failure.kind == "follows":
        return Follows(failure.what)
    if failure.kind == "memory" and failure.torn:
        return torn_by_memory(rank)
    if failure.kind == "memory":
        return torch.OutOfMemoryError(failure.what)
    if failure.kind == "user":
        what = f"rank {rank}: {failure.what}"
        return UserError(what, where=failure.where, fix=failure.fix, exit_code=failure.exit_code)
    return RankFailed(f"rank {rank} failed:\n{failure.what}")


def torn_by_memory(rank: int) -> UserError:
    """Out of memory where the other processes wait for the rest of a pass."""
    return UserError(
        f"rank {rank} ran out of memory in a pass of the sharded model",
        where="microbatch_size",
        fix="resume with a lower microbatch_size, or lower prompts_per_step",
        exit_code=EXIT_STOPPED,
    )
