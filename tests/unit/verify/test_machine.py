"""The facts of a machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rlhf_cli.verify.machine import ask_hub, examine_machine


def test_the_facts_are_json_and_hold_what_a_bug_report_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "none" / "yet"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    facts = json.loads(json.dumps(examine_machine()))
    assert {"rlhf-cli", "torch", "transformers", "peft"} <= facts["packages"].keys()
    assert facts["disk"]["here"]["folder"] == str(tmp_path)
    assert facts["disk"]["cache"]["folder"] == str(tmp_path / "none" / "yet" / "rlhf-cli")
    assert facts["disk"]["cache"]["free_gib"] > 0
    assert facts["memory"]["total_gib"] > 0
    assert facts["hub"] == "offline by HF_HUB_OFFLINE"


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"HF_HUB_OFFLINE": "true"}, "offline by HF_HUB_OFFLINE"),
        ({"HF_ENDPOINT": "ftp://user:secret@mirror/x"}, "mirror: HF_ENDPOINT is no http address"),
        ({"HF_ENDPOINT": "nonsense"}, "HF_ENDPOINT: HF_ENDPOINT is no http address"),
        ({"HF_ENDPOINT": "http://[::1"}, "HF_ENDPOINT: HF_ENDPOINT is no http address"),
        ({"HF_ENDPOINT": "http://127.0.0.1:port"}, "127.0.0.1 is not reachable: "),
        ({"HF_ENDPOINT": "http://user:secret@nowhere.invalid/x"}, "nowhere.invalid is not reachable: "),
        ({"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:1"}, "127.0.0.1 is not reachable: "),
    ],
)
def test_the_hub(environment: dict[str, str], said: str) -> None:
    """A password in the address is not shown."""
    answer = ask_hub(environment, timeout_s=1.0)
    assert answer.startswith(said)
    assert "secret" not in answer


def test_a_user_without_a_home_has_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert examine_machine()["disk"]["cache"] == "this user has no home folder for the cache"
