"""Sphinx configuration; the reference is generated, and what the pages show of commands is run."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from docs import reference

project = "fastalloc"
author = "The fastalloc authors"
version = release = version_of("fastalloc")
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "docs.running", "docs.terms"]
exclude_patterns = ["_build", "jupyter_execute"]
html_theme = "alabaster"
html_static_path = ["_static"]
html_theme_options = {
    "description": "A wind tunnel for kernel memory allocation under pressure",
    "page_width": "1180px",
    "font_family": "system-ui, sans-serif",
    "font_size": "15px",
}
html_sidebars = {"**": ["about.html", "searchfield.html", "navigation.html"]}
autodoc_typehints = "description"
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_output_stderr = "remove"
myst_enable_extensions = ["colon_fence"]

reference.write_all()
