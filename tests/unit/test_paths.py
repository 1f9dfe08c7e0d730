"""Paths as a user writes them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

import rlhf_cli
from rlhf_cli.errors import UserError
from rlhf_cli.models.gguf import cache_dir
from rlhf_cli.paths import find_similar, locate, quoted, why_irregular


def test_a_package_path_names_a_file_inside_the_package() -> None:
    folder = Path(rlhf_cli.__file__).parent
    assert locate("package:rlhf_cli/data/prompts/tiny.jsonl") == folder / "data/prompts/tiny.jsonl"


def test_the_file_need_not_exist() -> None:
    found = locate("package:rlhf_cli/nothing.jsonl")
    assert found is not None
    assert not found.exists()


def test_a_package_that_is_not_installed_gives_none() -> None:
    assert locate("package:no_such_package/x.jsonl") is None


def test_any_other_path_is_itself_with_the_home_folder_put_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert locate("a/b.jsonl") == Path("a/b.jsonl")
    assert locate("~/b.jsonl") == tmp_path / "b.jsonl"


def test_a_module_without_a_spec_is_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command's own module is one: package:__main__/x."""
    monkeypatch.setitem(sys.modules, "made_here", ModuleType("made_here"))
    assert locate("package:made_here/x") is None


@pytest.mark.parametrize("package", ["a.b", "rlhf_cli.cli", "", "..rlhf_cli"])
def test_a_package_is_named_plainly_for_looking_inside_one_would_run_it(package: str) -> None:
    assert locate(f"package:{package}/file") is None


def test_without_a_home_folder_a_path_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", nobody)
    assert locate("~/x") == Path("~/x")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    with pytest.raises(UserError, match="no home folder for the cache") as caught:
        cache_dir()
    assert caught.value.exit_code == 6


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        ("/home/ann/.ssh/id_ed25519", ".ssh"),
        ("/home/ann/.aws", ".aws"),
        ("/root/.config/gh/hosts.yml", ".config/gh"),
        ("/home/ann/.netrc", ".netrc"),
        ("proj/.env", ".env"),
        ("/home/ann/.zsh_history", ".zsh_history"),
        ("/home/ann/.cache/huggingface/token", "huggingface/token"),
    ],
)
def test_keys_and_passwords_are_no_data(path: str, keys: str) -> None:
    assert why_irregular(Path(path)) == f"{keys} is where a program keeps keys or passwords"


@pytest.mark.parametrize("path", ["data/env.jsonl", ".env/model", "ssh/id.txt", "/home/ann/.sshd/x", "x.env", "token"])
def test_names_like_theirs_are(path: str) -> None:
    assert why_irregular(Path(path)) is None


def test_a_link_leads_to_them_too(tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "id").write_text("x")
    (tmp_path / "prompts.txt").symlink_to(tmp_path / ".ssh" / "id")
    assert why_irregular(tmp_path / "prompts.txt") == ".ssh is where a program keeps keys or passwords"


def test_nobody_is_asked_to_look_into_a_folder_that_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir()
    assert find_similar(tmp_path / "runn") == "run"
    (tmp_path / "link").symlink_to("nothing")
    assert find_similar(tmp_path / "link") is None
    assert find_similar(tmp_path / "no" / "runn") is None

    def closed(path: Path) -> list[str]:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "listdir", closed)
    assert find_similar(tmp_path / "runn") is None


def test_a_path_in_a_command_is_one_word_and_no_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert quoted(tmp_path / "run") == "run"
    assert quoted(tmp_path / "my run") == "'my run'"
    assert quoted(tmp_path / "-my run") == "'./-my run'"
    assert quoted(Path("/-run")) == "/-run"
