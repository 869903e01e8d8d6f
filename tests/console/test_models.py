"""The pages of models in a browser: deploy, try, update, roll back, scale, undeploy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.acceptance.conftest import Server
from tests.console.conftest import OpenPage, assert_accessible
from tests.console.image_models import image_models

__all__ = ["image_models"]

Deploy = Callable[..., str]


@pytest.fixture
def deploy(server: Server, workspace: str) -> Iterator[Deploy]:
    """Deploys a model into the workspace of the test, and returns the path of its page."""

    def deploy(path: Path, **options: Any) -> str:
        job = server.call("/deploy/", name=workspace, path=str(path), timeout=120, **options)
        assert job["result"] is True, job
        return f"/pages/models/{workspace}/"

    yield deploy
    server.call("/undeploy/", name=workspace, timeout=60)


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bright square on the left of a dark image."""
    image = Image.new("RGB", (80, 60), "black")
    image.paste((255, 255, 255), (10, 20, 30, 40))
    image.save(file := tmp_path_factory.mktemp("picture") / "picture.png")
    return file


def test_the_list_shows_what_matters_of_each_model(
    server: Server, workspace: str, deploy: Deploy, models: Path, open_page: OpenPage
) -> None:
    deploy(models / "scale")
    page = open_page("/pages/models/")
    row = page.get_by_role("row").filter(has_text=workspace)
    expect(row).to_contain_text("active")
    expect(row).to_contain_text("TensorFlow")
    assert_accessible(page)
    row.get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(workspace)


def test_a_model_is_deployed_from_a_folder_on_this_computer(
    server: Server, models: Path, open_page: OpenPage, tmp_path: Path
) -> None:
    shutil.copytree(models / "scale", tmp_path / "scale")
    page = open_page("/pages/models/")
    page.get_by_label("Name of the model").fill("from a folder")
    page.get_by_role("radio", name="A folder").check()
    page.get_by_label("A SavedModel folder").set_input_files(tmp_path / "scale")
    page.get_by_role("button", name="Deploy").click()
    page.wait_for_url("**/pages/models/from%20a%20folder/", timeout=60_000)
    expect(page.locator("#part-state")).to_contain_text("active")
    server.call("/destroy_workspace/", name="from a folder")


def test_a_wrong_path_is_reported_at_the_field(open_page: OpenPage, server: Server) -> None:
    page = open_page("/pages/models/", ignoring=("status of 40",))
    page.get_by_label("Name of the model").fill("nothing")
    page.get_by_role("radio", name="On the server").check()
    page.get_by_label("Path on the server").fill("/no/such/model")
    page.get_by_role("button", name="Deploy").click()
    expect(page.get_by_role("alert")).to_be_visible()
    server.call("/destroy_workspace/", name="nothing")


@pytest.mark.parametrize("phone", [False, True])
def test_numbers_are_tried_with_the_keyboard_only(
    deploy: Deploy, models: Path, open_page: OpenPage, phone: bool
) -> None:
    page = open_page(deploy(models / "scale"), phone=phone, dark=phone)
    field = page.locator("form[data-try] textarea").first
    field.focus()
    page.keyboard.press("Control+A")
    page.keyboard.type("[[1.5, 4]]")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Response")).to_contain_text("[3, 8]")
    expect(page.locator("form[data-try] [data-answer]").first).to_contain_text("ms")
    assert_accessible(page)


def test_a_wrong_value_is_reported_at_its_field(deploy: Deploy, models: Path, open_page: OpenPage) -> None:
    page = open_page(deploy(models / "scale"))
    page.locator("form[data-try] textarea").first.fill("[[1, 2")
    page.get_by_role("button", name="Predict").first.click()
    expect(page.get_by_role("alert")).to_contain_text("must be JSON")


@pytest.mark.slow
def test_labels_of_an_image_become_bars(deploy: Deploy, image_models: Path, open_page: OpenPage, picture: Path) -> None:
    page = open_page(deploy(image_models / "labels"))
    page.locator("[data-file]").set_input_files(picture)
    expect(page.locator(".verdict")).to_have_text("dark")
    assert page.locator(".label-bars li").count() == 2
    page.locator(".sample").first.click()
    expect(page.locator(".verdict")).to_be_visible()
    assert_accessible(page)


@pytest.mark.slow
def test_an_image_is_dropped(deploy: Deploy, image_models: Path, open_page: OpenPage, picture: Path) -> None:
    page = open_page(deploy(image_models / "labels"))
    _drop(page, "[data-drop]", picture)
    expect(page.locator(".verdict")).to_have_text("dark")


@pytest.mark.slow
def test_a_mask_is_laid_over_the_image(deploy: Deploy, image_models: Path, open_page: OpenPage, picture: Path) -> None:
    page = open_page(deploy(image_models / "masks"), phone=True)
    page.locator("[data-file]").set_input_files(picture)
    expect(page.locator(".legend")).to_contain_text("class 1")
    expect(page.locator(".legend")).to_contain_text("8.3 %")
    pixel = "([x, y]) => [...document.querySelector('[data-picture]').getContext('2d').getImageData(x, y, 1, 1).data]"
    bright, dark = page.evaluate(pixel, [20, 30]), page.evaluate(pixel, [60, 30])
    assert len(set(bright[:3])) > 1, "the square is coloured"
    assert dark[:3] == [0, 0, 0]


