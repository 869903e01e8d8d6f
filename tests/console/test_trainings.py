"""The pages of trainings in a browser: check images, train, watch, stop, resume, and study the result."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.acceptance.conftest import Server
from tests.acceptance.training_calls import begin, finished, in_epoch, mask_project
from tests.box_project import LEARNT_IN, SIDE, box_project
from tests.console.conftest import OpenPage, assert_accessible

LONG = {"epochs": 300, "patience": 300, "exports": "saved_model", "backbone": "compact", "effort": "fast"}
TRAINING_S = 150_000


@pytest.fixture(scope="module")
def project(server: Server, digits: Path) -> Path:
    """A copy of the digits below the roots of the server."""
    return Path(shutil.copytree(digits, server.roots / "projects" / "digits"))


@pytest.fixture(scope="module")
def result(server: Server, project: Path) -> Any:
    """A finished task, the second of its project."""
    for _ in range(2):
        task = begin(server, project, {"epochs": 2}, projectId="digits of people", userId="ada")
        ended = finished(server, task["taskId"])
        assert ended["state"] == "done", ended
    return ended


def fill_names(page: Page) -> None:
    page.get_by_label("Name of the project").fill("from the page")


def test_the_problems_of_a_project_are_shown_before_the_training(
    server: Server, open_page: OpenPage, digits: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "broken"
    for name in ("Digit_1", "Digit_2"):
        shutil.copytree(digits / "images" / name, folder / name)
    (folder / "Digit_1" / "torn.png").write_bytes((folder / "Digit_1" / "0.png").read_bytes()[:60])
    (folder / "Digit_3").mkdir()
    shutil.copy(digits / "images" / "Digit_3" / "0.png", folder / "Digit_3")
    page = open_page("/pages/trainings/new/", phone=True)
    page.locator("[data-folder]").set_input_files(folder)
    found = page.locator("[data-findings]")
    expect(found.locator(".problems")).to_have_text(re.compile("^Digit_3 has only 1 usable image"), timeout=30_000)
    expect(found.locator(".left-out")).to_contain_text("torn.png")
    expect(found.locator(".gallery img").first).to_be_attached()
    assert page.evaluate("[...document.querySelectorAll('[data-findings] img')].every((each) => each.src)")
    assert_accessible(page)


def test_a_refused_start_is_reported_at_the_field(open_page: OpenPage) -> None:
    page = open_page("/pages/trainings/new/", ignoring=("status of 40",))
    fill_names(page)
    page.get_by_role("button", name="Start training").click()
    expect(page.get_by_role("alert")).to_contain_text("Drop folders of images")
    page.get_by_label("Or a folder on the server").fill("/etc")
    page.get_by_role("button", name="Start training").click()
    expect(page.get_by_role("alert")).to_contain_text("/etc")


def test_each_train_type_has_its_parameters(open_page: OpenPage) -> None:
    page = open_page("/pages/trainings/new/", dark=True)
    expect(page.get_by_label("Effort").first).to_be_visible()
    page.get_by_role("radio", name="Find objects").check()
    page.locator("[data-parameters=detection]").get_by_text("All parameters").click()
    expect(page.locator("[data-parameters=detection] [data-parameter=mosaic]")).to_be_checked()
    expect(page.locator("[data-parameters=classification]")).to_be_hidden()
    assert_accessible(page)


@pytest.mark.slow
def test_dropped_folders_become_a_model_that_answers(
    server: Server, open_page: OpenPage, digits: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(digits / "images", tmp_path / "my digits"))
    page = open_page("/pages/trainings/new/")
    page.locator("[data-folder]").set_input_files(folder)
    expect(page.locator(".found")).to_contain_text("300 usable images in 10 classes", timeout=30_000)
    expect(page.get_by_label("Name of the project")).to_have_value("my digits")
    parameters = page.locator("[data-parameters=classification]")
    parameters.get_by_label("Effort").select_option("fast")
    parameters.get_by_label("Backbone").select_option("compact")
    parameters.get_by_label("Epochs").fill("3")
    parameters.get_by_text("All parameters").click()
    parameters.locator("[data-parameter=exports]").select_option("saved_model")
    page.get_by_role("button", name="Start training").click()
    page.wait_for_url(re.compile(r"/pages/trainings/\w{16}/"), timeout=30_000)
    expect(page.locator(".status progress")).to_be_visible()
    expect(page.get_by_role("button", name="Deploy and try it")).to_be_visible(timeout=TRAINING_S)
    task = server.http.get("/tasks/").json()["tasks"][0]
    assert task["dataset"]["images"] == 300
    page.get_by_label("Name of the model").fill("my-digits")
    page.get_by_role("button", name="Deploy and try it").click()
    page.wait_for_url("**/pages/models/my-digits/", timeout=60_000)
    page.locator("[data-file]").set_input_files(folder / "Digit_4" / "0.png")
    expect(page.locator(".verdict")).to_contain_text("Digit", timeout=30_000)
    server.call("/destroy_workspace/", name="my-digits")


@pytest.fixture
def running(server: Server, project: Path) -> Iterator[str]:
    """A task that takes long."""
    task_id = begin(server, project, LONG)["taskId"]
    yield task_id
    server.http.post(f"/tasks/{task_id}/cancel")


@pytest.mark.slow
def test_a_running_training_is_watched_stopped_and_resumed(server: Server, running: str, open_page: OpenPage) -> None:
    page = open_page(f"/pages/trainings/{running}/", phone=True)
    in_epoch(server, running, 2)
    expect(page.locator(".chart polyline").first).to_be_attached(timeout=30_000)
    expect(page.locator("#part-status")).to_contain_text("left, including the exports")
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(page.locator("#part-status")).to_contain_text("cancelled", timeout=30_000)
    assert_accessible(page)
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("button", name="Stop and keep the best")).to_be_visible(timeout=30_000)
    in_epoch(server, running, 3)
    assert "Continues after epoch" in server.http.get(f"/tasks/{running}/output").text
    page.get_by_role("button", name="Stop and keep the best").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#feedback")).to_contain_text("delivers the best model so far")
    assert finished(server, running)["state"] == "done"


@pytest.mark.slow
@pytest.mark.parametrize("phone", [False, True])
def test_the_result_of_a_training_is_explained(result: Any, open_page: OpenPage, phone: bool) -> None:
    page = open_page(f"/pages/trainings/{result['taskId']}/", phone=phone, dark=phone)
    for name in ("Quality of each class", "What is confused with what", "Can its percentages", "Files of the model"):
        expect(page.get_by_role("heading", name=name)).to_be_visible()
    expect(page.locator("#part-status")).to_contain_text(f"{result['metrics']['accuracy']:.0%}".replace("%", " %"))
    expect(page.locator("#part-exports")).to_contain_text("MiB")
    expect(page.locator("#part-compare")).to_contain_text("this run")
    page.get_by_text("Everything about this model").click()
    expect(page.locator(".readme h1")).to_contain_text("Classification of digits")
    assert_accessible(page)


@pytest.mark.slow
def test_a_cell_of_the_confusion_matrix_opens_its_images_with_the_keyboard(result: Any, open_page: OpenPage) -> None:
    page = open_page(f"/pages/trainings/{result['taskId']}/")
    cell = page.locator(".matrix td a").first
    count = int(cell.inner_text())
    cell.focus()
    page.keyboard.press("Enter")
    images = page.locator("#cell .gallery img")
    expect(images).to_have_count(min(count, 60))
    expect(images.first).to_have_js_property("naturalWidth", 28)


@pytest.mark.slow
def test_trainings_are_found_by_words_and_state(result: Any, server: Server, open_page: OpenPage) -> None:
    page = open_page("/pages/trainings/")
    page.get_by_label("Search").fill("people")
    page.get_by_label("State").select_option("done")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("row")).to_have_count(3)
    assert_accessible(page)
    page.get_by_label("Search").fill("nothing like this")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#part-list")).to_contain_text("No training matches.")


@pytest.mark.slow
@pytest.mark.long
def test_predicted_masks_lie_over_the_images(server: Server, open_page: OpenPage) -> None:
    folder = mask_project(server.roots / "projects" / "masks")
    task = begin(server, folder, {"epochs": 2}, trainType="segmentation")
    assert finished(server, task["taskId"])["state"] == "done"
    page = open_page(f"/pages/trainings/{task['taskId']}/")
    expect(page.locator(".mask-examples li").first).to_contain_text("IoU")
    layers = page.locator(".mask-examples li").first.locator("img")
    expect(layers).to_have_count(4)
    layers.first.scroll_into_view_if_needed()
    for index in range(4):
        expect(layers.nth(index)).to_have_js_property("naturalWidth", 40)
    assert_accessible(page)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1500)
def test_boxes_of_a_detection_are_drawn_on_its_page_and_over_an_image_that_is_tried(
    server: Server, open_page: OpenPage
) -> None:
    folder = box_project(server.roots / "projects" / "boxes")
    chosen = {**LEARNT_IN, "epochs": 15, "exports": "saved_model"}
    task = begin(server, folder, chosen, trainType="detection", projectId="boxes")
    ended = finished(server, task["taskId"], 1400)
    assert ended["state"] == "done", ended
    page = open_page(f"/pages/trainings/{task['taskId']}/")
    first = page.locator(".box-examples li").first
    first.scroll_into_view_if_needed()
    expect(first.locator("img")).to_have_js_property("naturalWidth", SIDE)
    expect(first.locator("svg")).to_have_attribute("viewBox", f"0 0 {SIDE} {SIDE}")
    assert page.locator(".box-examples rect:is(.true, .missed)").count() >= 2
    assert page.locator(".box-examples rect.right").count() >= 2
    expect(page.get_by_alt_text("Plot: boxes")).to_have_count(0)
    assert_accessible(page)
    page.get_by_label("Name of the model").fill("boxes")
    page.get_by_role("button", name="Deploy and try it").click()
    page.wait_for_url("**/pages/models/boxes/", timeout=60_000)
    page.locator("[data-file]").set_input_files(folder / "images" / "03.png")
    expect(page.locator(".verdict")).to_contain_text("object", timeout=30_000)
    drawn = page.locator("[data-result] svg rect")
    expect(drawn.first).to_be_visible()
    assert drawn.count() == page.locator(".label-bars li").count()
    canvas, box = page.locator("[data-picture]").bounding_box(), drawn.first.bounding_box()
    assert canvas is not None
    assert box is not None
    assert canvas["x"] - 2 <= box["x"] < canvas["x"] + canvas["width"], "over the picture"
    assert_accessible(page)
    server.call("/destroy_workspace/", name="boxes")


def test_thumbnails_stay_inside_of_the_project(server: Server, project: Path) -> None:
    query = {"projectDir": str(project)}
    good = server.http.get("/training/thumbnails/images/Digit_1/0.png", params=query)
    assert good.headers["Content-Type"] == "image/webp"
    assert good.content[8:12] == b"WEBP"
    for path in ("%2e%2e/x.png", "/etc/passwd", "images/none.png", "labels_info.txt", "images"):
        assert server.http.get(f"/training/thumbnails/{path}", params=query).status_code == 404, path
    grey = server.http.get("/training/thumbnails/none.png", params=query | {"placeholder": "true"})
    assert grey.status_code == 200
    assert server.http.get("/training/thumbnails/none.png").status_code == 400


def test_a_check_reports_what_a_training_would_refuse(server: Server, tmp_path: Path) -> None:
    empty = server.roots / "projects" / "empty"
    empty.mkdir(parents=True, exist_ok=True)
    found = server.http.post("/training/check/", json={"projectDir": str(empty), "trainType": "classification"})
    assert found.status_code == 200
    assert found.json()["problems"]
    refused = server.http.post("/tasks/", json={"projectDir": str(empty), "trainType": "classification",
                                                "userId": "a", "projectId": "b"})  # fmt: skip
    assert refused.status_code == 400
    wrong = server.http.post("/training/check/", json={"projectDir": str(empty), "trainType": "poetry"})
    assert wrong.status_code == 400
