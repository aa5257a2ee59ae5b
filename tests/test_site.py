"""The built site: it requests nothing, shows formulas without a script, and lists every public name."""

import importlib
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import CHROMIUM, Page, browser
from test_examples import FOLDERS

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
LOADED = re.compile(r"<(?:script|img|iframe|source|video|audio)\b[^>]*\bsrc(?:set)?=[\"'](?:https?:)?//[^\"']+")
SHEETS = re.compile(
    r"<link\b(?=[^>]*\brel=[\"'](?:stylesheet|preload|icon|preconnect))[^>]*\bhref=[\"'](?:https?:)?//[^>]+"
)
IN_CSS = re.compile(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//[^)\"';]+")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the built site: the one in PROBE_SITE, else a new one."""
    pytest.importorskip("sphinx", reason="sphinx is not installed: pip install -e .[docs]")
    if "PROBE_SITE" in os.environ:
        return Path(os.environ["PROBE_SITE"])
    built = tmp_path_factory.mktemp("site")
    subprocess.run([sys.executable, ROOT / "docs" / "build.py", "--output", built], check=True)
    return built


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    pytest.importorskip("tornado", reason="tornado is not installed: pip install -e .[report]")
    with browser() as tab:
        tab.call(
            "Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=-1, uploadThroughput=-1
        )
        yield tab


def test_files_name_nothing_to_load_from_a_network(site: Path) -> None:
    found = []
    for file in [*site.rglob("*.html"), *site.rglob("*.css")]:
        text = file.read_text(encoding="utf-8")
        patterns = (IN_CSS,) if file.suffix == ".css" else (LOADED, SHEETS)
        found += [(file.name, match) for pattern in patterns for match in pattern.findall(text)]
    assert len(list(site.rglob("*.html"))) > 50
    assert found == []


def test_faults_of_files_would_be_found() -> None:
    assert LOADED.search('<script async="" src="https://cdn.example.org/x.js">')
    assert SHEETS.search('<link rel="stylesheet" href="//fonts.example.org/x.css" />')
    assert not SHEETS.search('<link rel="canonical" href="https://example.org/" />')
    assert IN_CSS.search("@font-face { src: url('https://example.org/x.woff2') }")


def test_formulas_are_mathml(site: Path) -> None:
    texts = {file: file.read_text(encoding="utf-8") for file in site.rglob("*.html")}
    sources = [*(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "measures").glob("*.md")]
    formulas = sum(len(re.findall(r"^\$\$ ", file.read_text(encoding="utf-8"), re.M)) for file in sources)
    assert (
        sum(text.count('<math xmlns="http://www.w3.org/1998/Math/MathML" display="block"') for text in texts.values())
        >= formulas
        > 0
    )
    assert [file.name for file, text in texts.items() if re.search(r'class="math[ "]', text)] == []


def test_every_public_name_is_on_the_page_of_the_api(site: Path) -> None:
    from sphinx.util.inventory import InventoryFile

    with (site / "objects.inv").open("rb") as file:
        inventory = InventoryFile.load(file, "", lambda base, name: name)
    listed = {name for kind, names in inventory.items() if kind.startswith("py:") for name in names}
    missing = []
    for folder in FOLDERS:
        module = importlib.import_module(folder)
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            own = f"{getattr(value, '__module__', folder)}.{getattr(value, '__qualname__', name)}"
            anywhere = [one for one in listed if one.rpartition(".")[2] == name]  # one object, listed in one folder
            if not inspect.ismodule(value) and not {f"{folder}.{name}", own} & listed and not anywhere:
                missing.append(f"{folder}.{name}")
    assert missing == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1200, 600])
def test_pages_in_a_browser_without_a_network(site: Path, page: Page, width: int, dark: bool) -> None:
    names = [
        "index",
        "tutorial",
        "logs",
        "results",
        "chaos",
        "regions",
        "api",
        "measures/mutual_information",
        "howto/index",
    ]
    for name in names:
        page.errors.clear()
        page.open(site / f"{name}.html", width=width, dark=dark)
        assert [url for url in page.requests if not url.startswith(("file:", "data:", "about:"))] == []
        assert page.errors == []
        assert page.js("document.documentElement.scrollWidth") <= width, name
        sizes = page.js("[...document.querySelectorAll('math')].map((m) => m.getBoundingClientRect().height)")
        assert all(size > 5 for size in sizes)
        assert "\\lVert" not in page.js("document.body.innerText")
        broken = "[...document.images].filter((one) => one.complete && !one.naturalWidth).map((one) => one.src)"
        assert page.js(broken) == []
