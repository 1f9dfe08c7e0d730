"""Worker processes that answer requests: a line of JSON in, a line of JSON out. Standard library only.

The parent must stay small and import no torch: the peak memory of a process begins with that of its parent.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self


class Failed(RuntimeError):
    """A worker ended without an answer."""


class Worker:
    """A process that answers requests; its stderr is the parent's."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self.name = name
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | (environment or {}),
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and return the answer; raises Failed where there is none."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it is gone: then there is no answer either
        line = self._process.stdout.readline()
        if not line:
            raise Failed(f"{self.name} ended with exit code {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process; an error at its end no longer matters."""
        if kind is not None:
            self._process.kill()
        self._process.communicate()


class Parent:
    """The connection to the parent, in the worker. All other prints of the worker go to stderr from now on."""

    def __init__(self) -> None:
        self._answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def request(self) -> dict[str, Any] | None:
        """The next request; None at the end."""
        line = sys.stdin.readline()
        return json.loads(line) if line else None

    def answer(self, answer: Mapping[str, Any]) -> None:
        """Send the answer."""
        self._answers.write(json.dumps(answer) + "\n")


def peak_memory() -> dict[str, int]:
    """Peak memory of this process in bytes: of the machine, and of the GPU where torch uses one."""
    unit = 1 if sys.platform == "darwin" else 1024
    peak = {"rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        peak["cuda"] = torch.cuda.max_memory_allocated()
    return peak
