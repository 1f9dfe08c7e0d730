"""The lecture as one HTML page."""

from __future__ import annotations

from collections.abc import Sequence

from rlhf_cli.demo.lecture import TITLE
from rlhf_cli.demo.scene import Scene
from rlhf_cli.report.page import render


def html(scenes: Sequence[Scene]) -> str:
    """The whole page."""
    return render("lecture.html.j2", title=TITLE, scenes=scenes)
