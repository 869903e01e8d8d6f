"""The overview in a browser, and what every page has."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable

import pytest
from playwright.sync_api import Browser, expect

from tests.acceptance.conftest import Server
from tests.console.conftest import GONE, OpenPage, assert_accessible, is_too_wide

PAGES = (
    "/",
    "/pages/workspaces/",
    "/pages/jobs/",
    "/pages/nodes/",
    "/pages/settings/",
    "/pages/tokens/",
    "/pages/audit/",
)
LOOKS = [
    pytest.param({}, id="desktop"),
    pytest.param({"phone": True}, id="phone", marks=pytest.mark.slow),
    pytest.param({"dark": True}, id="dark", marks=pytest.mark.slow),
]
looks = pytest.mark.parametrize("look", LOOKS)


@looks
def test_every_page_is_accessible(server: Server, workspace: str, open_page: OpenPage, look: dict) -> None:
    server.run(workspace, "x = 1\nraise ValueError('no data')")
    page = open_page(**look)
    for path in PAGES:
        page.goto(server.url + path)
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        expect(page.get_by_role("navigation", name="Sections").locator("[aria-current]")).to_have_count(1)
        assert_accessible(page)
        assert not is_too_wide(page), path


def test_without_javascript_a_page_says_what_it_does_not_do(server: Server, workspace: str, chromium: Browser) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    for path in ("/", f"/pages/workspaces/{workspace}/"):
        page.goto(server.url + path)
        expect(page.locator("noscript .hint").first).to_be_visible()  # the search for texts skips noscript
        expect(page.locator("#connection")).to_be_hidden()
    context.close()


def test_the_overview_shows_first_what_matters(server: Server, workspace: str, open_page: OpenPage) -> None:
    running = server.run(workspace, "import threading; threading.Event().wait(60)", timeout=0)
    server.run(workspace, "print('waits')", timeout=0)
    page = open_page("/")
    expect(page.locator(".verdict")).to_contain_text("Everything works.")
    queue = page.get_by_role("region", name="Running and waiting jobs")
    expect(queue.get_by_role("row", name="threading.Event")).to_contain_text("running")
    expect(queue.get_by_role("row", name="print('waits')")).to_contain_text("queued")
    assert not page.get_by_text("Data folder").is_visible(), "details are shown on request"
    page.get_by_text("About this server").click()
    expect(page.get_by_text("Data folder")).to_be_visible()
    queue.get_by_role("button", name="Cancel import threading").click()
    page.get_by_role("button", name="Cancel the job").click()
    expect(queue.get_by_text("running", exact=True)).to_have_count(0)
    assert server.wait(workspace, running["job"])["state"] == "cancelled"


@pytest.mark.slow
def test_a_failure_of_today_is_on_the_overview(server: Server, workspace: str, open_page: OpenPage) -> None:
    page = open_page("/")
    expect(page.locator("#connection")).to_have_text("Live")
    server.run(workspace, "raise RuntimeError('happened later')")
    failures = page.get_by_role("region", name="Failures of the last day")
    expect(failures.get_by_text("RuntimeError: happened later")).to_be_visible()


@pytest.mark.slow
def test_times_are_relative_with_the_exact_time_on_hover(server: Server, workspace: str, open_page: OpenPage) -> None:
    server.run(workspace, "x = 1")
    page = open_page("/pages/jobs/")
    time = page.locator("td time").first
    expect(time).to_have_text(re.compile(r"^(just now|\d+ s ago)$"))
    assert re.search(r"\d{4}", time.get_attribute("title") or "")
    expect(time).to_have_text(re.compile(r"^[5-9] s ago$"))


def test_a_page_reports_within_3_s_that_the_server_is_gone(start: Callable[..., Server], open_page: OpenPage) -> None:
    server = start()
    page = open_page("/", url=server.url, ignoring=GONE)
    expect(page.locator("#connection")).to_have_text("Live")
    server.stop(signal.SIGKILL)
    expect(page.locator("#connection")).to_have_text("Disconnected, reconnecting", timeout=3000)


@pytest.mark.slow
def test_an_action_without_a_server_says_so(start: Callable[..., Server], open_page: OpenPage) -> None:
    server = start()
    page = open_page("/pages/workspaces/", url=server.url, ignoring=GONE)
    expect(page.locator("#connection")).to_have_text("Live")
    server.stop(signal.SIGKILL)
    page.get_by_label("Name").fill("never")
    page.get_by_role("button", name="Create workspace").click()
    expect(page.get_by_role("alert")).to_contain_text("The server does not respond.")
