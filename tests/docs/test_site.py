"""The documentation site: `mkdocs build --strict` succeeds, and generated pages are complete."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from tfserve.config import Settings, environment_name
from tfserve.training.recipes.parameters import TABLES

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it. Warnings, such as a link to a missing anchor, are errors."""
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def openapi() -> Any:
    """The OpenAPI document, made in a process of its own, because that sets up Django."""
    code = "import json; from tools.docs_reference import openapi; print(json.dumps(openapi()))"
    return json.loads(subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout)


def pages(site: Path) -> Iterator[tuple[Path, str]]:
    for path in sorted(site.rglob("*.html")):
        yield path, path.read_text(encoding="utf-8")


def text_of(site: Path, page: str) -> str:
    return unescape(re.sub(r"<[^>]+>", "", (site / "reference" / page).read_text(encoding="utf-8")))


def test_every_endpoint_is_on_the_page_of_the_api(site: Path, openapi: Any) -> None:
    text = text_of(site, "api.html")
    paths = openapi["paths"]
    missing = [f"{verb} {path}" for path in paths for verb in paths[path] if f"{verb.upper()} {path}" not in text]
    assert paths
    assert not missing


def test_every_field_of_a_request_is_on_the_page_of_the_api(site: Path, openapi: Any) -> None:
    text = text_of(site, "api.html")
    types = openapi["components"]["schemas"]
    assert [name for each in types.values() for name in each.get("properties", {}) if name not in text] == []


def test_every_setting_is_on_its_page(site: Path) -> None:
    text = text_of(site, "settings.html")
    for field in dataclasses.fields(Settings):
        assert environment_name(field.name) in text
        assert field.metadata["help"] in text
        assert (f"--{field.name.replace('_', '-')}" in text) is field.metadata["flag"]


def test_every_command_is_on_its_page(site: Path) -> None:
    help_text = subprocess.run(
        [sys.executable, "-m", "tfserve.cli", "--help"],
        cwd=ROOT, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "200", "TERM": "dumb"},
    ).stdout  # fmt: skip
    commands = re.findall(r"^  (\w+) {2,}", help_text.partition("Server:")[2], re.MULTILINE)
    assert {"serve", "train", "version"} <= set(commands)
    text = text_of(site, "command-line.html")
    assert [name for name in commands if f"tfserve {name}" not in text] == []


def test_every_training_parameter_is_on_its_page(site: Path) -> None:
    text = text_of(site, "training.html")
    assert [each for table in TABLES.values() for each in table if each.help.replace("`", "") not in text] == []


def test_pages_load_nothing_from_other_servers(site: Path) -> None:
    loaded = re.compile(r"""<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=["']?(?:https?:)?//[^"' >]+""")
    found = {str(path): match[0] for path, html in pages(site) for match in loaded.finditer(html)}
    assert not found
    styles = [path for path in site.rglob("*.css") if re.search(r"url\(['\"]?(https?:)?//", path.read_text())]
    assert not styles


def test_links_and_anchors_lead_somewhere(site: Path) -> None:
    ids = {path: set(re.findall(r"""\bid=["']?([^"' >]+)""", html)) for path, html in pages(site)}
    broken = []
    for path, html in pages(site):
        if path.name == "404.html":  # its links begin at the root of the server
            continue
        for link in re.findall(r"""<a\b[^>]*\bhref=["']?([^"' >]+)""", html):
            name, _, anchor = unescape(link).partition("#")
            if re.match(r"[a-z]+:", name):
                continue
            target = (path.parent / name).resolve() if name else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file() or (anchor and target.suffix == ".html" and anchor not in ids[target]):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert not broken


def test_the_search_works_without_a_server(site: Path) -> None:
    """A page that is opened as a file can load scripts only: the index is one."""
    assert (site / "search" / "search_index.js").read_text(encoding="utf-8").startswith("var __index")
    assert all("assets/iframe-worker.js" in html for _, html in pages(site))
