"""What pip installs works without the checkout: from a wheel, built through the sdist, in a foreign folder."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Imports and runs as `rlhf` does, and says what the garbage collector did and which modules are there.
PROGRAM = """
import gc, sys
sys.path.insert(0, sys.argv.pop(1))
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


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing in it but the unpacked wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)  # sdist first, then the wheel from the sdist
    (wheel,) = (folder / "dist").glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


@dataclass(frozen=True)
class Trained:
    """The folder of a run of the wheel."""

    folder: Path
    printed: list[str]


@pytest.fixture(scope="module")
def trained(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A run of one step by a new interpreter, in a folder with a decoy."""
    cwd = tmp_path_factory.mktemp("foreign")
    (cwd / "configs").mkdir()
    (cwd / "configs" / "train.yaml").write_text("steps: not ours\n")
    argv = ("train", "config=tiny", "steps=1", "evaluate.every=0", "display=quiet", "run_dir=out")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [sys.executable, "-c", PROGRAM, str(installed), *argv]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return Trained(cwd / "out", done.stdout.split())


def test_the_wheel_holds_configs_prompts_and_templates(installed: Path) -> None:
    package = installed / "rlhf_cli"
    assert (package / "configs" / "train.yaml").is_file()
    assert (package / "configs" / "train.schema.json").is_file()
    assert (package / "configs" / "config" / "sentiment.yaml").is_file()
    assert (package / "data" / "prompts" / "writing_train.jsonl").is_file()
    assert (package / "report" / "templates" / "run.html.j2").is_file()
    assert (package / "feedback" / "web" / "static" / "label.html").is_file()
    assert (package / "py.typed").is_file()


def test_the_wheel_trains_in_a_foreign_folder_with_a_decoy(trained: Trained) -> None:
    assert trained.printed[0] == "0"
    assert (trained.folder / "adapter" / "adapter_model.safetensors").is_file()
    page = (trained.folder / "report.html").read_text(encoding="utf-8")
    assert "<pre>rlhf train config=tiny steps=1 evaluate.every=0</pre>" in page


def test_a_run_imports_what_it_needs_without_the_collector(trained: Trained) -> None:
    """The big libraries come while the garbage collector is off, and nothing comes that a run has no use for."""
    _, before, during, frozen, same, enabled, later, *modules = trained.printed
    assert before == "False"
    assert during == "0"
    assert (frozen, same, enabled, later) == ("True",) * 4
    assert "transformers.models.llama.modeling_llama" in modules
    assert not NEVER_NEEDED & set(modules)
