"""The command `rlhf`: find the verb, import it, and turn errors into one line and an exit code."""

import atexit
import difflib
import importlib
import io
import os
import shlex
import signal
import sys
import traceback
from contextlib import suppress
from typing import Final

from rlhf_cli import errors
from rlhf_cli.starting import keep_imports, show_start

_EXIT_PIPE: Final = 141  # 128 + SIGPIPE, as a shell reports a command whose reader has gone

VERBS: Final = {
    "training": {
        "train": "fine-tune a language model from a reward",
        "fork": "go on from a checkpoint with other settings, same randomness",
        "sft": "train a model on completions that you give",
        "dpo": "train a model on pairs of completions",
        "reward": "a reward model from pairs: reward train; try one: reward test",
        "feedback": "rounds: samples, votes, a reward model, the policy from it",
    },
    "planning": {
        "check": "go or no-go: one step, without a change of weights",
        "explain": "each setting: its value, what sets it, its meaning",
        "data": "the prompts as the policy reads them",
        "presets": "YAML files to begin with: list, show, copy",
        "schema": "a JSON Schema, for editors that check YAML files",
        "oracle": "the optimum and the frontier that training could reach",
        "verify-gradient": "the expected update of a run beside the exact gradient",
        "skill": "this tool on one page, for a program that drives it",
        "demo": "the ideas behind it, with pictures, in half a minute",
    },
    "results": {
        "report": "a run as a page: curves, comparison, completions",
        "eval": "a policy against its reference or another, in numbers",
        "generate": "answers of a trained model, beside its reference",
        "chat": "talk to a trained model, and to its reference",
        "label": "which is better? blind votes of people, and the win rate",
        "merge": "a trained model as a plain transformers folder",
        "export": "a trained model as a GGUF file, for llama.cpp and Ollama",
        "doctor": "what is wrong with a run, or the machine",
        "push": "a trained model to a hub of models",
        "runs": "list runs, and how to continue them",
        "verify-resume": "repeat a run's last steps, and compare bit for bit",
        "audit": "check a run's files, and repeat stretches chosen at random",
    },
}
"""The rooms of commands/, each with its verbs and their help. A verb's module has `main(argv) -> exit code or None`."""

ROOM_OF: Final = {verb: room for room, verbs in VERBS.items() for verb in verbs}
"""The room of each verb. A verb's module is imported when the verb is typed."""

_MEANT: Final = {
    **{name: f"train algorithm={name}" for name in ("grpo", "dapo", "rloo", "ppo", "reinforce")},
    "sweep": "train -m",
    "resume": "train resume=RUN",
    "evaluate": "eval",
    "compare": "report RUN RUN",
    "list": "runs",
}
"""Commands of other tools, and words that a verb may have been called by, with ours."""

_HELP: Final = """\
usage: rlhf VERB [ARGUMENT ...]      rlhf VERB --help      rlhf --version

{verbs}

  rlhf train                                the default; minutes on 2 CPU cores
  rlhf train config=tiny                    the whole pipeline in seconds
  rlhf train config=./my-run.yaml beta=0.1  your own YAML, and an override
  rlhf train -m beta=0.02,0.1,0.5           a sweep: one run for each value
  rlhf sft data.path=answers.jsonl          a warm start; then model.adapter=RUN
  rlhf reward train data.path=pairs.jsonl   a reward model; then reward.path=RUN
  rlhf generate RUN "Write a greeting."     RUN is a run's folder
  rlhf chat RUN --reference                 a conversation with both
  rlhf label RUN                            policy against reference, blind
  rlhf report RUN [RUN ...]                 a page of a run, or of several
  rlhf demo                                 the lecture; --html FILE: as a page

--debug adds the traceback to an error.
TAB completion: eval "$(rlhf -sc install=bash)"; zsh and fish work as well.
"""


def main() -> None:
    """The console script."""
    code: int | None = None
    is_first = not atexit._ncallbacks()

    @atexit.register  # called last of those that are registered from now on
    def leave() -> None:
        """End the process, and do not free what was imported one by one: with torch that takes a tenth of a second."""
        if code is not None and is_first:
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError):
                    stream.flush()
            os._exit(code)

    code = run(sys.argv[1:])
    for number in (signal.SIGINT, signal.SIGTERM):  # a second one, while Python ends, is no reason for another code
        signal.signal(number, lambda *_: os._exit(code))
    sys.exit(code)


def run(argv: list[str]) -> int:
    """Run a command line and return its exit code; only here do exceptions become messages."""
    _prepare_streams()
    debug = "--debug" in argv
    try:
        with errors.disk_errors():
            code = _dispatch([argument for argument in argv if argument != "--debug"])
            sys.stdout.flush()
        return code
    except errors.UserError as e:
        if debug:
            traceback.print_exc()
        return _end(e.exit_code, f"error: {e.line()}\n")
    except errors.Stopped as e:
        return _end(errors.EXIT_STOPPED if e.resumable else errors.EXIT_INTERRUPTED, f"stopped: {e.reason}\n")
    except KeyboardInterrupt:
        return _end(errors.EXIT_INTERRUPTED, "stopped: interrupted\n")
    except BrokenPipeError:
        return _end(_EXIT_PIPE, "")
    except Exception:
        traceback.print_exc()
        return errors.EXIT_BUG


def _end(code: int, why: str) -> int:
    """Print why the command ends, and return its exit code: Python's last flush must not change it."""
    try:
        with errors.reader_may_leave():
            sys.stderr.write(why)
    except OSError:  # a log on a full disk takes no message either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    return code


def _prepare_streams() -> None:
    """Let every text print: escape characters that a stream cannot encode, and replace a closed stream by /dev/null."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - open until the process ends
        elif mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _dispatch(argv: list[str]) -> int:
    if any("\0" in argument for argument in argv):  # a program may call `run`; no shell can pass one on
        raise errors.UserError("an argument holds a NUL character, which no path or setting may", fix="leave it out")
    first, *rest = argv or [""]
    if first == "help":
        first, *rest = [*rest, "--help"]
    if first in ("", "-h", "--help"):
        print(_HELP.format(verbs="\n".join(_listed(room) for room in VERBS)), end="")
        return errors.EXIT_DONE if first else errors.EXIT_USAGE
    if first == "--version":
        from rlhf_cli import __version__

        print(f"rlhf-cli {__version__}")
        return errors.EXIT_DONE
    if first in ("-sc", "--shell-completion"):
        from rlhf_cli.config.completion import complete

        complete(rest, ROOM_OF)
        return errors.EXIT_DONE
    if first not in ROOM_OF:
        raise errors.UserError(f"unknown verb '{first}'{_did_you_mean(first)}")
    name = f"rlhf_cli.commands.{ROOM_OF[first]}.{first.replace('-', '_')}"
    if name not in sys.modules:
        with show_start(first, rest), keep_imports():
            importlib.import_module(name)
    code: int = sys.modules[name].main(rest) or errors.EXIT_DONE
    return code


def _listed(room: str) -> str:
    return "\n".join([f"{room}:", *(f"  {verb:<17}{about}" for verb, about in VERBS[room].items())])


def _did_you_mean(word: str) -> str:
    if word.endswith((".yaml", ".yml")) and "=" not in word:
        word = f"config={shlex.quote(word)}"
    if "=" in word or word in _MEANT:
        return f"; did you mean rlhf {_MEANT.get(word, f'train {word}')}?"
    near = difflib.get_close_matches(word, ROOM_OF, n=1)
    return f"; did you mean {near[0]}?" if near else "; rlhf --help lists the verbs"