@pytest.mark.slow
def test_boxes_are_drawn_with_their_labels(
    deploy: Deploy, image_models: Path, open_page: OpenPage, picture: Path
) -> None:
    page = open_page(deploy(image_models / "boxes"), dark=True)
    page.locator("[data-file]").set_input_files(picture)
    expect(page.locator(".verdict")).to_have_text("1 object")
    box = page.locator(".picture svg rect")
    assert [float(box.get_attribute(name) or "") for name in ("x", "y", "width", "height")] == [10, 20, 20, 20]
    expect(page.locator(".picture svg text")).to_contain_text("lamp 90 %")


@pytest.mark.slow
def test_what_is_no_image_is_reported(deploy: Deploy, image_models: Path, open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page(deploy(image_models / "labels"), ignoring=("status of 400",))
    (tmp_path / "no.png").write_bytes(b"no image")
    page.locator("[data-file]").set_input_files(tmp_path / "no.png")
    expect(page.locator("[data-try-image] [role=alert]")).to_be_visible()


def test_the_camera_is_allowed_on_the_page_of_a_model_only(server: Server, deploy: Deploy, models: Path) -> None:
    path = deploy(models / "scale")
    assert "camera=(self)" in server.http.get(path).headers["Permissions-Policy"]
    assert "camera=()" in server.http.get("/pages/models/").headers["Permissions-Policy"]


@pytest.mark.slow
def test_a_model_is_updated_and_rolled_back(
    server: Server, workspace: str, deploy: Deploy, models: Path, open_page: OpenPage
) -> None:
    page = open_page(deploy(models / "scale"))
    page.get_by_label("Path of the new version").fill(str(models / "deep"))
    page.get_by_role("button", name="Update").click()
    expect(page.locator("#feedback")).to_contain_text("The new version serves.", timeout=60_000)
    back = page.get_by_role("button", name="Roll back to version")
    back.first.click()
    page.get_by_role("dialog").get_by_role("button", name="Roll back").click()
    expect(page.locator("#feedback")).to_contain_text("serves again", timeout=60_000)
    assert server.call("/get_status/", name=workspace)["deployment"]["path"] == str(models / "scale")


@pytest.mark.slow
def test_an_update_that_fails_is_reported_and_the_old_version_serves(
    server: Server, workspace: str, deploy: Deploy, models: Path, open_page: OpenPage
) -> None:
    page = open_page(deploy(models / "scale"), ignoring=("status of 4",))
    page.get_by_label("Path of the new version").fill(str(models / "abort_at_once"))
    page.get_by_role("button", name="Update").click()
    expect(page.get_by_role("alert")).to_be_visible(timeout=60_000)
    answer = server.http.post(f"/v1/models/{workspace}:predict", json={"instances": [[1, 2]]})
    assert answer.json() == {"predictions": [[2.0, 4.0]]}


@pytest.mark.slow
def test_a_model_is_scaled_and_undeployed_once_confirmed(
    server: Server, workspace: str, deploy: Deploy, models: Path, open_page: OpenPage
) -> None:
    page = open_page(deploy(models / "scale"), phone=True)
    page.get_by_label("Processes that serve the model").fill("2")
    page.get_by_role("button", name="Scale", exact=True).click()
    expect(page.locator("#feedback")).to_contain_text("Scaled.", timeout=60_000)
    page.get_by_role("button", name="Undeploy").click()
    page.get_by_role("dialog").get_by_role("button", name="Back").click()
    assert server.call("/get_status/", name=workspace)["deployment"] is not None
    page.get_by_role("button", name="Undeploy").click()
    page.get_by_role("dialog").get_by_role("button", name="Undeploy").click()
    page.wait_for_url("**/pages/models/", timeout=60_000)
    assert server.call("/get_status/", name=workspace)["deployment"] is None


@pytest.mark.slow
def test_traffic_is_drawn_from_the_counters(
    server: Server, workspace: str, deploy: Deploy, models: Path, open_page: OpenPage
) -> None:
    page = open_page(deploy(models / "scale"))
    for _ in range(20):
        server.http.post(f"/v1/models/{workspace}:predict", json={"instances": [[1, 2], [3, 4]]})
    expect(page.locator("#traffic")).to_contain_text("20 requests", timeout=20_000)
    expect(page.locator(".spark polyline").first).to_be_attached(timeout=20_000)


def test_a_program_is_chosen_with_the_keyboard_and_copied(deploy: Deploy, models: Path, open_page: OpenPage) -> None:
    page = open_page(deploy(models / "scale"))
    page.get_by_role("tab", name="v1", exact=True).focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="v2", exact=True)).to_be_focused()
    page.locator("#usage-v2").get_by_role("tab", name="PHP").click()
    page.get_by_role("button", name="Copy the PHP program").click()
    expect(page.locator("#feedback")).to_have_text("Copied.")
    assert "/v2/models/" in page.evaluate("navigator.clipboard.readText()")


def test_the_page_is_readable_without_scripts(server: Server, deploy: Deploy, models: Path) -> None:
    page = server.http.get(deploy(models / "scale")).text
    for text in ("active", "serving_default", "Requests per second", "import os, urllib.request"):
        assert text in page
    assert "style=" not in page
    assert server.http.get("/pages/models/nothing/").status_code == 404


def _drop(page: Page, selector: str, file: Path) -> None:
    """Drops a file as a person does with the mouse."""
    script = """([selector, name, bytes]) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], name, {type: 'image/png'}));
        document.querySelector(selector).dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true}));
    }"""
    page.evaluate(script, [selector, file.name, json.loads(json.dumps(list(file.read_bytes())))])
