"""Paths as a user writes them: `package:NAME/FILE` names a file inside an installed Python package."""

import difflib
import importlib.util
import os
import re
import shlex
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

PACKAGE: Final = "package:"
SYSTEM: Final = ("/proc", "/sys", "/dev", "/run/secrets")
"""Folders without files of a user; /proc/self/environ, for one, holds the secrets of this process."""
MEMORY: Final = "/dev/shm"  # the exception: a user's files in memory
SHARED: Final = {
    "/": "the root of the file system",
    "~": "your home folder",
    "/tmp": "everybody's folder of temporary files",
    "/var/tmp": "everybody's folder of temporary files",
}
"""Folders that hold others' files, by what they are: a run has one of its own."""
_KEYS: Final = re.compile(
    r"/\.(ssh|aws|azure|gnupg|kube|docker|password-store|mozilla|config/(gcloud|gh|google-chrome|chromium))(/|$)"
    r"|/([._]netrc|\.pgpass|\.my\.cnf|\.git-credentials|\.npmrc|\.pypirc|\.env|\.vault-token|\.boto|\.s3cfg"
    r"|\.\w+_history|\.cargo/credentials(\.toml)?|huggingface/(token|stored_tokens))$"
)
"""The places where other programs keep keys and passwords: a stranger knows them, as they are the same everywhere."""


def expand(path: str | Path) -> Path:
    """Write out the `~` of a path; one without such a home folder stays as it is."""
    return Path(os.path.expanduser(path))


def locate(path: str) -> Path | None:
    """Find the file or folder that `path` names, existing or not; None where its package is not installed."""
    if not path.startswith(PACKAGE):
        return expand(path)
    package, _, inside = path.removeprefix(PACKAGE).partition("/")
    if not package.isidentifier():  # looking for a.b would import a
        return None
    spec = None
    with suppress(ValueError):  # a module that was loaded without a spec, as __main__
        spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / inside


def find_similar(path: Path) -> str | None:
    """The name of what lies where the path should be and is called nearly so; None where nothing is."""
    try:
        beside = [name for name in os.listdir(path.parent) if name != path.name]  # it may be a link to nothing
    except OSError:  # no such folder, or nobody may look into it
        return None
    return next(iter(difflib.get_close_matches(path.name, beside, n=1, cutoff=0.7)), None)


def why_irregular(path: Path) -> str | None:
    """The reason not to read or write a path of the user; None for a file, a folder, and a path that does not exist.

    Links are followed.
    """
    try:
        for place in (os.path.abspath(path), os.path.realpath(path)):
            of_system = next((root for root in SYSTEM if _is_under(place, root)), None)
            if of_system and not _is_under(place, MEMORY):
                return f"{of_system} belongs to the system"
            if keys := _KEYS.search(place):
                return f"{keys[0].strip('/')} is where a program keeps keys or passwords"
        mode = os.stat(path).st_mode
    except (OSError, ValueError):  # missing, or no path at all: opening it fails in better words
        return None
    return None if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else "neither a file nor a folder"


def why_shared(folder: Path) -> str | None:
    """The reason to write no run into a folder itself, since others keep their files there; None for any other one."""
    for path, what in SHARED.items():
        with suppress(OSError):  # one of them is missing
            if os.path.samefile(folder, expand(path)):
                return what
    return None


def _is_under(path: str, root: str) -> bool:
    return path == root or path.startswith(f"{root}/")


def relative_to_here(path: Path) -> Path:
    """The path as the user would write it in the working directory."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def quoted(path: Path) -> str:
    """The path as the user would type it in a command here, where a dash at its beginning makes it no option."""
    text = str(relative_to_here(path))
    return shlex.quote(f"./{text}" if text.startswith("-") else text)
