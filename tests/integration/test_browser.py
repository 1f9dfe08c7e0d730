"""The pages of runs and of a sweep in a browser: headless chromium, where there is one."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.browser import CHROMIUM
from tests.support import QUICK, Outcome

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (apt-get install chromium)"),
]

MEASURE: Final = """<script>
addEventListener("load", () => {
  const svgs = [...document.querySelectorAll("svg")];
  const drawn = (svg) => [...svg.querySelectorAll("path, circle, rect:not(.paper)")].some((e) => e.getBBox().width > 0);
  const wide = document.documentElement.scrollWidth - innerWidth;
  const paper = getComputedStyle(document.body).backgroundColor;
  const loaded = performance.getEntriesByType("resource").length;
  const count = `svgs ${svgs.length} drawn ${svgs.filter(drawn).length}`;
  document.title = `${count} wide ${wide} paper ${paper} loaded ${loaded}`;
});
</script>"""


def browse(page: Path, *, width: int, dark: bool) -> tuple[dict[str, str], str]:
    """What the browser measures of the page in a frame of that width, and what it logs."""
    assert CHROMIUM is not None
    text = page.read_text(encoding="utf-8")
    measured = page.with_name("measured.html")
    measured.write_text(text.replace("</head>", f"{MEASURE}</head>"), encoding="utf-8")
    frame = page.with_name("frame.html")  # a window of chromium is at least 500 wide, a frame in it is not
    frame.write_text(
        "<!doctype html><meta name=color-scheme content='light dark'>"
        f"<iframe src=measured.html width={width} height=900 "
        'onload="setTimeout(() => document.body.dataset.said = frames[0].document.title, 0)"></iframe>'
    )
    done = subprocess.run(
        [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0",
         "--allow-file-access-from-files", f"--blink-settings=preferredColorScheme={0 if dark else 1}",
         "--virtual-time-budget=3000", "--dump-dom", f"--user-data-dir={page.parent / 'profile'}", frame.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    said = re.search(r'data-said="svgs (\d+) drawn (\d+) wide (-?\d+) paper (.*?) loaded (\d+)"', done.stdout)
    assert said is not None, done.stdout[:2000]
    return dict(zip(("svgs", "drawn", "wide", "paper", "loaded"), said.groups(), strict=True)), done.stderr


@pytest.mark.parametrize("width", [1280, 400])
def test_the_pages_in_a_browser(width: int, rlhf: Callable[..., Outcome], tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert rlhf("train", *QUICK, f"seed={len(name)}", f"run_dir={name}").code == 0
    assert rlhf("report", "a", "b").code == 0
    short = ("config=tiny", "steps=2", "evaluate.every=1", "sweep_dir=s")
    assert rlhf("train", *short, "-m", "beta=0.02,0.2", "temperature=0.7,1.0").code == 0
    least = {"a": 8, ".": 8, "s": 4}  # of a sweep: the frontier, the heat map, two kinds of learning curves
    for name, pictures in least.items():
        page, papers = tmp_path / name / "report.html", set()
        for dark in (False, True):
            found, log = browse(page, width=width, dark=dark)
            assert int(found["svgs"]) >= pictures
            assert found["drawn"] == found["svgs"]
            assert int(found["wide"]) <= 0, "the page is wider than the screen"
            assert found["loaded"] == "0"
            assert "CONSOLE" not in log, log
            papers.add(found["paper"])
        assert papers == {"rgb(246, 246, 244)", "rgb(14, 15, 18)"}
