"""Render a page from its template: one self-contained HTML file, light or dark, that loads nothing and runs nothing."""

from functools import cache
from typing import Any, Final

from markupsafe import Markup

from rlhf_cli.charts.svg import svg
from rlhf_cli.errors import visible
from rlhf_cli.plural import plural
from rlhf_cli.report.texts import cut, listing

GENERATOR: Final = Markup('<meta name="generator" content="rlhf-cli"/>')
"""Tells our pages from a file that must not be overwritten."""


def render(template: str, **values: Any) -> str:
    """The page as HTML. Every text in `values` is escaped, and control characters in it become dots."""
    page: str = _templates().get_template(template).render(values)
    return page


def _harmless(value: object) -> object:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _templates() -> Any:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # most commands write no page

    templates = Environment(
        loader=PackageLoader("rlhf_cli.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_harmless,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    templates.globals["generator"] = GENERATOR
    templates.filters |= {"svg": lambda picture: Markup(svg(picture)), "cut": cut, "listing": listing, "plural": plural}
    return templates
