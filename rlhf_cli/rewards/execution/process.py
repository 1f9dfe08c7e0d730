"""Start the process of a function, call the function with a deadline, and kill the process if it hangs.

Every wait is short enough to notice a signal: `tick` is called at least every 50 ms of a call. If it raises, the
process is killed first.
"""

import contextlib
import json
import os
import secrets
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Final

from rlhf_cli.errors import killed_by
from rlhf_cli.rewards.execution.ending import MARK, end_all, find_family
from rlhf_cli.rewards.execution.messages import (
    CallFailed,
    FunctionInfo,
    FunctionScores,
    Garbled,
    InvalidFunction,
    read_message,
)

POLL_S: Final = 0.05
"""Seconds between two calls of `tick`, at most."""
GRACE_S: Final = 1.0
"""Seconds for a process to end in order."""
LARGEST_REPLY: Final = 64 * 2**20
"""Bytes of the longest reply that is read."""
FIXED: Final[Mapping[str, str]] = {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "LC_ALL": "C.UTF-8", "TZ": "UTC"}
"""Variables that are the same for every function: the order of sets, the encoding, the locale and the time zone."""
NOTED: Final = ("PYTHONPATH", "PYTHONOPTIMIZE", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES")
"""Variables that stay the user's, though a function may depend on them; a run records them."""
_CHUNK: Final = 2**16
_WORKER: Final = Path(__file__).with_name("worker.py")


def reward_environment() -> dict[str, str]:
    """The environment variables that a function may depend on: the fixed ones, and those of NOTED that are set."""
    return {**FIXED, **{name: os.environ[name] for name in NOTED if name in os.environ}}


class RewardProcess:
    """The process of one function. `start` starts it, and starts it again after it was killed.

    `target`: file.py:function or module:function. With `options`, it is a factory that makes the function from them.
    """

    def __init__(self, target: str, options: Mapping[str, Any] | None, timeout_s: float, log: Path | None) -> None:
        self._target, self._timeout_s, self._log = target, timeout_s, log
        self._options = "" if options is None else json.dumps(options)
        self._process: subprocess.Popen[bytes] | None = None
        self._requests = self._replies = -1
        self._info: FunctionInfo | None = None
        self._number, self._mark = 0, ""
        self.notes: list[str] = []
        """Notes of a built-in function on the texts up to now."""

    def start(self, tick: Callable[[], None]) -> FunctionInfo:
        """Start the process, unless it runs, and import the function.

        Raises CallFailed or InvalidFunction where that fails. Raises InvalidFunction also where the file changed since
        the first start: the scores of one run would come from two functions.
        """
        if self._process is None or self._info is None:
            self._spawn()
            try:
                info = self._exchange(b"", 0, tick)
                if not isinstance(info, FunctionInfo):
                    raise Garbled
                if self._info is not None and info.sha256 != self._info.sha256:
                    raise InvalidFunction(
                        "changed while the run was going", fix="bring it back, or resume with resume_allow=[reward]"
                    )
            except BaseException:
                self.kill()
                raise
            self._info = info
        return self._info

    def call(self, arguments: dict[str, Any], count: int, seed: int, tick: Callable[[], None]) -> list[float | None]:
        """Call the function for `count` scores; raises CallFailed or InvalidFunction where it gives none."""
        self._number += 1
        request = {"number": self._number, "arguments": arguments, "count": count, "seed": seed}
        try:
            answer = self._exchange(json.dumps(request).encode() + b"\n", self._number, tick)
            if not isinstance(answer, FunctionScores) or len(answer.scores) != count:
                raise Garbled
        except Garbled:
            self.kill()
            raise
        # a process that was killed begins anew
        self.notes += (note for note in answer.notes if note not in self.notes)
        return answer.scores

    def close(self) -> None:
        """Let the process end in order, and kill it if it does not."""
        if self._process is not None:
            family = find_family(self._process.pid, self._mark)  # while its children are known by their parent
            os.close(self._requests)
            self._requests = -1
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE_S)
            self.kill(family)

    def kill(self, family: Collection[int] = ()) -> None:
        """End the process at once, with everything that it started and the processes of `family`."""
        if self._process is None:
            return
        end_all(self._process.pid, self._mark, family)
        self._process.wait()
        self._process = None
        for pipe in (self._requests, self._replies):
            if pipe >= 0:
                os.close(pipe)
        self._requests = self._replies = -1

    def _spawn(self) -> None:
        self._mark = secrets.token_hex(16)
        with open(self._log or os.devnull, "ab") as log:
            requests, self._requests = os.pipe()
            self._replies, replies = os.pipe()
            numbers = (requests, replies, self._timeout_s)
            try:
                self._process = subprocess.Popen(
                    # -P: our folder is not on its path; -u: the log has all that it printed, however it ends
                    [sys.executable, "-P", "-u", str(_WORKER), self._target, self._options, *map(str, numbers)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(requests, replies),
                    start_new_session=True,  # Ctrl-C does not reach it, and all that it starts can be killed together
                    env={**os.environ, **FIXED, MARK: self._mark},
                )
            finally:
                os.close(requests)
                os.close(replies)
        os.set_blocking(self._requests, False)
        os.set_blocking(self._replies, False)

    def _exchange(self, request: bytes, number: int, tick: Callable[[], None]) -> FunctionInfo | FunctionScores:
        """Send a line and receive the line with its number. Where none comes back, kill the process."""
        try:
            line = self._send_and_receive(memoryview(request), tick)
        except BaseException:
            self.kill()
            raise
        return read_message(line, number)

    def _send_and_receive(self, request: memoryview, tick: Callable[[], None]) -> bytes:
        assert self._process is not None
        deadline, reply = time.monotonic() + self._timeout_s, bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(self._replies, selectors.EVENT_READ)
            if request:
                selector.register(self._requests, selectors.EVENT_WRITE)
            while not reply.endswith(b"\n"):
                tick()
                left = deadline - time.monotonic()
                if left <= 0:
                    raise CallFailed(
                        f"did not answer within {self._timeout_s:g} s (reward.timeout_s)", is_batch_wide=True
                    )
                ready = [key.fd for key, _ in selector.select(min(left, POLL_S))]
                if self._requests in ready:
                    with contextlib.suppress(BrokenPipeError):  # the process is dead: reading will notice
                        request = request[os.write(self._requests, request[:_CHUNK]) :]
                    if not request:
                        selector.unregister(self._requests)
                if self._replies in ready:
                    received = os.read(self._replies, _CHUNK)
                    if not received:
                        raise self._ended()
                    reply += received
                    if len(reply) > LARGEST_REPLY:
                        raise CallFailed(f"answered with more than {LARGEST_REPLY // 2**20} MiB")
                elif self._process.poll() is not None:  # its children may hold the pipe open
                    raise self._ended()
        return bytes(reply)

    def _ended(self) -> CallFailed:
        """The error that says how the process ended."""
        assert self._process is not None
        try:
            code = self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            return CallFailed("closed the pipe of its answers")
        if code >= 0:
            return CallFailed(f"ended its process with exit code {code}")
        return CallFailed(f"had its process killed by {killed_by(code)}")
