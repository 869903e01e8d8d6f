"""What goes wrong for people who work with the console for a while: live updates, double clicks, other browsers."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import expect

from tests.acceptance.conftest import Server
from tests.console.conftest import OpenPage, assert_accessible
from tests.console.image_models import image_models
from tests.protocols import echo

__all__ = ["image_models"]

HOUR_S = 3600


@pytest.fixture
def model(server: Server, workspace: str) -> Iterator[str]:
    """An echo model, deployed into the workspace of the test."""
    server.call("/deploy/", name=workspace, path=str(echo.write(server.roots / "people.echo")), timeout=60)
    yield workspace
    server.call("/undeploy/", name=workspace, timeout=60)


@pytest.mark.slow
def test_an_arrow_moves_by_one_tab_also_after_live_updates(server: Server, model: str, open_page: OpenPage) -> None:
    page = open_page(f"/pages/models/{model}/")
    page.get_by_role("tab", name="v2", exact=True).click()
    for number in (1, 2, 3):
        server.http.post(f"/v1/models/{model}:predict", json={"instances": [[1, 2, 3]]})
        expect(page.locator("#traffic")).to_contain_text(f"{number} request", timeout=20_000)
    expect(page.get_by_role("tab", name="v2", exact=True)).to_have_attribute("aria-selected", "true")
    page.locator("#usage-v2").get_by_role("tab", name="curl").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#usage-v2").get_by_role("tab", name="Python")).to_be_focused()
    page.keyboard.press("End")
    expect(page.locator("#usage-v2").get_by_role("tab", name="PHP")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#usage-v2").get_by_role("tab", name="curl")).to_be_focused()
    expect(page.locator("#usage-v2 [role=tabpanel]:not([hidden])")).to_have_count(1)


def test_a_new_row_does_not_get_the_time_of_its_neighbour(
    server: Server, workspace: str, open_page: OpenPage, tmp_path: Path
) -> None:
    for name in ("b.txt", "c.txt"):
        server.http.put(f"/workspaces/{quote(workspace)}/files/{name}", content=b"old")
        file = next((server.data_dir / "workspaces").glob(f"*/files/{name}"))
        os.utime(file, (time.time() - HOUR_S, time.time() - HOUR_S))
    page = open_page(f"/pages/workspaces/{quote(workspace)}/")
    files = page.get_by_role("region", name="Files")
    expect(files.get_by_role("row", name="b.txt")).to_contain_text("1 h ago")
    (tmp_path / "a.txt").write_text("new")
    page.get_by_label("Choose files").set_input_files(tmp_path / "a.txt")
    expect(files.get_by_role("row", name="a.txt")).to_contain_text("just now")
    for name in ("b.txt", "c.txt"):
        expect(files.get_by_role("row", name=name)).to_contain_text("1 h ago")


@pytest.mark.slow
def test_a_double_click_acts_once(server: Server, workspace: str, open_page: OpenPage) -> None:
    page = open_page(f"/pages/workspaces/{quote(workspace)}/")
    page.get_by_label("Python script").fill("print('once')")
    page.get_by_role("button", name="Run", exact=True).dblclick()
    expect(page.get_by_label("Output")).to_have_text("once\n")
    assert server.http.get("/jobs/", params={"name": workspace}).json()["result"]["total"] == 1


def test_a_program_is_copied_where_the_browser_has_no_clipboard(model: str, open_page: OpenPage) -> None:
    """On an address with http:// that is not localhost."""
    page = open_page(f"/pages/models/{model}/")
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
    page.get_by_role("button", name="Copy the curl program").first.click()
    expect(page.locator("#feedback")).to_have_text("Copied.")
    field = page.get_by_label("Path of the new version")
    field.focus()
    page.keyboard.press("Control+V")
    assert "curl" in field.input_value()


@pytest.mark.slow
def test_a_file_that_is_no_model_is_reported_where_it_is_seen(
    server: Server, workspace: str, open_page: OpenPage, tmp_path: Path
) -> None:
    (tmp_path / "no.onnx").write_bytes(b"no model")
    page = open_page("/pages/models/", ignoring=("status of 40",))
    page.get_by_label("Name of the model").fill(workspace)
    page.get_by_label("A model file").set_input_files(tmp_path / "no.onnx")
    page.get_by_role("button", name="Deploy", exact=True).click()
    expect(page.get_by_role("alert")).to_be_visible(timeout=30_000)


@pytest.mark.slow
def test_a_picture_of_the_camera_is_classified_with_the_keyboard_only(
    server: Server, workspace: str, image_models: Path, open_page: OpenPage
) -> None:
    job = server.call("/deploy/", name=workspace, path=str(image_models / "labels"), timeout=120)
    assert job["result"] is True, job
    page = open_page(f"/pages/models/{workspace}/")
    camera = page.get_by_role("button", name="Use the camera")
    camera.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Use this picture")).to_be_focused()
    page.wait_for_function("document.querySelector('video').videoWidth > 0")
    assert_accessible(page)
    page.keyboard.press("Space")
    expect(page.locator(".verdict")).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(camera).to_be_focused()
    expect(page.locator("video")).to_be_hidden()
    server.call("/undeploy/", name=workspace, timeout=60)


@pytest.mark.slow
def test_a_model_with_odd_inputs_is_tried(server: Server, workspace: str, open_page: OpenPage) -> None:
    """Its inputs are named like members of a form, and in the other signature there are too many for fields."""
    odd = {name: {"dtype": "float32", "shape": [-1, 2]} for name in ("elements", "dataset", "a.b", "name")}
    many = {f"x{number}": {"dtype": "float32", "shape": [-1]} for number in range(40)}
    file = server.roots / "odd.echo"
    file.write_text(json.dumps({"signatures": {"serving_default": odd, "many": many}}))
    server.call("/deploy/", name=workspace, path=str(file), timeout=60)
    page = open_page(f"/pages/models/{workspace}/", ignoring=("status of 400",))
    form = page.locator("form[data-signature=serving_default]")
    form.get_by_label("a.b").fill("[[1, 2")
    form.get_by_role("button", name="Predict").click()
    expect(form.get_by_label("a.b")).to_have_attribute("aria-invalid", "true")
    form.get_by_label("a.b").fill("[[7, 2]]")
    form.get_by_role("button", name="Predict").click()
    expect(form.get_by_label("Response")).to_contain_text("7")
    page.locator("#form-many summary").click()
    form = page.locator("#form-many form")
    form.get_by_role("button", name="Predict").click()
    expect(form.get_by_label("Response")).to_contain_text('"x39"')
    assert_accessible(page)
    server.call("/undeploy/", name=workspace, timeout=60)


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_the_reference_is_accessible(open_page: OpenPage, dark: bool) -> None:
    page = open_page("/docs", dark=dark)
    expect(page.locator(".opblock").first).to_be_visible(timeout=20_000)
    assert_accessible(page)
