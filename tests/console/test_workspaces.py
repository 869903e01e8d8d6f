"""Workspaces in a browser: found, created, worked with, restarted and destroyed."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from tests.acceptance.conftest import Server
from tests.console.conftest import OpenPage, assert_accessible
from tests.console.test_overview import looks


def page_of(name: str) -> str:
    return f"/pages/workspaces/{quote(name)}/"


def run(page: Page, script: str) -> None:
    page.get_by_label("Python script").fill(script)
    page.keyboard.press("Control+Enter")


def test_a_workspace_is_created_and_destroyed(server: Server, open_page: OpenPage) -> None:
    page = open_page("/pages/workspaces/")
    page.get_by_role("link", name="New workspace").click()
    page.get_by_label("Name").fill("made here")
    page.get_by_label("a thread of a shared process").check()
    page.get_by_role("button", name="Create workspace").click()
    page.wait_for_url(f"**{page_of('made here')}")
    assert server.call("/get_status/", name="made here")["type"] == 1
    page.get_by_role("button", name="Destroy").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("can't be undone")
    dialog.get_by_role("button", name="Back").click()
    assert "made here" in server.call("/get_workspace/")
    page.get_by_role("button", name="Destroy").click()
    dialog.get_by_role("button", name="Destroy").click()
    page.wait_for_url("**/pages/workspaces/")
    assert "made here" not in server.call("/get_workspace/")


@pytest.mark.slow
def test_a_refused_name_is_explained_at_its_field(workspace: str, open_page: OpenPage) -> None:
    page = open_page("/pages/workspaces/", ignoring=("status of 400", "status of 409"))
    name = page.get_by_label("Name")
    for refused in (workspace, "a/b"):
        name.fill(refused)
        page.get_by_role("button", name="Create workspace").click()
        expect(page.get_by_role("alert")).to_contain_text(refused)
        assert name.input_value() == refused, "what was typed is kept"
    expect(name).to_have_attribute("aria-invalid", "true")


@pytest.mark.slow
def test_workspaces_are_found_by_name_and_state(server: Server, open_page: OpenPage) -> None:
    for name in ("needle in a haystack", "hay"):
        server.call("/create_workspace/", name=name)
    server.run("hay", "import threading; threading.Event().wait(60)", timeout=0)
    page = open_page("/pages/workspaces/")
    page.get_by_role("searchbox").fill("NEEDLE")
    page.keyboard.press("Enter")
    expect(page.get_by_role("row")).to_have_count(2)
    expect(page.get_by_role("link", name="needle in a haystack")).to_be_visible()
    page.goto(f"{server.url}/pages/workspaces/")
    page.get_by_role("navigation", name="State").get_by_role("link", name="Busy").click()
    expect(page.get_by_role("link", name="hay", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="needle in a haystack")).to_have_count(0)
    for name in ("needle in a haystack", "hay"):
        server.call("/destroy_workspace/", name=name)


@looks
def test_a_script_runs_in_the_console(workspace: str, open_page: OpenPage, look: dict) -> None:
    page = open_page(page_of(workspace), **look)
    run(page, "print('first line')\nx = [[1, 2], [3, 4]]")
    entry = page.get_by_role("article").first
    expect(entry.get_by_label("Output")).to_have_text("first line\n")
    expect(entry.locator("[data-state]")).to_have_text("succeeded")
    expect(entry.get_by_role("button", name="Cancel")).to_be_hidden()
    row = page.get_by_role("region", name="Variables").get_by_role("row", name="x")
    expect(row).to_contain_text("list")
    expect(row).to_contain_text("[[1,2],[3,4]]")
    assert_accessible(page)


@pytest.mark.slow
def test_the_scripts_of_the_session_are_kept(workspace: str, open_page: OpenPage) -> None:
    page = open_page(page_of(workspace))
    run(page, "print('one')")
    expect(page.get_by_label("Output")).to_have_text("one\n")
    run(page, "1 / 0")
    expect(page.get_by_role("article").first).to_contain_text("ZeroDivisionError")
    page.reload()
    expect(page.get_by_role("article")).to_have_count(2)
    expect(page.get_by_role("article").last.get_by_label("Output")).to_have_text("one\n")
    box = page.get_by_label("Python script")
    box.focus()
    page.keyboard.press("Alt+ArrowUp")
    expect(box).to_have_value("1 / 0")
    page.keyboard.press("Alt+ArrowUp")
    expect(box).to_have_value("print('one')")
    page.keyboard.press("Alt+ArrowDown")
    expect(box).to_have_value("1 / 0")


@pytest.mark.slow
def test_a_script_is_cancelled_from_the_console(workspace: str, open_page: OpenPage) -> None:
    page = open_page(page_of(workspace))
    run(page, "import threading\nprint('begun', flush=True)\nthreading.Event().wait(60)")
    expect(page.get_by_label("Output")).to_have_text("begun\n")
    page.get_by_role("article").get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("article").locator("[data-state]")).to_have_text("cancelled")


@pytest.mark.slow
def test_variables_are_set_and_deleted(server: Server, workspace: str, open_page: OpenPage) -> None:
    page = open_page(page_of(workspace))
    variables = page.get_by_role("region", name="Variables")
    page.get_by_text("Set a variable").click()
    variables.get_by_label("Name").fill("rates")
    variables.get_by_label("Value").fill("[0.1, 0.2]")
    variables.get_by_role("button", name="Set", exact=True).click()
    expect(variables.get_by_role("row", name="rates")).to_contain_text("[0.1,0.2]")
    assert server.call("/get_variable/", name=workspace, variable="rates") == {"rates": [0.1, 0.2]}
    variables.get_by_label("Value").fill("1 +")
    variables.get_by_label("Name").fill("rates")
    variables.get_by_role("button", name="Set", exact=True).click()
    expect(variables.get_by_role("alert")).to_contain_text("invalid syntax")
    variables.get_by_label("Name").fill("grid")
    variables.get_by_label("Value").fill("__import__('numpy').zeros((2, 3), 'f4')")
    variables.get_by_role("button", name="Set", exact=True).click()
    expect(variables.get_by_role("row", name="grid")).to_contain_text("ndarray float32")
    expect(variables.get_by_role("row", name="grid")).to_contain_text("2 × 3")
    variables.get_by_role("button", name="Delete rates").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(variables.get_by_role("row", name="rates")).to_have_count(0)


def test_files_are_uploaded_downloaded_and_deleted(
    server: Server, workspace: str, open_page: OpenPage, tmp_path: Path
) -> None:
    name = "räksmörgås & #1.csv"
    (tmp_path / name).write_bytes(b"a,b\n1,2\n")
    page = open_page(page_of(workspace))
    files = page.get_by_role("region", name="Files")
    page.get_by_label("Choose files").set_input_files(tmp_path / name)
    link = files.get_by_role("link", name=name)
    expect(link).to_be_visible()
    with page.expect_download() as download:
        link.click()
    assert Path(download.value.path()).read_bytes() == b"a,b\n1,2\n"
    server.http.put(f"/workspaces/{quote(workspace)}/files/inner/two.txt", content=b"2")
    page.reload()
    files.get_by_role("link", name="inner/").click()
    expect(files.get_by_role("link", name="two.txt")).to_be_visible()
    files.get_by_role("link", name="folder above").click()
    for each in (name, "inner"):
        files.get_by_role("button", name=f"Delete {each}").click()
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        expect(files.get_by_role("button", name=f"Delete {each}")).to_have_count(0)


@pytest.mark.slow
def test_files_are_dropped(server: Server, workspace: str, open_page: OpenPage) -> None:
    page = open_page(page_of(workspace))
    data = page.evaluate_handle(
        "() => { const data = new DataTransfer(); data.items.add(new File(['dropped'], 'dropped.txt')); return data; }"
    )
    page.dispatch_event("#upload-files", "drop", {"dataTransfer": data})
    expect(page.get_by_role("link", name="dropped.txt")).to_be_visible()
    assert server.http.get(f"/workspaces/{quote(workspace)}/files/dropped.txt").text == "dropped"


@pytest.mark.slow
def test_a_workspace_is_restarted(server: Server, workspace: str, open_page: OpenPage) -> None:
    server.run(workspace, "x = 1")
    page = open_page(page_of(workspace))
    variable = page.get_by_role("region", name="Variables").get_by_role("row", name="x")
    expect(variable).to_be_visible()
    page.get_by_role("button", name="Restart").click()
    page.get_by_role("dialog").get_by_role("button", name="Restart").click()
    expect(variable).to_have_count(0)
    assert server.call("/get_variable/", name=workspace) == {}


@pytest.mark.slow
def test_a_workspace_is_used_with_the_keyboard_only(server: Server, open_page: OpenPage) -> None:
    page = open_page("/pages/workspaces/")
    focus(page, "Name")
    page.keyboard.type("by keyboard")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{page_of('by keyboard')}")
    focus(page, "Python script")
    page.keyboard.type("print(6 * 7)")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_label("Output")).to_have_text("42\n")
    focus(page, "Destroy", back=True)
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url("**/pages/workspaces/")
    assert "by keyboard" not in server.call("/get_workspace/")


def focus(page: Page, label: str, *, back: bool = False) -> None:
    """Presses Tab until the control with this label, or text, has the focus."""
    for _ in range(60):
        page.keyboard.press("Shift+Tab" if back else "Tab")
        named = page.evaluate(
            "() => { const e = document.activeElement;"
            " return e.getAttribute('aria-label') || e.labels?.[0]?.innerText || e.innerText; }"
        )
        if str(named).strip().startswith(label):
            return
    pytest.fail(f"Tab does not reach {label!r}")


def test_the_page_of_an_unknown_workspace_is_404(server: Server) -> None:
    response = server.http.get("/pages/workspaces/nothing/", headers={"Accept": "text/html"})
    assert response.status_code == 404
