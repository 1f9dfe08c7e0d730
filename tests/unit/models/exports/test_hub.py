"""models.exports.hub: what a hub is sent, with whose token, and what is said where it takes nothing."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from rlhf_cli.errors import UserError
from rlhf_cli.models.exports.hub import upload


class Hub:
    """Takes every file of a commit; `status` is what it answers instead."""

    def __init__(self) -> None:
        self.status, self.tokens, self.made, self.files = 200, set[str | None](), dict[str, Any](), dict[str, bytes]()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"] or 0))
                outer.tokens.add(self.headers["Authorization"])
                answer = json.dumps(outer.answer(self.path, body)).encode()
                self.send_response(outer.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def do_GET(self) -> None:
                self.send_error(404)

            def log_message(self, *of: Any) -> None:
                """Silent."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, path: str, body: bytes) -> dict[str, Any]:
        if path.endswith("/repos/create"):
            self.made = json.loads(body)
            return {"url": f"{self.url}/me/model", "name": "me/model"}
        if path.endswith("/preupload/main"):
            names = [file["path"] for file in json.loads(body)["files"]]
            return {"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]}
        if path.endswith("/commit/main"):
            for row in map(json.loads, body.splitlines()):
                if row["key"] == "file":
                    self.files[row["value"]["path"]] = base64.b64decode(row["value"]["content"])
            return {"success": True, "commitUrl": f"{self.url}/me/model/commit/a", "commitOid": "a", "hookOutput": ""}
        return {}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    listening = Hub()
    threading.Thread(target=listening.server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", listening.url)
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    yield listening
    listening.server.shutdown()
    listening.server.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("adapter_config.json", "adapter_model.safetensors", "README.md", "optimizer.safetensors"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    return tmp_path


def test_the_files_arrive_in_a_private_repository(hub: Hub, folder: Path) -> None:
    url = upload(folder, ("adapter_*", "README.md"), "me/model", "a message", private=True)
    assert url == f"{hub.url}/me/model"
    assert {name: text.decode() for name, text in hub.files.items()} == {
        name: name for name in ("adapter_config.json", "adapter_model.safetensors", "README.md")
    }
    assert (hub.made["name"], hub.made["organization"], hub.made["visibility"]) == ("model", "me", "private")
    assert hub.tokens == {"Bearer hf_mine"}


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (403, "the hub answers 403 Forbidden (me/model); fix: give HF_TOKEN a token that may write there"),
        (401, "the hub answers 401 Unauthorized (me/model); fix: give HF_TOKEN a token that may write there"),
    ],
)
def test_a_refusal_is_one_line_without_the_token(status: int, said: str, hub: Hub, folder: Path) -> None:
    hub.status = status
    with pytest.raises(UserError) as refused:
        upload(folder, ("*",), "me/model", "", private=True)
    assert (refused.value.line(), refused.value.exit_code) == (said, 6)


def test_no_token_no_name_no_hub(hub: Hub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"^no name of a repository") as refused:
        upload(folder, ("*",), "a/b/c", "", private=True)
    assert refused.value.exit_code == 2
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"^the hub is not reached: ") as refused:
        upload(folder, ("*",), "me/model", "", private=True)
    assert refused.value.exit_code == 6
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(UserError, match=r"^no token that may write "):
        upload(folder, ("*",), "me/model", "", private=True)
    assert hub.made == {}
