"""A person sets a password, logs in, and acts with the session."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.acceptance.conftest import Server
from tests.console.conftest import OpenPage, assert_accessible

PASSWORD = "correct horse battery"


@pytest.mark.slow
def test_a_person_logs_in_acts_and_changes_the_password(start: Callable[..., Server], open_page: OpenPage) -> None:
    server = start(TFSERVE_AUTH="on")
    link = re.search(r"/pages/password/\?code=\S+", server.log)
    assert link, server.log
    page = open_page(link[0], url=server.url, ignoring=("status of 401",))
    assert_accessible(page)
    page.get_by_label("New password").fill(PASSWORD)
    page.get_by_label("The same again").fill(PASSWORD)
    page.get_by_role("button", name="Set the password").click()
    assert_accessible(page)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")

    page.get_by_role("link", name="Workspaces", exact=True).click()
    page.get_by_label("Name").fill("mine")
    page.get_by_role("button", name="Create workspace").click()
    page.wait_for_url("**/pages/workspaces/mine/")
    page.get_by_label("Python script").fill("print('with the session')")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_label("Output")).to_have_text("with the session\n")
    page.get_by_label("Choose files").set_input_files({"name": "a.txt", "mimeType": "text/plain", "buffer": b"a"})
    expect(page.get_by_role("link", name="a.txt")).to_be_visible()

    page.get_by_role("link", name="Settings").click()
    page.get_by_role("link", name="Audit log").click()
    expect(page.get_by_role("row", name="create_workspace")).to_contain_text("admin")
    page.get_by_role("link", name="Configuration").click()
    expect(page.get_by_role("region", name="Set by the operator").get_by_role("row", name="auth")).to_contain_text(
        "environment"
    )
    page.get_by_role("button", name="Change the password").click()
    expect(page.get_by_label("New password")).to_be_visible()
    page.go_back()
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Log in")


@pytest.mark.slow
def test_what_is_typed_survives_the_end_of_the_session(start: Callable[..., Server], open_page: OpenPage) -> None:
    """A person logs out in another tab, and logs in there again: the first tab explains, and continues."""
    server = start(TFSERVE_AUTH="on")
    link = re.search(r"/pages/password/\?code=\S+", server.log)
    assert link, server.log
    # Logging out ends the stream of each open page.
    expected = "status of 401", "status of 403", "Response Status Error Code 401", "ERR_INCOMPLETE_CHUNKED_ENCODING"
    page = open_page(link[0], url=server.url, ignoring=expected)
    page.get_by_label("New password").fill(PASSWORD)
    page.get_by_label("The same again").fill(PASSWORD)
    page.get_by_role("button", name="Set the password").click()
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.get_by_role("link", name="Workspaces", exact=True).click()
    page.get_by_label("Name").fill("mine")
    page.get_by_role("button", name="Create workspace").click()
    page.wait_for_url("**/pages/workspaces/mine/")
    page.get_by_label("Python script").fill("print('typed for an hour')")

    other = page.context.new_page()
    other.goto(server.url)
    other.get_by_role("button", name="Log out").click()
    expect(other.get_by_role("heading", level=1)).to_have_text("Log in")
    page.get_by_label("Python script").press("Control+Enter")
    expect(page.get_by_role("alert")).to_have_text(re.compile("Your session has ended. Log in in another tab"))
    expect(page.locator("#connection")).to_have_text(re.compile("Your session has ended"), timeout=30_000)

    other.get_by_label("Password").fill(PASSWORD)
    other.get_by_role("button", name="Log in").click()
    expect(other.get_by_role("heading", level=1)).to_have_text("Overview")
    page.get_by_label("Python script").press("Control+Enter")
    expect(page.get_by_label("Output")).to_have_text("typed for an hour\n")
