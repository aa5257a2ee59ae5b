"""Relative links, anchors and images of README and pages, and the way to every page; no network."""

import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
SITE = sorted(DOCS.glob("*.md")) + sorted(DOCS.glob("measures/*.md")) + sorted(DOCS.glob("howto/*.md"))
SITE.append(DOCS / "benchmarks" / "curves" / "README.md")
TEXTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "reference" / "results" / "README.md", *SITE]
BUILT = re.compile(r"^(auto_gallery/|_downloads/)")  # written by docs/build.py
CODE = re.compile(r"^( *)(```+|~~~+).*?^ *\2`*$|`[^`\n]+`", re.S | re.M)
LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\[\]]*\])*\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)")
HTML = re.compile(r"(?:src|srcset|href)=\"([^\"]+)\"")
TOCTREE = re.compile(r"^(`{3,}|:{3,})\{toctree\}\n(.*?)^\1", re.S | re.M)


def links_of(text: str) -> list[str]:
    """Return the targets of links and images outside of code, images inside of links included."""
    text = CODE.sub(lambda found: "`code`" if found[2] is None else "", text)
    inner = [target for found in LINK.finditer(text) for target in LINK.findall(found[0][1:])]
    return [*LINK.findall(text), *inner, *HTML.findall(text)]


@cache
def anchors_of(page: Path) -> frozenset[str]:
    """Return the anchors of the headings, as MyST and code forges make them, and explicit ones."""
    text = page.read_text(encoding="utf-8")
    plain = re.sub(r"^(```+|~~~+).*?^\1$", "", text, flags=re.S | re.M)
    found: list[str] = re.findall(r"^\(([\w-]+)\)=$", plain, re.M) + re.findall(r"<a (?:id|name)=\"([^\"]+)\"", plain)
    for heading in re.findall(r"^#{1,6} (.+)$", plain, re.M):
        title = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
        slug = re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")
        found.append(f"{slug}-{found.count(slug)}" if slug in found else slug)
    return frozenset(found)


def broken(page: Path) -> list[str]:
    wrong = []
    for link in links_of(page.read_text(encoding="utf-8")):
        name, _, anchor = unquote(link).partition("#")
        target = (page.parent / name).resolve() if name else page
        if re.match(r"[a-z]+:", link) or (page.is_relative_to(DOCS) and BUILT.match(name)):
            continue
        if not target.exists():
            wrong.append(f"{link}: no such file")
        elif anchor and target.suffix == ".md" and anchor not in anchors_of(target):
            wrong.append(f"{link}: no such heading")
        elif page in SITE and target.suffix == ".md" and target.is_relative_to(DOCS) and target not in SITE:
            wrong.append(f"{link}: not on the site")
    return wrong


@pytest.mark.parametrize("page", TEXTS, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings(page: Path) -> None:
    assert broken(page) == []


def children(page: Path) -> set[Path]:
    """Return the pages of the site that the toctrees of a page name."""
    lines = [
        line.strip() for _, body in TOCTREE.findall(page.read_text(encoding="utf-8")) for line in body.splitlines()
    ]
    entries = [line for line in lines if line and not line.startswith(":")]
    return {found.resolve() for entry in entries for found in page.parent.glob(f"{entry}.md")}


def test_every_page_of_the_site_is_in_a_toctree() -> None:
    reached, todo = set(), [DOCS / "index.md"]
    while todo:
        page = todo.pop()
        reached.add(page)
        todo += children(page) - reached
    assert set(SITE) - reached == set()


def test_faults_are_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# A `b` (c), d\n\n## Twice\n\n## Twice\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[good](other.md#a-b-c-d) [again](other.md#twice-1) `[code](nothing.md)` [web](https://example.org/x)\n"
        '[![inner](none.png)](other.md) [gone](gone.md) [heading](other.md#nothing) <img src="lost.png">\n'
        "```md\n[code](nothing.md)\n```\n"
    )
    assert sorted(wrong.split(":")[0] for wrong in broken(page)) == [
        "gone.md",
        "lost.png",
        "none.png",
        "other.md#nothing",
    ]
