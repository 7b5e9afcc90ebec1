"""A page from its template: filters, style and scripts are in the page itself, so that it needs no network."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import altair as alt
import jinja2
import vl_convert

from fastalloc.report.terminal import count

TEMPLATES = Path(__file__).parent / "templates"


def filled(template: str, **values: Any) -> str:
    """The page of a template as text."""
    page = _environment().get_template(template)
    return page.render(
        css=(TEMPLATES / "page.css").read_text(encoding="utf-8"),
        script=(TEMPLATES / "page.js").read_text(encoding="utf-8"),
        vega=_vega(),
        **values,
    )


@cache
def _environment() -> jinja2.Environment:
    """Which keeps the templates that it compiled."""
    made = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True)
    made.filters |= {"count": count, "spec": _embedded, "digest": lambda text: text[:12]}
    return made


@cache
def _vega() -> str:
    """One copy of Vega, Vega-Lite and vega-embed, in the version that the specifications are written for."""
    major, minor, *_ = alt.SCHEMA_VERSION.removeprefix("v").split(".")
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=f"{major}.{minor}")


def _embedded(spec: dict[str, Any]) -> str:
    """A specification for a JSON script element, in which ``</`` would end the element and ``<!--`` hide its end."""
    return json.dumps(spec, separators=(",", ":")).replace("<", "\\u003c")
