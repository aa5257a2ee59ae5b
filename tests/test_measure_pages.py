"""Each measure has a page, and all pages have the same headings in the same order."""

import re
from pathlib import Path

import pytest

from probe import measures

PAGES = Path(__file__).parent.parent / "docs" / "measures"
OTHERS = {"index", "rows", "which_measure"}
HEADINGS = ["What it tells", "Definition", "When it misleads", "Cost", "References"]
PROBES = sorted(name for name in measures.__all__ if name.endswith("Probe"))


@pytest.mark.parametrize("page", sorted(path.stem for path in PAGES.glob("*.md") if path.stem not in OTHERS))
def test_a_page_has_an_example_and_five_headings(page: str) -> None:
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    start = text.split("## What it tells")[0]
    assert re.match(r"# [^\n]+\n\nAfter (reading )?this page you can ", start)
    assert "```python" in start
    code_free = re.sub(r"```.*?```", "", text, flags=re.S)
    assert re.findall(r"^## (.+)$", code_free, re.M) == HEADINGS


@pytest.mark.parametrize("name", PROBES)
def test_a_measure_is_in_the_table_and_has_a_page(name: str) -> None:
    table = (PAGES / "index.md").read_text(encoding="utf-8")
    found = re.findall(rf"^\| \[`{name}`\]\((\w+)\.md\) \|", table, re.M)
    assert len(found) == 1
    title = (PAGES / f"{found[0]}.md").read_text(encoding="utf-8").split("\n")[0]
    assert title.endswith(f"`{name}`")
