"""The process of a reward that may fail: import its function, call it when asked, answer in plain numbers.

`process.py` runs this file as a script. It imports nothing but the standard library, so it is up at once and the
function finds a Python that nobody has touched. A function of ours is made by a factory, from options. Requests and
answers are lines of JSON through two pipes of their own: what the function prints cannot get between them.
"""

from __future__ import annotations

import asyncio
import faulthandler
import hashlib
import importlib
import importlib.util
import inspect
import json
import os
import random
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

GRACE_S: Final = 1.0
LONGEST: Final = 300
"""Characters of an exception's message that are passed on."""


def main(function: str, options: str, requests: int, answers: int, timeout_s: float) -> None:
    """Serve `function` until the pipe of requests ends: with the parent, whichever way it goes.

    `options`: empty, or a JSON object; `function` is then a factory, whose result for them is served.
    """
    _guard(requests, answers)
    module, _, name = function.rpartition(":")
    file = module if module.endswith(".py") else ""
    with open(requests, encoding="ascii") as incoming, open(answers, "w", encoding="ascii") as outgoing:

        def answer(**told: Any) -> None:
            print(json.dumps(told), file=outgoing, flush=True)

        try:
            _watched(timeout_s)
            source = _imported(module, ours=bool(options))
            file = source.__file__ or ""
            asked = getattr(source, name, None)
            if not callable(asked):
                has = "is no function" if hasattr(source, name) else "is not there"
                answer(wrong=f"cannot be called: {name} {has}")
                return
            if options:
                asked = asked(**json.loads(options))
            theirs = file and not options  # of ours, the record has the version
            answer(sha256=hashlib.sha256(Path(file).read_bytes()).hexdigest() if theirs else None, **_parameters(asked))
        except BaseException as error:
            answer(**_trouble(error, file))
            return
        finally:
            faulthandler.cancel_dump_traceback_later()
        runner = asyncio.Runner()
        for line in incoming:
            answer(**_judged(asked, json.loads(line), file, runner, timeout_s))
        runner.close()


def _guard(requests: int, answers: int) -> None:
    """Leave a process behind that ends all of this, and what the function starts, soon after the pipe of requests ends.

    A thread would not do: a function may hang without letting any other run, as a regular expression does. It is no
    child, so that a function that waits for its children does not wait for it.
    """
    if middle := os.fork():
        os.waitpid(middle, 0)
        return
    if os.fork():
        os._exit(0)
    os.close(answers)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    poll = select.poll()
    poll.register(requests, 0)  # nothing to read: that its other end is closed is always told
    poll.poll()
    time.sleep(GRACE_S)  # for the function to leave in order, if it can
    os.killpg(0, signal.SIGKILL)


def _imported(module: str, *, ours: bool) -> Any:
    """The module by its file or by its name; what stands beside it, or in the working directory, can be imported."""
    if not module.endswith(".py"):
        if not ours:
            sys.path.insert(0, os.getcwd())
        return importlib.import_module(module)
    sys.path.insert(0, os.path.dirname(module))
    name = Path(module).stem
    spec = importlib.util.spec_from_file_location(name, module)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = source = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(source)
    return source


def _parameters(function: Callable[..., Any]) -> dict[str, Any]:
    """What it takes by name (None: anything), and what of that has no default."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # of a function that is not written in Python nobody knows
        return {"takes": ["prompts", "completions"], "needs": []}
    takes = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters)
    starred = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needs = [p.name for p in parameters if p.default is p.empty and p.kind not in starred]
    return {"takes": None if anything else takes, "needs": needs}


def _judged(
    function: Callable[..., Any], request: dict[str, Any], file: str, runner: asyncio.Runner, timeout_s: float
) -> dict[str, Any]:
    """The answer to one request."""
    _seed(request["seed"])
    _watched(timeout_s)
    try:
        result = function(**request["arguments"])
        if inspect.isawaitable(result):
            result = runner.run(_waited(result))
        return _plain(result, request["count"])
    except BaseException as error:  # sys.exit() too: it is the function's mistake, and no reason to leave
        return _trouble(error, file)
    finally:
        faulthandler.cancel_dump_traceback_later()


async def _waited(result: Any) -> Any:
    return await result


def _seed(seed: int) -> None:
    """Seed every global generator that is there: careless functions become repeatable."""
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


def _watched(timeout_s: float) -> None:
    """Write down, just before the deadline, where the function hangs."""
    faulthandler.dump_traceback_later(0.9 * timeout_s, file=sys.stderr)


def _plain(result: Any, count: int) -> dict[str, Any]:
    """The result as a list of `count` floats or None, or what is wrong with it."""
    if hasattr(result, "tolist"):  # an array or a tensor
        result = result.tolist()
    if not isinstance(result, list | tuple):
        return {"wrong": f"returned {_kind(result)}, not a list of {count} scores"}
    if len(result) != count:
        return {"wrong": f"returned {len(result)} scores for {count} completions"}
    scores = []
    for number, value in enumerate(result, start=1):
        value = value.item() if getattr(value, "ndim", None) == 0 else value  # a number of numpy's or torch's
        if not isinstance(value, int | float | None):
            return {"wrong": f"returned {_kind(value)} as score {number} of {count}, not a number or None"}
        scores.append(None if value is None else _float(value))
    return {"scores": scores}


def _kind(value: Any) -> str:
    return "None" if value is None else f"a value of type {type(value).__name__}"


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def _trouble(error: BaseException, file: str) -> dict[str, Any]:
    """What happened; of a whole batch that has no answer (`source.Unanswered`) also when to ask again."""
    if hasattr(error, "after_s"):
        return {"trouble": _shortened(str(error)), "after_s": error.after_s}
    return {"trouble": _told(error, file)}


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return f"{line[:LONGEST]}…" if len(line) > LONGEST else line


def _told(error: BaseException, file: str) -> str:
    """What happened, in one line, with the place in the user's file; the whole traceback goes to the log."""
    traceback.print_exception(error)
    if isinstance(error, SystemExit):
        what = f"called sys.exit({'' if error.code is None else repr(error.code)})"
    else:
        message = error.msg if isinstance(error, SyntaxError) else str(error)
        what = f"raised {type(error).__name__}: {' '.join(message.split())}".removesuffix(": ")
    place = _place(error, file)
    return _shortened(what) + (f" at {place}" if place else "")


def _place(error: BaseException, file: str) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f"{os.path.basename(error.filename)}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    machinery = (__file__, importlib.__file__, "<frozen")
    outside = [frame for frame in frames if not frame.filename.startswith(machinery)]
    own = [frame for frame in outside if frame.filename == file] or outside
    return f"{os.path.basename(own[-1].filename)}:{own[-1].lineno}" if own else ""


if __name__ == "__main__":
    _, asked_for, given, asked_by, answered_to, seconds = sys.argv
    del sys.argv[1:]  # the function has no command line
    main(asked_for, given, int(asked_by), int(answered_to), float(seconds))
