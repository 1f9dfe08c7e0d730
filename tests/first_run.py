"""A first run in the process that imports this: the processes forked from it begin without its cost.

Most of that cost is a table of regular expressions that transformers compiles before peft's first adapter.
"""

from __future__ import annotations

import contextlib
import os
import tempfile

from rlhf_cli.cli import run
from tests.support import QUICK

with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
    assert run(["train", *QUICK, "steps=1", f"run_dir={folder}/out"]) == 0
