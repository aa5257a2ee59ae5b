"""Every Python block of every page runs; docs/style.md explains the marks."""

import contextlib
import importlib.util
import io
import re
import runpy
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest
import torch

mpl.use("Agg")
ROOT = Path(__file__).parent.parent
SETUPS = ROOT / "tests" / "pages"
BLOCK = re.compile(r"(?:^<!-- (\w+): ([^\n]*) -->\n\n?)?^( *)```python\n(.*?)^ *```", re.S | re.M)
MARKS = ("needs", "slow", "fragment", "elsewhere")


@dataclass(frozen=True)
class Block:
    """A Python block: its code, the number of lines above it, and the mark in the line before it with its text."""

    code: str
    line: int
    mark: str
    why: str

    @property
    def missing(self) -> list[str]:
        """Packages that the block needs and this environment lacks."""
        names = re.split(r", *", self.why) if self.mark == "needs" else []
        return [name for name in names if importlib.util.find_spec(name) is None]


def blocks_of(text: str) -> list[Block]:
    return [
        Block(found[4], text.count("\n", 0, found.start(4)), found[1] or "", found[2] or "")
        for found in BLOCK.finditer(text)
    ]


def pages() -> list[Path]:
    """Return README.md and the pages of the site."""
    docs = ROOT / "docs"
    return [
        ROOT / "README.md",
        *sorted(docs.glob("*.md")),
        *sorted(docs.glob("measures/*.md")),
        *sorted(docs.glob("howto/*.md")),
    ]


BLOCKS = {page.relative_to(ROOT).as_posix(): blocks_of(page.read_text(encoding="utf-8")) for page in pages()}
PAGES = [
    pytest.param(name, marks=[pytest.mark.slow] if any(block.mark == "slow" for block in blocks) else [])
    for name, blocks in BLOCKS.items()
    if any(block.mark not in ("fragment", "elsewhere") for block in blocks)
]


def setup_of(page: str) -> dict[str, Any]:
    """Run tests/pages/NAME.py, which gives the names that a page leaves to its reader."""
    setup = SETUPS / Path(page).relative_to("docs" if page.startswith("docs/") else ".").with_suffix(".py")
    return runpy.run_path(str(setup)) if setup.exists() else {}


def run(page: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Run the blocks in order in one namespace; return the missing packages."""
    module = ModuleType("page")  # classes of a page can be pickled, as those of a module
    names = module.__dict__
    names |= setup_of(page)
    names["__name__"] = "page"
    monkeypatch.setitem(sys.modules, "page", module)
    edits, check = names.pop("edits", {}), names.pop("check", None)
    printed, missing = io.StringIO(), []
    with contextlib.redirect_stdout(printed):
        for block in BLOCKS[page]:
            missing += block.missing
            if block.missing or block.mark in ("fragment", "elsewhere"):
                continue
            code = block.code
            for old in [old for old in edits if old in code]:
                code = code.replace(old, edits.pop(old))
            exec(compile("\n" * block.line + code, str(ROOT / page), "exec"), names)
    assert not edits, f"tests/pages edits text that {page} does not have: {list(edits)}"
    if check is not None and not missing:
        check(names, printed.getvalue())
    return missing


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    try:
        missing = run(page, monkeypatch)
    finally:
        plt.close("all")
    if missing:
        pytest.skip(f"all other blocks ran; missing: {', '.join(missing)}")


def test_marks_are_known_and_have_a_reason() -> None:
    wrong = [(page, b.line, b.mark) for page, blocks in BLOCKS.items() for b in blocks if b.mark not in ("", *MARKS)]
    assert not wrong
    for page, blocks in BLOCKS.items():
        for block in blocks:
            assert block.mark in ("", "needs") or len(block.why.split()) > 2, (page, block.line)
            if block.mark == "elsewhere":
                test = ROOT / block.why.split()[0]
                assert Path(page).name in test.read_text(encoding="utf-8"), (page, test)


def test_every_setup_belongs_to_a_page_with_blocks() -> None:
    names = {Path(page).relative_to("docs" if page.startswith("docs/") else ".") for page in BLOCKS if BLOCKS[page]}
    assert {file.relative_to(SETUPS).with_suffix(".md") for file in SETUPS.rglob("*.py")} <= names


def test_blocks_are_found_with_their_marks_and_lines() -> None:
    text = "a\n\n```python\nx = 1\n```\n\n<!-- needs: nothing_of_the_kind -->\n```python\ny\n```\n```\nno\n```\n"
    first, second = blocks_of(text)
    assert (first.code, first.line, first.mark) == ("x = 1\n", 3, "")
    assert (second.code, second.mark, second.missing) == ("y\n", "needs", ["nothing_of_the_kind"])
