"""How Sphinx builds the documentation. `make docs` runs it with warnings as errors."""

import os
import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS.parent), str(DOCS)]

import config_keys  # noqa: E402
import methods_table  # noqa: E402
import outside_links  # noqa: E402

import prune_jax  # noqa: E402

project = "prune_jax"
author = "The prune_jax developers"
copyright = author
version = release = prune_jax.__version__

# Where the sources are. OWNER stands for the account until `python docs/set_address.py ADDRESS` names it.
REPOSITORY = os.environ.get("PRUNE_JAX_REPOSITORY", "https://github.com/OWNER/prune_jax")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "_generated", "notebooks/source", "**.ipynb_checkpoints"]
templates_path = ["_templates"]
html_theme = "sphinx_book_theme"
html_title = "prune_jax"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "repository_url": REPOSITORY,
    "repository_branch": "main",
    "path_to_docs": "docs",
    "use_repository_button": True,
    "launch_buttons": {"colab_url": "https://colab.research.google.com"},
    "home_page_in_toc": True,
    "show_navbar_depth": 1,
    "navbar_persistent": [],  # else a bar across the top repeats the search of the side bar
}

# Notebooks come with their outputs: `make notebooks` runs them, a build shows them.
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
suppress_warnings = ["misc.highlighting_failure"]

autosummary_generate = True
autodoc_typehints = "none"  # the sections Args and Returns say them in words
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Source", "Definition"]


def _skip(app, what, name, obj, skip, options):
    """Fields of named tuples are told by the section Attributes."""
    return True if type(obj).__name__ == "_tuplegetter" else skip


def setup(app):
    """Generated pages first; then links that leave the folder become links to the repository."""
    methods_table.write(DOCS / "_generated")
    config_keys.write(DOCS / "_generated")
    app.connect("autodoc-skip-member", _skip)
    app.connect("source-read", lambda _, name, source: outside_links.rewrite(app, name, source, REPOSITORY))
