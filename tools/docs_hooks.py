"""Hooks of mkdocs.yml: pages that are made from the program, and pages from files outside of docs/.

A page of docs/ may contain a line `<!-- generated: NAME -->`. It becomes what `docs_reference.GENERATED[NAME]` returns.
"""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tools.docs_reference import GENERATED  # noqa: E402

#: Markdown outside of docs/ → its address in the site
PAGES = {"ARCHITECTURE.md": "explanation/architecture.md", "CHANGELOG.md": "releases/changelog.md"}
#: Files that pages link to are copied to this folder of the site.
DOWNLOADS = "files"

_MARKER = re.compile(r"^<!-- generated: ([\w-]+) -->$", re.MULTILINE)
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]+)")


def on_files(files: Files, config: MkDocsConfig, **_: Any) -> Files:
    for source, address in PAGES.items():
        files.append(File.generated(config, address, content=(ROOT / source).read_text(encoding="utf-8")))
    for source in sorted(_linked_files(files)):
        files.append(File.generated(config, f"{DOWNLOADS}/{source}", abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    if "/" not in page.file.src_uri:
        page.meta["hide"] = ["navigation"]  # the only page of its tab
    source = source_of(page.file.src_uri)
    markdown = _LINK.sub(lambda link: site_link(link[1], source, page.file.src_uri), markdown)
    return _MARKER.sub(lambda marker: GENERATED[marker[1]](), markdown)


def source_of(address: str) -> str:
    """The file in the repository from which a page of the site is made."""
    return next((source for source, made in PAGES.items() if made == address), f"docs/{address}")


def site_link(link: str, source: str, address: str) -> str:
    """A link as it is written in `source`, for the page at `address`: both relative."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    return posixpath.relpath(_address(target), posixpath.dirname(address) or ".")


def _address(target: str) -> str:
    if target in PAGES:
        return PAGES[target]
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    return f"{DOWNLOADS}/{target}"


def _linked_files(files: Files) -> set[str]:
    """Files of the repository, outside of docs/, to which a page links."""
    linked = set()
    for file in files.documentation_pages():
        source = source_of(file.src_uri)
        for link in _LINK.findall((ROOT / source).read_text(encoding="utf-8")):
            target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
            if target not in PAGES and not target.startswith("docs/") and (ROOT / target).is_file():
                linked.add(target)
    return linked
