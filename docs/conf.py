"""How Sphinx builds the site: `make docs`."""

from importlib.metadata import version as installed

project = "spectral-reg"
release = version = installed("spectral-reg")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
# Every reference has to lead somewhere.
nitpicky = True
nitpick_ignore_regex = [("py:class", r"(jax|numpy|pandas|collections)\..*")]

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3

# Arguments, their shapes and units are in the docstrings; signatures stay short.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "furo"
html_title = "spectral-reg"
