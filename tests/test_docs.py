"""The glossary, and examples of the gallery that need no training."""

import re
import runpy
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt

from probe.phases import MARKERS, Status
from probe.words import PHASE_NAMES, STATUS_NAMES

mpl.use("Agg")
ROOT = Path(__file__).parent.parent


def test_gallery_example_on_logged_curves() -> None:
    runpy.run_path(str(ROOT / "docs/gallery/plot_logged_curves.py"))
    plt.close("all")


def test_glossary_is_sorted_and_has_the_words_of_figures() -> None:
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", (ROOT / "docs/glossary.md").read_text(encoding="utf-8"), re.M)
    terms = [term.casefold() for term, _ in rows[1:]]
    assert terms == sorted(set(terms))
    words = [kind.label for kind in MARKERS] + [*PHASE_NAMES.values(), *STATUS_NAMES.values()]
    words += [status.value for status in Status if status.value not in STATUS_NAMES]
    missing = {word.replace("_", " ") for word in words} - {term.split(" (")[0] for term in terms}
    assert missing == set()
