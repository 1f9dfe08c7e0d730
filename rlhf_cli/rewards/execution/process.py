"""The parent's side of a user's function: its process is started, asked with a deadline, and killed where it hangs.

Nothing here waits for longer than it takes to notice a signal: `tick` is called at least every 50 ms of a call, and
whatever it raises kills the process first.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

POLL_S: Final = 0.05
GRACE_S: Final = 1.0
LARGEST_ANSWER: Final = 64 * 2**20
_CHUNK: Final = 2**16
_WORKER: Final = Path(__file__).with_name("worker.py")


class Trouble(Exception):
    """The function gave no answer this time; the message goes on after its name.

    `together`: whichever of the completions were asked for, it would have been the same. `after_s`: how long to wait
    before another try; None: there is no use in one.
    """

    def __init__(self, what: str, *, together: bool = False, after_s: float | None = 0.0) -> None:
        self.together, self.after_s = together, after_s
        super().__init__(what)


class Misuse(Exception):
    """It is no reward function: no other try and no other completion would mend that. `fix` is what would."""

    def __init__(self, what: str, fix: str = "return a list with one number (or None) for each completion") -> None:
        self.fix = fix
        super().__init__(what)


@dataclass(frozen=True, slots=True)
class About:
    """What is known of a function once it was imported."""

    sha256: str | None
    """Of its file; None where it has none."""
    takes: list[str] | None
    """Its arguments by name; None for any."""
    needs: list[str]
    """Those without a default."""


class RewardProcess:
    """The process of one function; it is started when it is needed, and anew after it was killed."""

    def __init__(self, function: str, options: Mapping[str, Any] | None, timeout_s: float, log: Path | None) -> None:
        self._function, self._timeout_s, self._log = function, timeout_s, log
        self._options = "" if options is None else json.dumps(options)
        self._process: subprocess.Popen[bytes] | None = None
        self._requests = self._answers = -1
        self._about: About | None = None

    def start(self, tick: Callable[[], None]) -> About:
        """Start the process, if there is none, and import the function.

        Raises Trouble or Misuse where that fails, and Misuse where its file is no longer the one that was started with:
        scores before and after would come from two functions.
        """
        if self._process is None or self._about is None:
            self._spawn()
            try:
                about = About(**self._exchange(b"", tick))
                if self._about is not None and about.sha256 != self._about.sha256:
                    raise Misuse(
                        "changed while the run was going", fix="bring it back, or resume with resume_allow=[reward]"
                    )
            except BaseException:
                self.kill()
                raise
            self._about = about
        return self._about

    def call(self, arguments: dict[str, Any], count: int, seed: int, tick: Callable[[], None]) -> list[float | None]:
        """The started function's `count` scores, in its time; raises Trouble or Misuse where it gives none."""
        request = {"arguments": arguments, "count": count, "seed": seed}
        scores: list[float | None] = self._exchange(json.dumps(request).encode() + b"\n", tick)["scores"]
        return scores

    def close(self) -> None:
        """Let the process leave, and kill it if it does not."""
        if self._process is not None:
            os.close(self._requests)
            self._requests = -1
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE_S)
            self.kill()

    def kill(self) -> None:
        """End the process at once, with everything it started."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None
        for pipe in (self._requests, self._answers):
            if pipe >= 0:
                os.close(pipe)
        self._requests = self._answers = -1

    def _spawn(self) -> None:
        with open(self._log or os.devnull, "ab") as log:
            requests, self._requests = os.pipe()
            self._answers, answers = os.pipe()
            numbers = (requests, answers, self._timeout_s)
            try:
                self._process = subprocess.Popen(
                    # -P: nothing of ours on its path; -u: what it printed is in the log, however it ends
                    [sys.executable, "-P", "-u", str(_WORKER), self._function, self._options, *map(str, numbers)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(requests, answers),
                    start_new_session=True,  # Ctrl-C is for us; and all it starts can be killed together
                    env={"PYTHONHASHSEED": "0"} | os.environ,  # sets come in the same order every time
                )
            finally:
                os.close(requests)
                os.close(answers)
        os.set_blocking(self._requests, False)
        os.set_blocking(self._answers, False)

    def _exchange(self, request: bytes, tick: Callable[[], None]) -> dict[str, Any]:
        """Send a line, receive one. However it is left but by an answer, the process is dead afterwards."""
        try:
            line = self._answered(memoryview(request), tick)
        except BaseException:
            self.kill()
            raise
        answer: dict[str, Any] = json.loads(line)
        if "wrong" in answer:
            raise Misuse(answer["wrong"])
        if "trouble" in answer:
            raise Trouble(answer["trouble"], together="after_s" in answer, after_s=answer.get("after_s", 0.0))
        return answer

    def _answered(self, request: memoryview, tick: Callable[[], None]) -> bytes:
        assert self._process is not None
        deadline, answer = time.monotonic() + self._timeout_s, bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(self._answers, selectors.EVENT_READ)
            if request:
                selector.register(self._requests, selectors.EVENT_WRITE)
            while not answer.endswith(b"\n"):
                tick()
                left = deadline - time.monotonic()
                if left <= 0:
                    raise Trouble(f"did not answer within {self._timeout_s:g} s (reward.timeout_s)", together=True)
                ready = [key.fd for key, _ in selector.select(min(left, POLL_S))]
                if self._requests in ready:
                    with contextlib.suppress(BrokenPipeError):  # it is dead: reading will tell
                        request = request[os.write(self._requests, request[:_CHUNK]) :]
                    if not request:
                        selector.unregister(self._requests)
                if self._answers in ready:
                    received = os.read(self._answers, _CHUNK)
                    if not received:
                        raise self._gone()
                    answer += received
                    if len(answer) > LARGEST_ANSWER:
                        raise Trouble(f"answered with more than {LARGEST_ANSWER // 2**20} MiB")
                elif self._process.poll() is not None:  # children of its own may hold the pipe open
                    raise self._gone()
        return bytes(answer)

    def _gone(self) -> Trouble:
        assert self._process is not None
        try:
            code = self._process.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            return Trouble("closed the pipe of its answers")
        if code >= 0:
            return Trouble(f"ended its process with exit code {code}")
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return Trouble(f"had its process ended by {name}{' (out of memory?)' if -code == signal.SIGKILL else ''}")
