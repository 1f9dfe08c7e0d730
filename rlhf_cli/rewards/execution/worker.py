"""The process of a reward that may fail: import its function, call it on request, reply with plain numbers.

process.py runs this file as a script. It imports only the standard library, so that it starts at once and the function
finds an untouched Python. A built-in function is made by a factory, from options. Requests and replies are lines of
JSON through two pipes of their own, so that the function's output cannot get between them.
"""

import faulthandler
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
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

_STDERR: Final = sys.stderr
_DUMPS: Final = json.JSONEncoder().encode
_LOADS: Final = json.JSONDecoder().decode
"""Bound here, since a function may replace those of the module."""
GRACE_S: Final = 1.0


def main(target: str, options: str, requests: int, replies: int, timeout_s: float) -> None:
    """Serve the function that `target` names until the pipe of requests, a file descriptor, ends with the parent.

    With `options`, a JSON object, `target` names a factory, and its result for them is served; "" stands for none.
    """
    sys.dont_write_bytecode = True  # Python tells a stale cache by second and size, and would run the old function
    _end_with_parent(requests, replies)
    _replies()
    module, _, name = target.rpartition(":")
    file = module if module.endswith(".py") else ""
    with open(requests, encoding="ascii") as incoming, open(replies, "w", encoding="ascii") as outgoing:

        def reply(number: int = 0, **message: Any) -> None:
            outgoing.write(_DUMPS({"number": number, **message}) + "\n")
            outgoing.flush()

        try:
            _dump_before_deadline(timeout_s)
            source = _import(module, is_builtin=bool(options))
            file = source.__file__ or ""
            function = getattr(source, name, None)
            if not callable(function):
                own = ((key, one) for key, one in vars(source).items() if inspect.isfunction(one))
                others = ", ".join(key for key, one in own if one.__module__ == source.__name__)
                only = f"only {others}" if others else "nor is any function"
                has = "is no function" if hasattr(source, name) else f"is not there, {only}"
                reply(wrong=f"cannot be called: {name} {has}")
                return
            if options:
                function = function(**_LOADS(options))
            is_users = file and not options  # of a built-in function, the run records our version
            hashing = _load_neighbour("hashing") if is_users else None
            sha256 = hashing.hash_with_imports(file) if hashing else getattr(function, "sha256", None)
            reply(sha256=sha256, **_parameters(function))
        except BaseException as error:
            reply(**_replies().as_failure(error, file))
            return
        finally:
            faulthandler.cancel_dump_traceback_later()
        for line in incoming:
            request = _LOADS(line)
            answer = _call(function, request, file, timeout_s)
            if options and "scores" in answer:
                answer["notes"] = getattr(function, "notes", list)()
            reply(request["number"], **answer)
        if _event_loop.cache_info().currsize:
            _event_loop().close()


def _end_with_parent(requests: int, replies: int) -> None:
    """Start a guard that kills this process, and all that the function starts, soon after the pipe of requests ends.

    The guard is a process: a function that hangs may let no other thread run, as a regular expression does. It is no
    child of this process, so a function that waits for its children does not wait for the guard.
    """
    ending = _load_neighbour("ending")
    worker, mark = os.getpid(), os.environ.get(ending.MARK, "")
    if middle := os.fork():
        os.waitpid(middle, 0)
        return
    if os.fork():
        os._exit(0)
    os.close(replies)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    poll = select.poll()
    poll.register(requests, 0)  # no event but the end of the pipe, which is always reported
    poll.poll()
    time.sleep(GRACE_S)  # so that the function can end in order
    ending.end_all(worker, mark)
    os.killpg(0, signal.SIGKILL)


def _import(module: str, *, is_builtin: bool) -> Any:
    """Import a module by its file or name; the file's folder, or else the working directory, joins the import path."""
    if not module.endswith(".py"):
        if not is_builtin:
            sys.path.insert(0, os.getcwd())
        return importlib.import_module(module)
    folder, name = os.path.dirname(module), Path(module).stem.replace(".", "_")  # a dot would follow a package's name
    if importlib.util.find_spec(name) is None:
        sys.path.insert(0, folder)
    else:  # the file has the name of a library, which must stay importable
        sys.path.append(folder)
        name = f"reward_{name}"
    return _load(name, module, sys.modules)


def _load_neighbour(name: str) -> Any:
    """Load a file beside this one, without a name in `sys.modules` that the function could meet."""
    return _load(name, Path(__file__).with_name(f"{name}.py"))


@cache
def _replies() -> Any:
    """The module that writes replies; loaded before the function, which may replace what it imports."""
    return _load_neighbour("replies")


def _load(name: str, file: str | Path, modules: dict[str, Any] | None = None) -> Any:
    """Run a file as a module. `modules` gets it before it runs, because a file may import itself."""
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    source = importlib.util.module_from_spec(spec)
    if modules is not None:
        modules[name] = source
    spec.loader.exec_module(source)
    return source


def _parameters(function: Callable[..., Any]) -> dict[str, Any]:
    """The arguments that the function takes by name (None: any), and those that it needs: without a default."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a function that is not written in Python may have no signature
        return {"takes": ["prompts", "completions"], "needs": []}
    takes = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters)
    starred = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    needs = [p.name for p in parameters if p.default is p.empty and p.kind not in starred]
    return {"takes": None if takes_any else takes, "needs": needs}


def _call(function: Callable[..., Any], request: dict[str, Any], file: str, timeout_s: float) -> Any:
    """Call the function; return the reply to the request."""
    seed_generators(request["seed"])
    _dump_before_deadline(timeout_s)
    try:
        result = function(**request["arguments"])
        if inspect.isawaitable(result):
            result = _event_loop().run(_wait_for(result))
        return _replies().as_scores(result, request["count"])
    except BaseException as error:  # sys.exit() too: it is a mistake of the function, and must not end this process
        return _replies().as_failure(error, file)
    finally:
        faulthandler.cancel_dump_traceback_later()


@cache
def _event_loop() -> Any:
    """The loop of all calls. Only who awaits loads asyncio: it takes half of the time that this process starts in."""
    import asyncio

    return asyncio.Runner()


async def _wait_for(result: Any) -> Any:
    return await result


def seed_generators(seed: int) -> None:
    """Seed every global random generator in use, so that careless functions become repeatable."""
    random.seed(seed)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed % 2**32)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


def _dump_before_deadline(timeout_s: float) -> None:
    """Write a traceback to the log shortly before the deadline, which shows where the function hangs."""
    faulthandler.dump_traceback_later(0.9 * timeout_s, file=_STDERR)


if __name__ == "__main__":
    _, *texts, requests_fd, replies_fd, seconds = sys.argv
    del sys.argv[1:]  # the function has no command line
    main(texts[0], texts[1], int(requests_fd), int(replies_fd), float(seconds))
