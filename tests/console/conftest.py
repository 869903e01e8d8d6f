"""The console in a real browser: one server and one Chromium for all tests, and a factory of pages.

A test fails if its page logs an error, throws one, or scrolls sideways.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from tests.acceptance.conftest import Server, digits, models, server, start, workspace

__all__ = ["digits", "models", "server", "start", "workspace"]

CHROMIUM = shutil.which("chromium")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
"""The camera shows a test picture."""
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
GONE = ("ERR_", "htmx:")
"""To be ignored by a test that ends the server of a page."""
OpenPage = Callable[..., Page]
"""See `Pages.open`."""
expect.set_options(timeout=10_000)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if CHROMIUM is None and "/console/" in str(item.path):
            item.add_marker(pytest.mark.skip(reason="chromium is not installed"))


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """The browser of the system: playwright's own is not downloaded.

    It ends with these tests, because others need the event loop of the thread.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Browser, server: Server) -> Iterator[OpenPage]:
    pages = Pages(chromium, server.url)
    yield pages.open
    pages.check_and_close()


class Pages:
    """The open pages of a test, each with a profile of its own, and what went wrong in them."""

    def __init__(self, chromium: Browser, url: str) -> None:
        self._chromium = chromium
        self._url = url
        self._contexts: list[BrowserContext] = []
        self._problems: list[str] = []

    def open(
        self,
        path: str = "/",
        *,
        phone: bool = False,
        dark: bool = False,
        url: str | None = None,
        ignoring: tuple[str, ...] = (),
    ) -> Page:
        """An open page of the shared server, or of the one at `url`.

        `ignoring` are parts of the console errors that the test provokes, such as `status of 409`.
        """
        context = self._chromium.new_context(
            viewport=PHONE if phone else DESKTOP,
            color_scheme="dark" if dark else "light",
            has_touch=phone,
            locale="en",
            permissions=["clipboard-read", "clipboard-write"],
        )
        self._contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: self._problems.append(f"{page.url}: {error}"))
        page.on("console", lambda message: self._note(page, message, ignoring))
        page.goto((url or self._url) + path)
        return page

    def _note(self, page: Page, message: ConsoleMessage, ignoring: tuple[str, ...]) -> None:
        if message.type == "error" and not any(each in message.text for each in ignoring):
            self._problems.append(f"{page.url}: {message.text}")

    def check_and_close(self) -> None:
        wide = [page.url for context in self._contexts for page in context.pages if is_too_wide(page)]
        for context in self._contexts:
            context.close()
        assert not self._problems, "\n".join(self._problems)
        assert not wide, f"these pages scroll sideways: {wide}"


def is_too_wide(page: Page) -> bool:
    """Whether the page as a whole scrolls sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"))


def assert_accessible(page: Page) -> None:
    """axe finds nothing."""
    results = Axe().run(page)
    assert not results.violations_count, results.generate_report()


def screenshot(page: Page, name: str, folder: Path) -> None:
    """The whole page as `<name>.png`, for people."""
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{name}.png", full_page=True)
