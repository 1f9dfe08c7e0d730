"""Read a page back."""

from __future__ import annotations

from xml.etree import ElementTree


def parse(text: str) -> ElementTree.Element:
    """The page as a tree: it is well-formed, so no text broke out of its place. No-break spaces are spaces in it."""
    return ElementTree.fromstring(text.removeprefix("<!doctype html>").replace("&#160;", " "))


def said(element: ElementTree.Element) -> str:
    """All text in the element, with single spaces."""
    return " ".join(" ".join(element.itertext()).split())
