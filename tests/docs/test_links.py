"""Links between the documents lead to files that exist, and to headings that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted({*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")})
_FENCES = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)


def headings(markdown: str) -> set[str]:
    """The anchors that a Markdown site makes of the headings."""
    titles = re.findall(r"^#+ (.+)$", _FENCES.sub("", markdown), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_have_a_target(path: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        name, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", name):
            continue
        target = path.parent / name if name else path
        if not target.exists() or (anchor and anchor not in headings(target.read_text(encoding="utf-8"))):
            broken.append(link)
    assert not broken


def test_the_navigation_has_every_document() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    missing = [path for path in (ROOT / "docs").rglob("*.md") if str(path.relative_to(ROOT / "docs")) not in navigation]
    assert not missing


@pytest.mark.parametrize("name", ["ARCHITECTURE.md", "CONTRIBUTING.md"])
def test_files_that_are_named_exist(name: str) -> None:
    existing = [f"/{path.relative_to(ROOT)}" for path in (ROOT / "tfserve").rglob("*")]
    named = re.findall(r"`([\w/]+(?:\.py|/))`", (ROOT / name).read_text(encoding="utf-8"))
    assert named
    missing = [each for each in named if not any(path.endswith(f"/{each.strip('/')}") for path in existing)]
    assert [each for each in missing if not (ROOT / each).exists()] == []
