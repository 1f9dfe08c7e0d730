"""Reading a picture back."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

from rlhf_cli.charts.words import width

SVG = "{http://www.w3.org/2000/svg}"


def parse(picture: str) -> ElementTree.Element:
    """The picture as a tree; it is well-formed or this raises."""
    return ElementTree.fromstring(picture)


def of_class(picture: str, kind: str) -> list[ElementTree.Element]:
    """All elements of one class."""
    return [element for element in parse(picture).iter() if kind in element.get("class", "").split()]


def corners(element: ElementTree.Element) -> list[tuple[float, float]]:
    """The places that an element reaches."""
    at = {name: float(value) for name, value in element.items() if re.fullmatch(r"-?[\d.]+", value)}
    match element.tag.removeprefix(SVG):
        case "path":
            return [(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+),(-?[\d.]+)", element.get("d", ""))]
        case "circle":
            return [(at["cx"], at["cy"])]
        case "line":
            return [(at["x1"], at["y1"]), (at["x2"], at["y2"])]
        case "rect" if "x" in at:
            return [(at["x"], at["y"]), (at["x"] + at["width"], at["y"] + at["height"])]
        case "text":
            x, y, wide = at["x"], at["y"], width(element.text or "")
            if "rotate(-45" in element.get("transform", ""):
                return [(x - wide * math.sqrt(0.5), y + wide * math.sqrt(0.5)), (x, y)]
            kinds = element.get("class", "").split()
            share = 0.5 if "middle" in kinds else 1.0 if "end" in kinds else 0.0
            return [(x - wide * share, y), (x + wide * (1 - share), y)]
    return []


def size(picture: str) -> tuple[float, float]:
    """Width and height of the picture's own units."""
    _, _, across, down = map(float, parse(picture).get("viewBox", "").split())
    return across, down


def texts(picture: str) -> list[str]:
    """Every text in the picture, in order."""
    return [element.text or "" for element in parse(picture).iter(f"{SVG}text")]


def assert_inside(picture: str) -> None:
    """Nothing reaches over the picture's edges, no text either."""
    across, down = size(picture)
    for element in parse(picture).iter():
        for x, y in corners(element):
            assert 0 <= x <= across, (element.tag, element.attrib)
            assert 0 <= y <= down, (element.tag, element.attrib)
