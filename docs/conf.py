"""Sphinx: the Markdown pages of this directory, and the reference from the docstrings.

pip install '.[docs]' && sphinx-build -W --keep-going -b html docs build/docs
"""

import re
from pathlib import Path

import gramian

project = "gramian"
author = "the gramian developers"
release = gramian.__version__
version = release.split("+", maxsplit=1)[0]

extensions = ["myst_parser", "numpydoc", "sphinx.ext.autosummary", "sphinx.ext.intersphinx"]
root_doc = "contents"
exclude_patterns = ["build", "_templates"]
templates_path = ["_templates"]

# Headings get the anchors that GitHub gives them, so one link serves both.
myst_heading_anchors = 4
autosummary_generate = True
autodoc_typehints = "none"  # numpydoc sections say it
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
intersphinx_mapping = {}

html_theme = "furo"
html_title = f"gramian {version}"
html_copy_source = False


def only_links_to_pages(app, docname, source):
    """Links to files of the tree that are no page, scripts and tests, become the file's name."""
    source[0] = re.sub(
        r"\[([^\]]*)\]\((?!\w+:)([^)#\s]*?)/?\)",
        lambda link: link[0] if is_page(docname, link[2]) else f"{link[1]} (`{name(link[2])}`)",
        source[0],
    )


def is_page(docname, target):
    here = Path(__file__).parent
    path = (here / docname).parent.joinpath(target).resolve()
    return target == "" or path.suffix == ".svg" or (path.suffix == ".md" and here in path.parents)


def name(target):
    return target.lstrip("./") or target


def setup(app):
    app.connect("source-read", only_links_to_pages)
