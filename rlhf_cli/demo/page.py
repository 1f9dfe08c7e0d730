"""The lecture as one HTML page."""

from __future__ import annotations

from collections.abc import Sequence

from rlhf_cli.charts.svg import svg
from rlhf_cli.demo.lecture import TITLE
from rlhf_cli.demo.scene import Scene
from rlhf_cli.report.page import Section, page


def html(scenes: Sequence[Scene]) -> str:
    """The whole page; it loads nothing and runs nothing."""
    return page(TITLE, [_section(scene) for scene in scenes])


def _section(scene: Scene) -> Section:
    return Section(
        scene.heading,
        scene.paragraphs,
        scene.formula,
        scene.source,
        "\n".join(map(svg, scene.pictures)),
        scene.findings,
    )
