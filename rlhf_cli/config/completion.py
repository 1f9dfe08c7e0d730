"""Answer the shell's TAB.

It offers verbs; after one that composes settings hydra's groups, options and keys; after `config=` presets and files,
and files after any key that names one.
"""

import glob
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from rlhf_cli.config.arguments import OPTIONS, rewrite
from rlhf_cli.config.keys import holds_path
from rlhf_cli.config.options import PRESET, options
from rlhf_cli.config.session import show_completion
from rlhf_cli.errors import UserError
from rlhf_cli.verbs import composing, find_verb


def complete(argv: Sequence[str], verbs: Iterable[str]) -> None:
    """Answer `rlhf -sc ...`: print the script of install=SHELL or uninstall=SHELL; for query=SHELL the next words.

    Hydra's scripts put the line to complete into the environment variable COMP_LINE. Raises UserError if the shell or
    the request is unknown.
    """
    line = os.environ.get("COMP_LINE", "")
    if not any(argument.startswith("query=") for argument in argv):
        show_completion(argv)
        return
    *words, current = [*line.split()[1:], *([""] if line.endswith(" ") else [])] or [""]
    if not words:
        _offer(verbs, current)
    elif verb := find_verb(words):
        with composing(verb):
            _complete_overrides(argv, words[len(verb.words.split()) :], current)
    # else the shell falls back on the names of files


def _complete_overrides(argv: Sequence[str], words: Sequence[str], current: str) -> None:
    """Answer behind a verb that composes settings; `words` are the complete ones behind it."""
    key, equals, typed = current.partition("=")
    if current.startswith("-"):
        _offer(OPTIONS, current)
    elif equals and (key in (PRESET, "resume") or holds_path(key)):
        files = [f"{path}/" * Path(path).is_dir() or path for path in glob.glob(f"{glob.escape(typed)}*")]
        if key == PRESET:
            files = [*options(PRESET), *(file for file in files if file.endswith(("/", ".yaml", ".yml")))]
        _offer([f"{key}={file}" for file in files], current)
    else:
        os.environ["COMP_LINE"] = " ".join(["rlhf", *_valid_overrides(words), current])
        show_completion(argv)


def _valid_overrides(words: Sequence[str]) -> list[str]:
    """Keep the valid overrides: hydra would fail on the others, and on values with spaces."""
    valid = []
    for word in words:
        with suppress(UserError):
            valid.append(rewrite(word, Path.cwd()))
    return [word for word in valid if " " not in word]


def _offer(choices: Iterable[str], current: str) -> None:
    sys.stdout.write("\n".join(sorted(choice for choice in choices if choice.startswith(current))) + "\n")
