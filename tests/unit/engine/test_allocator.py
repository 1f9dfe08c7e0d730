"""Freed memory stays with the process, where nobody has chosen otherwise; and nothing that is computed changes."""

from __future__ import annotations

import ctypes
import json
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf_cli.engine import allocator, opening
from rlhf_cli.engine.allocator import VARIABLES, keep_freed_memory, return_freed_memory
from tests.processes import start
from tests.support import Outcome, contents
from tests.unit.support import config_of

GLIBC = platform.libc_ver()[0] == "glibc"

# How much of the memory of a freed block of 64 MiB the process still has.
KEPT = """
import ctypes, resource, runpy, sys
from pathlib import Path

keep_freed_memory = runpy.run_path(sys.argv[1])["keep_freed_memory"]  # not by its package, which imports torch

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
said, before = keep_freed_memory(), resident()
block = libc.malloc(2**26)
ctypes.memset(block, 1, 2**26)
libc.free(block)
print((resident() - before) / 2**26, said["kind"])
"""


class Fake:
    """A C library that takes the settings up to a limit, and remembers them."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.set: list[tuple[int, int]] = []

    def mallopt(self, what: int, value: int) -> int:
        taken = value <= self.limit
        if taken:
            self.set.append((what, value))
        return int(taken)

    def malloc_trim(self, pad: int) -> int:
        self.set.append((0, pad))
        return 1


def given(monkeypatch: pytest.MonkeyPatch, libc: Fake, name: str = "glibc", **environment: str) -> None:
    for variable in (*VARIABLES, "GLIBC_TUNABLES", "LD_PRELOAD", "RLHF_ALLOCATOR"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(platform, "libc_ver", lambda: (name, "2.31"))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: libc)


@pytest.mark.parametrize(("limit", "largest"), [(2**31, 2**30), (2**25, 2**25)])
def test_malloc_gets_the_largest_threshold_it_accepts(
    limit: int, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """-3 is M_MMAP_THRESHOLD, -1 is M_TRIM_THRESHOLD, and a threshold of -1 means never (mallopt(3))."""
    libc = Fake(limit)
    given(monkeypatch, libc)
    assert keep_freed_memory() == {"kind": "glibc 2.31", "mmap_threshold": largest, "trim_threshold": -1}
    assert libc.set == [(-3, largest), (-1, -1)]


def test_a_sharded_models_memory_is_returned_now_and_later(monkeypatch: pytest.MonkeyPatch) -> None:
    libc = Fake(2**31)
    given(monkeypatch, libc)
    assert return_freed_memory() == {"kind": "glibc 2.31", "mmap_threshold": 2**20, "trim_threshold": 2**20}
    assert libc.set == [(-3, 2**20), (-1, 2**20), (0, 0)]
    given(monkeypatch, libc := Fake(2**31), MALLOC_TOP_PAD_="1")
    assert return_freed_memory() == {"kind": "environment"}
    assert libc.set == []


@pytest.mark.parametrize(
    ("environment", "kind"),
    [
        ({"RLHF_ALLOCATOR": "system"}, "system"),
        ({"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=1"}, "environment"),
        ({"LD_PRELOAD": "/usr/lib/libtcmalloc.so.4"}, "environment"),
        *(({name: "1"}, "environment") for name in VARIABLES),
    ],
)
def test_the_users_malloc_settings_stay(
    environment: dict[str, str], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    libc = Fake(2**31)
    given(monkeypatch, libc, **environment)
    assert keep_freed_memory() == {"kind": kind}
    assert libc.set == []


@pytest.mark.parametrize(
    "environment", [{"GLIBC_TUNABLES": "glibc.cpu.x86_ibt=on"}, {"LD_PRELOAD": "/lib/faketime.so"}]
)
def test_other_environment_variables_do_not_matter(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given(monkeypatch, libc := Fake(2**31), **environment)
    keep_freed_memory()
    assert len(libc.set) == 2


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, libc := Fake(2**31), "musl")
    assert keep_freed_memory() == {"kind": "system"}
    assert libc.set == []


@pytest.mark.skipif(not GLIBC, reason="no glibc")
@pytest.mark.parametrize(("choice", "least", "most"), [("", 0.9, 1.1), ("system", -0.1, 0.1)])
def test_freed_memory_stays_with_the_process(
    choice: str, least: float, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RLHF_ALLOCATOR", choice)
    done = subprocess.run([sys.executable, "-c", KEPT, allocator.__file__], capture_output=True, text=True, check=True)
    share, kind = done.stdout.split(maxsplit=1)
    assert least < float(share) < most
    assert kind.strip() == choice or kind.startswith("glibc 2.")


def test_loading_a_policy_keeps_freed_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(opening, "keep_freed_memory", lambda: calls.append("kept"))
    opening.load_policy(config_of(), print)
    assert calls == ["kept"]


def test_a_run_is_the_same_with_either_allocator_and_records_it(
    rlhf: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = ("train", "config=tiny", "steps=2", "evaluate.every=0", "max_new_tokens=4", "display=quiet")
    assert rlhf(*argv, "run_dir=kept").code == 0
    monkeypatch.setenv("RLHF_ALLOCATOR", "system")
    process = start(*argv, "run_dir=given_back", cwd=tmp_path)
    assert process.communicate()[1].count("\n") == 1  # how many were cut
    assert process.returncode == 0
    assert contents(tmp_path / "kept") == contents(tmp_path / "given_back")
    said = [json.loads((tmp_path / name / "run.json").read_text())["allocator"] for name in ("kept", "given_back")]
    assert said[1] == {"kind": "system"}
    assert said[0] == ({"kind": said[0]["kind"], "mmap_threshold": 2**30, "trim_threshold": -1} if GLIBC else said[1])
