"""The big libraries come while the garbage collector is off, and nothing comes that a run has no use for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# Imports and runs, and says what the collector did and which modules are there.
CODE = """
import gc, sys
from rlhf_cli.cli import run
from rlhf_cli.models.libraries import import_libraries

collections = []
gc.callbacks.append(lambda phase, info: collections.append(phase))
before = "torch" in sys.modules
del collections[:]
import_libraries()
during, frozen = len(collections), gc.get_freeze_count()
import_libraries()
again = gc.get_freeze_count()
code = run(sys.argv[1:])
print(code, before, during, frozen > 200_000, again == frozen, gc.isenabled(), len(collections) > 0, *sys.modules)
"""
NEVER_NEEDED = {
    "torch._inductor.compile_fx",
    "torch.utils.tensorboard",
    "transformers.pipelines",
    "transformers.trainer",
    "transformers.training_args",
}


def test_a_run_imports_what_it_needs_without_the_collector(tmp_path: Path) -> None:
    argv = ("train", "config=tiny", "steps=1", "evaluate.every=0", "max_new_tokens=2", "display=quiet", "run_dir=out")
    done = subprocess.run([sys.executable, "-c", CODE, *argv], capture_output=True, text=True, cwd=tmp_path, check=True)
    code, before, during, frozen, same, enabled, later, *modules = done.stdout.split()
    assert (code, before) == ("0", "False"), done.stderr
    assert during == "0"
    assert (frozen, same, enabled, later) == ("True",) * 4
    assert "transformers.models.llama.modeling_llama" in modules
    assert not NEVER_NEEDED & set(modules)
