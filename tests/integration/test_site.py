"""The documentation as a site: it builds, and every link of it leads somewhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.scripts import SCRIPTS, load

site = load("pages/site.py")


@pytest.mark.slow
def test_it_builds_and_every_page_is_in_the_menu(tmp_path: Path) -> None:
    pytest.importorskip("zensical")
    command = [sys.executable, str(SCRIPTS / "pages" / "site.py"), str(tmp_path / "site")]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    assert "No issues found" in built.stdout + built.stderr
    home = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    menu = home[home.index("md-nav--primary") :]
    for page in (tmp_path / "site").rglob("index.html"):
        place = page.parent.relative_to(tmp_path / "site")
        if place.parts and place.parts[0] != "examples":
            assert f'href="./{place}/"' in menu, place


def test_links_hold_in_the_site(tmp_path: Path) -> None:
    readme, order = site.ROOT / "README.md", site.ROOT / "docs" / "algorithms" / "order.md"
    text = "[a](docs/data.md#mixtures) [b](rlhf_cli/cli.py) [`c`](https://x.y/z) ![d](docs/sweep.svg) [e](#top)"
    mended = "[a](data.md#mixtures) b [`c`](https://x.y/z) ![d](sweep.svg) [e](#top)"
    assert site.with_links(text, readme) == mended
    assert site.with_links("[home](../../README.md), [own](../examples/own_reward)", order) == (
        "[home](../index.md), [own](../examples/own_reward/README.md)"
    )


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text('<a href="there/#no">x</a> <img src="gone.png"> <a href="https://x.y">z</a>')
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "index.html").write_text('<a href="../#top"></a> <h1 id="yes"><a id="top"></a></h1>')
    assert sorted(site.broken_links(tmp_path)) == [
        "index.html: gone.png",
        "index.html: there/#no",
        "there/index.html: ../#top",
    ]
