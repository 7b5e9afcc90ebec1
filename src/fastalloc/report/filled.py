"""A page from its template: filters, style and scripts are in the page itself, so that it needs no network."""

import json
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import altair as alt
import jinja2
import vl_convert

from fastalloc.compiler.cache_dir import cache_folder, own_folder
from fastalloc.errors import InputError
from fastalloc.report.terminal import count
from fastalloc.written import write_text

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
    """One copy of Vega, Vega-Lite and vega-embed, in the version that the specifications are written for.

    To bundle them takes as long as the rest of a page; so the bundle is kept beside compiled kernels, and made again
    where it cannot be read or kept, or others may write there.
    """
    major, minor, *_ = alt.SCHEMA_VERSION.removeprefix("v").split(".")
    kept = None
    with suppress(OSError, UnicodeDecodeError, InputError):
        kept = own_folder(cache_folder()) / f"vega-lite-{major}.{minor}-{version('vl-convert-python')}.js"
        return kept.read_text(encoding="utf-8")
    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", vl_version=f"{major}.{minor}")
    if kept is not None:
        with suppress(InputError):
            write_text(kept, bundle)
    return bundle


def _embedded(spec: dict[str, Any]) -> str:
    """A specification for a JSON script element, in which ``</`` would end the element and ``<!--`` hide its end."""
    return json.dumps(spec, separators=(",", ":")).replace("<", "\\u003c")
