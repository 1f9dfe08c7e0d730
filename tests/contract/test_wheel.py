"""What pip installs works without the checkout: from a wheel, built through the sdist, in a foreign folder."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nothing in it but the unpacked wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist"), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)  # sdist first, then the wheel from the sdist
    (wheel,) = (folder / "dist").glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def rlhf(site: Path, cwd: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    program = "import sys; sys.path.insert(0, sys.argv.pop(1)); from rlhf_cli.cli import main; main()"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-c", program, str(site), *argv], cwd=cwd, env=environment, capture_output=True, text=True
    )


def test_the_wheel_holds_configs_prompts_and_templates(installed: Path) -> None:
    package = installed / "rlhf_cli"
    assert (package / "configs" / "train.yaml").is_file()
    assert (package / "configs" / "config" / "sentiment.yaml").is_file()
    assert (package / "data" / "prompts" / "writing_train.jsonl").is_file()
    assert (package / "report" / "templates" / "run.html.j2").is_file()
    assert (package / "py.typed").is_file()


def test_the_wheel_trains_in_a_foreign_folder_with_a_decoy(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "train.yaml").write_text("steps: not ours\n")
    outcome = rlhf(installed, tmp_path, "train", "config=tiny", "steps=1", "evaluate.every=0", "run_dir=out")
    assert outcome.returncode == 0, outcome.stderr
    assert (tmp_path / "out" / "adapter" / "adapter_model.safetensors").is_file()
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<pre>rlhf train config=tiny steps=1 evaluate.every=0</pre>" in page
