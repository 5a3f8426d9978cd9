"""Sphinx: `make docs` builds the site into build/docs and ends at the first warning."""

from importlib.metadata import version as version_of

project = "mshnet_pl"
author = copyright = "The mshnet_pl authors"
version = release = version_of("mshnet_pl")

extensions = [
    "myst_nb",  # pages in Markdown, and notebooks with the outputs that they have; tests execute them
    "sphinx.ext.autodoc",  # the API from docstrings
    "sphinx.ext.napoleon",  # of Google's style
    "sphinx_copybutton",
]
html_theme = "furo"
html_title = "mshnet_pl"
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["site.css"]

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"
nb_render_markdown_format = "myst"  # tables, too
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_class_signature = "separated"
napoleon_use_rtype = False
copybutton_exclude = ".linenos, .gp"
