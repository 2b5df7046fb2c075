"""Sphinx's settings of the HTML book; `make book` prepares its sources and runs it."""

import re
import sys
from pathlib import Path

# the clone, whose docstrings are the reference
sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from sympo import __version__

project = "SymPO companion"
author = "SymPO companion authors"
copyright = author
version = release = __version__
language = "en"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinxcontrib.bibtex",
]

# Notebooks come with the outputs of their run.
nb_execution_mode = "off"
nb_render_markdown_format = "myst"  # sentences that cells print have formulas and links too
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist", "html_image"]
myst_dmath_double_inline = True
myst_heading_anchors = 4
myst_heading_slug_func = "sympo.book.html.slug"
suppress_warnings = [
    "mystnb.unknown_mime_type",  # Vega-Lite, which `sympo.book.html` wraps in HTML
    "myst.header",  # an output's heading may be of any level
]

# docstrings mark code as Markdown does
default_role = "literal"
autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
# TRL's classes have hundreds of fields, with pages of their own
autodoc_inherit_docstrings = False
napoleon_google_docstring = True
napoleon_custom_sections = ["Source", "Check", ("Attributes", "params_style")]

bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "plain"

html_theme = "sphinx_book_theme"
html_title = "SymPO companion"
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_js_files = ["explorables.js"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "home_page_in_toc": False,
    # the theme would ask another host for icons of these
    "icon_links": [],
}

# No request to another host: `sympo.book.html` puts the script there.
mathjax_path = "tex-svg-full.js"
mathjax3_config = {"svg": {"fontCache": "global"}}


def escape_bars(app, what, name, thing, options, lines):
    """|x| is a size in a docstring, and would be a substitution to Sphinx."""
    lines[:] = [line.replace("|", "\\|") for line in lines]


def shorten_signature(app, what, name, thing, options, signature, annotation):
    """Types by their last name; none of TRL's hundreds of fields, which are TRL's to explain."""
    if not signature:
        return None
    if len(signature) > 2000:
        return "(…)", annotation
    modules = re.compile(r"~(?:\w+\.)+")
    return modules.sub("", signature), annotation and modules.sub("", annotation)


def setup(app):
    """Connect the two."""
    app.connect("autodoc-process-docstring", escape_bars)
    app.connect("autodoc-process-signature", shorten_signature)
