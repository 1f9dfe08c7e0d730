"""Build the documentation as a site, by zensical (pip install 'rlhf-cli[docs]'): python scripts/pages/site.py FOLDER.

Pages are those of docs/, with README, CONTRIBUTING and CHANGELOG. Links to files that are no page become plain text.
Then every link of the site is followed: a page, a heading or a picture that is not there ends it with exit code 1.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parents[2]
TOP = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
LINK = re.compile(r'(?P<text>!?\[[^\]]*\])\((?P<target>[^)\s]+)(?P<title> "[^"]*")?\)')


def stage(folder: Path) -> None:
    """Copy all pages and pictures into a folder, with links that hold there; README becomes index.md."""
    shutil.copytree(ROOT / "docs", folder)
    for name in TOP:
        shutil.copyfile(ROOT / name, folder / place_of(ROOT / name))
    for source in [*(ROOT / name for name in TOP), *(ROOT / "docs").rglob("*.md")]:
        page = folder / place_of(source)
        page.write_text(with_links(source.read_text(encoding="utf-8"), source), encoding="utf-8")


def place_of(source: Path) -> Path:
    """The place of a page or a picture in the site's sources; raises ValueError for a file that is neither."""
    if source.parent == ROOT and source.name in TOP:
        return Path("index.md" if source.name == "README.md" else source.name)
    return source.relative_to(ROOT / "docs")


def with_links(text: str, source: Path) -> str:
    """The text of a page with its links to other pages as they hold in the site; other files are named, not linked."""

    def mend(match: re.Match[str]) -> str:
        target, hash_, anchor = match["target"].partition("#")
        if not target or urlsplit(target).scheme:
            return match[0]
        try:
            file = (source.parent / target).resolve()
            place = place_of(file / "README.md" if (file / "README.md").is_file() else file)
            there = Path(*[".."] * (len(place_of(source).parts) - 1)) / place
        except ValueError:
            return match["text"].strip("[]")
        if file.suffix not in (".md", ".png", ".svg") and not file.is_dir():
            return match["text"].strip("[]")
        return f"{match['text']}({there}{hash_}{anchor})"

    return LINK.sub(mend, text)


class Page(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, file: Path) -> None:
        """Read the file."""
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the targets of links, scripts, styles and pictures, and the ids that a link may name."""
        given = dict(attrs)
        self.anchors |= {value for key in ("id", "name") if (value := given.get(key))}
        if tag in ("a", "img", "script", "link") and (link := given.get("href") or given.get("src")):
            self.links.append(link)


def broken_links(site: Path) -> list[str]:
    """The links within the site that lead nowhere, each as `page: link`."""
    pages = {file.resolve(): Page(file) for file in site.rglob("*.html") if file.name != "404.html"}
    found = []
    for file, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file() or (
                parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors
            ):
                found.append(f"{file.relative_to(site.resolve())}: {link}")
    return found


def build(folder: Path) -> None:
    """Build the site into a folder; raises CalledProcessError where zensical refuses."""
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        stage(work / "docs")
        shutil.move(work / "docs" / "zensical.toml", work / "zensical.toml")
        subprocess.run([sys.executable, "-m", "zensical", "build", "--clean"], cwd=work, check=True)
        shutil.copytree(work / "site", folder, dirs_exist_ok=True)


def main() -> int:
    """Build the site and check its links."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    build(folder)
    broken = broken_links(folder)
    print("\n".join(broken) or f"written to {folder}, every link leads somewhere")
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
