"""Sphinx configuration; docs/build.py calls it."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
import probe
from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.errors import ExtensionError

project = "probe"
author = "the probe developers"
copyright = "2026, the probe developers"
release = probe.__version__
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
html_theme = "furo"
html_title = "probe"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
exclude_patterns = ["_build", "gallery", "sg_execution_times.rst", "auto_gallery/sg_execution_times.rst"]
myst_enable_extensions = ["attrs_inline", "colon_fence", "dollarmath"]
myst_heading_anchors = 3
autosummary_generate = True
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
napoleon_google_docstring = False
# The gallery is there only when it was built. Letters in shapes, such as (n, d), are no names to link to.
suppress_warnings = ["toc.excluded", "toc.not_readable", "ref.python"]

if os.environ.get("PROBE_GALLERY"):  # runs every example, so it is built on request only
    extensions.append("sphinx_gallery.gen_gallery")
    # Examples whose package is not installed are shown without being run.
    needs = {"accelerate": "accelerate", "lightning": "lightning", "transformers": "transformers"}
    absent = [example for example, package in needs.items() if find_spec(package) is None]
    sphinx_gallery_conf = {
        "examples_dirs": "gallery",
        "gallery_dirs": "auto_gallery",
        "backreferences_dir": "auto_gallery/backreferences",
        "copyfile_regex": r"index\.rst",  # our own index, with a section for each job
        "first_notebook_cell": "# Once, in the folder of the repository:\n"
        "# %pip install -c constraints.txt -e .[gallery]",
        "filename_pattern": "/plot_" + "".join(f"(?!{example}\\.)" for example in absent),
        "download_all_examples": False,
        "matplotlib_animations": False,
        "show_memory": False,
        "write_computation_times": False,  # that page loads scripts from other servers
        "ignore_repr_types": "matplotlib",  # a figure is shown, not named
    }
else:  # what an earlier build of the gallery left
    exclude_patterns += ["auto_gallery"]


def skip(app: object, what: str, name: str, obj: object, skipped: bool, options: object) -> bool | None:
    """Skip the metadata routing of scikit-learn, and fields of named tuples, which the class docstring describes."""
    routing = name.startswith("set_") and name.endswith("_request")
    field = (getattr(obj, "__doc__", None) or "").startswith("Alias for field number")
    return True if routing or field else None


def write_formula(translator: object, node: nodes.Element) -> None:
    """Write a formula as MathML, which a browser renders without a script."""
    try:
        formula = tex2mathml(node.astext(), as_block=isinstance(node, nodes.math_block))
    except MathError as error:
        raise ExtensionError(f"Expected a formula of LaTeX, got {node.astext()!r} in {node.source}; {error}") from error
    translator.body.append(formula)  # type: ignore[attr-defined]
    raise nodes.SkipNode


def setup(app: object) -> None:
    app.connect("autodoc-skip-member", skip)  # type: ignore[attr-defined]
    app.add_html_math_renderer("mathml", (write_formula, None), (write_formula, None))  # type: ignore[attr-defined]
