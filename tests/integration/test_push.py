"""`rlhf push`: which files a name means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from rlhf_cli.commands.results import push
from tests.support import QUICK, Outcome

Rlhf = Callable[..., Outcome]


def test_a_runs_adapter_or_the_folder_of_a_model(rlhf: Rlhf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[str, Sequence[str], str, bool]] = []

    def upload(folder: Path, files: Sequence[str], repo: str, message: str, *, private: bool) -> str:
        sent.append((str(folder.relative_to(tmp_path)), files, repo, private))
        return f"https://hub/{repo}"

    monkeypatch.setattr(push, "upload", upload)
    assert rlhf("train", *QUICK, "steps=2", "run_dir=run").code == 0
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "llama"}')
    (model / "model.safetensors").write_bytes(b"")
    assert rlhf("push", "run", "me/a").out == "https://hub/me/a\n"
    assert rlhf("push", "run/checkpoints/step-00000002", "me/a", "--json").out == '{"url": "https://hub/me/a"}\n'
    assert rlhf("push", "model", "me/b", "--public").code == 0
    assert sent == [
        ("run/adapter", ("adapter_*", "README.md"), "me/a", True),
        ("run/checkpoints/step-00000002", ("adapter_*", "README.md"), "me/a", True),
        ("model", ("*",), "me/b", False),
    ]
    (model / "config.json").write_text("[]")
    refused = rlhf("push", "model", "me/b")
    assert (refused.code, len(sent)) == (5, 3)
    assert refused.err.startswith("error: not the config of a model (")
    refused = rlhf("push", "nowhere", "me/a")
    assert (refused.code, refused.err) == (5, f"error: no such folder ({tmp_path}/nowhere); fix: name a run's folder\n")
