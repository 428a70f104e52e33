"""Sphinx: the Markdown pages of this directory, and the reference from the docstrings.

pip install '.[docs]' && sphinx-build -W --keep-going -b html docs build/docs
"""

import re
from pathlib import Path

import gramian
from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util import logging

project = "gramian"
author = "the gramian developers"
release = gramian.__version__
version = release.split("+", maxsplit=1)[0]

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx_gallery.gen_gallery",
]
root_doc = "contents"
# gallery.md is the page of the gallery, in place of the index that sphinx-gallery writes.
exclude_patterns = ["build", "_templates", "gallery/*", "generated/gallery/index.rst"]
templates_path = ["_templates"]

# Headings get the anchors that GitHub gives them, so one link serves both.
myst_heading_anchors = 4
autosummary_generate = True
autodoc_typehints = "none"  # numpydoc sections say it
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
intersphinx_mapping = {}

# The examples run when the documentation is built: one that fails, or whose claims do not hold,
# is an error, and their plots are nowhere but in the result.
sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "generated/gallery",
    "doc_module": ("gramian",),
    "reference_url": {"gramian": None},
    "backreferences_dir": "generated/backreferences",
    "image_srcset": ["2x"],
    "capture_repr": (),  # what is printed is shown, and nothing else
    "thumbnail_size": (480, 264),
    "write_computation_times": False,
    "min_reported_time": 1e9,
    "show_memory": False,
    "download_all_examples": False,
    "show_signature": False,
}

html_theme = "furo"
pygments_dark_style = "a11y-dark"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_show_copyright = False
html_title = f"gramian {version}"
html_copy_source = False
html_math_renderer = "mathml"


def formula(translator, node):
    """As MathML, which browsers show by themselves: no script from elsewhere, no network."""
    try:
        made = tex2mathml(node.astext(), as_block=isinstance(node, nodes.math_block))
    except MathError as error:
        logging.getLogger(__name__).warning("formula: %s", error, location=node)
        made = ""
    translator.body.append(made)
    raise nodes.SkipNode


def only_links_to_pages(app, docname, source):
    """Links that hold in the tree as links between pages.

    Scripts of the gallery have pages; other files of the tree, as tests, become their name.
    """
    source[0] = re.sub(
        r"\[([^\]]*)\]\((?!\w+:)([^)#\s]*?)/?\)",
        lambda link: (
            f"[{link[1]}]({page})"
            if (page := page_of(docname, link[2])) is not None
            else f"{link[1]} (`{link[2].lstrip('./') or link[2]}`)"
        ),
        source[0],
    )


def page_of(docname, target):
    here = Path(__file__).parent
    path = (here / docname).parent.joinpath(target).resolve()
    if path.parent == here / "gallery" and path.suffix == ".py":
        return f"/generated/gallery/{path.stem}.rst"
    is_page = path.suffix == ".md" and here in path.parents
    return target if is_page or target == "" or path.suffix == ".svg" else None


def setup(app):
    app.add_html_math_renderer("mathml", (formula, None), (formula, None))
    app.connect("source-read", only_links_to_pages)
