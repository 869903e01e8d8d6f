"""The interactive reference at `/docs`, and what browsers request besides pages: files, the icon, unknown paths."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.acceptance.browser import CHROMIUM, Browser
from tests.acceptance.conftest import Server
from tests.acceptance.test_access import token
from tests.protocols import echo

BROWSER = {"Accept": "text/html,application/xhtml+xml"}
in_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

TRY_PREDICTION = """(async () => {
  const appears = async (parent, selector) => {
    while (!parent.querySelector(selector)) await new Promise(requestAnimationFrame);
    return parent.querySelector(selector);
  };
  const block = await appears(document, "#operations-v1-predict_v1_model");
  (await appears(block, ".opblock-summary-control")).click();
  (await appears(block, ".try-out__btn")).click();
  const names = await appears(block, ".parameters .examples-select-element");
  const bodies = await appears(block, ".opblock-section-request-body .examples-select-element");
  for (const select of [names, bodies]) {
    select.value = %r;
    select.dispatchEvent(new Event("change", {bubbles: true}));
  }
  (await appears(block, ".execute")).click();
  return (await appears(block, ".live-responses-table .response td.response-col_description")).innerText;
})()"""
"""Tries the example of a model, as a person does, and returns the response that the page shows."""


@pytest.fixture(scope="module")
def protected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that requires tokens."""
    server = Server(tmp_path_factory.mktemp("protected") / "data", "--auth", "on")
    yield server
    server.close()


@pytest.mark.parametrize("path", ["/docs", "/docs/"])
def test_the_page_and_its_files_are_served_under_the_policy_of_all_pages(server: Server, path: str) -> None:
    page = server.http.get(path, headers=BROWSER)
    assert page.status_code == 200
    assert "unsafe" not in page.headers["Content-Security-Policy"]
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|style=", page.text)
    files = re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text)
    assert any("swagger-ui" in file for file in files)
    for file in files:
        response = server.http.get(file)
        assert (response.status_code, response.headers["Cache-Control"]) == (200, "public, max-age=31536000, immutable")


@pytest.mark.slow
@in_chromium
def test_an_example_of_a_model_of_this_server_can_be_tried(server: Server, workspace: str, tmp_path: Path) -> None:
    path = echo.write(server.roots / "tried.echo", {"x": {"dtype": "float32", "shape": [-1, 3]}})
    server.call("/deploy/", name=workspace, path=str(path), timeout=60)
    browser = Browser(tmp_path, f"{server.url}/docs")
    try:
        assert browser.wait_for("create_workspace")
        shown = browser.evaluate(TRY_PREDICTION % workspace)
        assert "Response body" in shown, shown
        assert '"predictions":[[0.5,0.5,0.5]]' in re.sub(r"\s", "", shown)
    finally:
        browser.close()


@in_chromium
def test_a_person_with_a_token_sees_the_page(protected: Server, tmp_path: Path) -> None:
    browser = Browser(tmp_path, f"{protected.url}/docs")
    try:
        assert browser.wait_for("This server requires a token")
        enter = "document.getElementById('secret').value = %r; document.querySelector('#token button').click()"
        browser.evaluate(enter % "tfs_wrong")
        assert browser.wait_for("token was refused")
        browser.evaluate(enter % token(protected, "reader", "predict"))
        assert browser.wait_for("create_workspace")
        assert not browser.evaluate("document.getElementById('token').checkVisibility()")
        assert browser.evaluate("document.querySelector('.authorize').classList.contains('locked')")
    finally:
        browser.close()


def test_the_page_itself_has_no_data_and_needs_no_token(protected: Server) -> None:
    assert protected.http.get("/docs").status_code == 200
    assert protected.http.get("/favicon.ico").status_code == 200
    assert protected.http.get("/openapi.json").status_code == 401
    assert protected.http.get("/docs/other").status_code == 401


def test_files_are_revalidated_by_their_etag(server: Server) -> None:
    for path in ("/static/pages/pages.css", "/favicon.ico"):
        first = server.http.get(path)
        assert (first.status_code, first.headers["Cache-Control"]) == (200, "public, no-cache")
        again = server.http.get(path, headers={"If-None-Match": first.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_the_icon_is_an_icon_file(server: Server) -> None:
    icon = server.http.get("/favicon.ico")
    assert icon.headers["Content-Type"] in ("image/vnd.microsoft.icon", "image/x-icon")
    assert icon.content[:4] == b"\0\0\1\0"


def test_an_unknown_path_is_a_page_for_browsers_and_json_for_programs(server: Server) -> None:
    page = server.http.get("/modles/", headers=BROWSER)
    assert (page.status_code, page.headers["Content-Type"]) == (404, "text/html; charset=utf-8")
    assert "Page not found" in page.text
    assert "Content-Security-Policy" in page.headers
    for response in (
        server.http.get("/modles/"),
        server.http.post("/modles/", headers=BROWSER),
        httpx.delete(f"{server.url}/modles/"),
    ):
        assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")
