"""The overview in a browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.console.conftest import OpenPage, assert_accessible


@pytest.mark.parametrize("phone", [False, True], ids=["desktop", "phone"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_overview_is_live_and_accessible(open_page: OpenPage, phone: bool, dark: bool) -> None:
    page = open_page("/", phone=phone, dark=dark)
    expect(page.locator("#connection")).to_have_text("Live")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    assert_accessible(page)
