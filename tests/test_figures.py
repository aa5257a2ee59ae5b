"""Each image of README and of the pages is made by docs/benchmarks/figures.py."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "images"
SHOWN = re.compile(r"images/([\w./-]+\.(?:png|gif|svg|jpe?g))")


@pytest.fixture(scope="module")
def figures() -> Iterator[Any]:
    """Return the script as a module."""
    sys.path.insert(0, str(ROOT / "docs" / "benchmarks"))
    import figures

    yield figures
    sys.path.remove(str(ROOT / "docs" / "benchmarks"))


def shown() -> dict[str, list[str]]:
    """Return the pages that show each image of docs/images."""
    found: dict[str, list[str]] = {}
    sources = [*(ROOT / "docs").rglob("*.md"), *(ROOT / "docs" / "gallery").iterdir(), ROOT / "README.md"]
    for page in sources:
        for name in SHOWN.findall(page.read_text(encoding="utf-8")):
            found.setdefault(name, []).append(page.name)
    return found


def test_each_image_of_a_page_is_there_and_is_made_by_the_script(figures: Any) -> None:
    pages = shown()
    assert len(pages) > 40
    assert {name: where for name, where in pages.items() if name not in files(figures)} == {}
    assert {name: where for name, where in pages.items() if not (IMAGES / name).exists()} == {}


def test_no_image_is_unused_or_unknown(figures: Any) -> None:
    committed = {path.relative_to(IMAGES).as_posix() for path in IMAGES.rglob("*") if path.is_file()}
    assert committed - files(figures) == set()
    assert {name for name in committed if name.replace("-dark", "") not in shown()} == set()


def files(figures: Any) -> set[str]:
    """Return the files that the script writes."""
    return {f"{name}.png" for name in figures.FIGURES} | {f"{name}-dark.png" for name in figures.DARK}


def test_an_image_is_written_with_a_palette(figures: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures.main(["first_order_boundary", "--out", str(tmp_path)])
    assert (tmp_path / "first_order_boundary.png").stat().st_size > 5_000
    with Image.open(tmp_path / "first_order_boundary.png") as image:
        assert image.mode == "P"
    assert "first_order_boundary.png" in capsys.readouterr().out


def test_names_and_wildcards(figures: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert figures.chosen(["first_order_l*", "demo"]) == ["demo", "first_order_learned", "first_order_loops"]
    with pytest.raises(ValueError, match="Expected names of figures, got 'nothing'"):
        figures.chosen(["nothing"])
    figures.main(["--list"])
    assert capsys.readouterr().out.split() == list(figures.FIGURES)
    with pytest.raises(SystemExit):
        figures.main([])
