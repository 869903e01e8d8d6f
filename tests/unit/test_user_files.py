"""Files of users are shown by a browser only if their type can't run anything; all others are downloaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from tfserve.web.http.user_files import file_response


@pytest.mark.parametrize("name", ["a.html", "a.svg", "a.xhtml", "a.xml", "a.js", "a.pdf", "a.wasm", "a.htm", "a.mht",
                                  "a", "a.svgz", "a.html.gz", "a.xsl", "a.css"])  # fmt: skip
def test_what_a_browser_might_run_is_an_attachment(tmp_path: Path, name: str) -> None:
    headers = file_response(tmp_path / name).headers
    assert headers["content-disposition"].startswith("attachment")
    assert headers["content-security-policy"].startswith("sandbox;")


@pytest.mark.parametrize("name", ["a.png", "metrics.json", "labels.txt", "a.csv"])
def test_pictures_and_text_are_shown(tmp_path: Path, name: str) -> None:
    headers = file_response(tmp_path / name).headers
    assert headers["content-disposition"].startswith("inline")
    assert headers["content-security-policy"].startswith("sandbox;")
