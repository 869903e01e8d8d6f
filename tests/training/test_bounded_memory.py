"""What a run holds in memory of very large images, and of many images without a label."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from layout_projects import blocks, palette_mask
from PIL import Image
from projects import digit_project, noise

from tfserve.training.dataset.examine import examine
from tfserve.training.fit import segmentation_material
from tfserve.training.fit.earlier_models import Earlier, Learnt
from tfserve.training.fit.segmentation_material import bounded_file, bounded_size, measured_mask
from tfserve.training.fit.timing import Clock
from tfserve.training.fit.warm_start import WarmStart
from tfserve.training.progress import Reporter
from tfserve.training.recipes.run import RecipeRun
from tfserve.training.report import image_reports


def run_of(project: Path, kind: str, **chosen: Any) -> RecipeRun:
    found = examine(str(project), kind, {"threads": 2}, work=project.parent / "derived")
    assert found.problems == []
    aside, reporter = project.parent / "aside", Reporter(1, lambda _: None)
    aside.mkdir()
    parameters = {"background": "white", "unlabelled": "auto", "explain": False, **chosen}
    return RecipeRun(
        "t1", project, found, parameters, project.parent, aside, project / "models" / "t1", reporter, Clock(reporter),
        "f",
    )  # fmt: skip


@pytest.fixture
def strips(tmp_path: Path) -> RecipeRun:
    """Masks of images that are one pixel high, and of ordinary ones."""
    project = tmp_path / "project"
    for number, (width, height) in enumerate([(5000, 1), (40, 30), (32, 24), (30, 30)]):
        image = project / "images" / f"{number}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        noise(number).resize((width, height)).save(image)
        palette_mask(project / "labels" / f"{number}.png", blocks(0, 1, size=(height, width)))
    return run_of(project, "segmentation")


def test_a_mask_of_one_line_of_pixels_is_measured(strips: RecipeRun) -> None:
    sizes = {strips.name(index): measured_mask(strips, index).shape for index in range(4)}
    assert sizes["images/0.png"] == (1, 1024)
    assert sizes["images/1.png"] == (30, 40)


@pytest.mark.parametrize(("height", "width", "classes"), [(4000, 6000, 21), (1, 90_000_000, 32), (60, 80, 2)])
def test_probabilities_are_bounded_whatever_the_image(height: int, width: int, classes: int) -> None:
    size = bounded_size(height, width, classes)
    assert min(size) >= 1
    assert size[0] * size[1] * classes <= max(segmentation_material.MOST_PROBABILITIES, width * classes)
    assert bounded_size(60, 80, 2) == (60, 80)
    assert bounded_size(4000, 6000, 21)[0] < 800


def test_exports_are_tried_on_smaller_files_of_very_large_images(
    strips: RecipeRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(segmentation_material, "MOST_PROBABILITIES", 2 * 24 * 32)
    sizes = {}
    for index in range(4):
        (tmp_path / "tried").write_bytes(bounded_file(strips, index))
        with Image.open(tmp_path / "tried") as image:
            sizes[strips.name(index)] = image.size
    assert sizes["images/2.png"] == (32, 24)
    assert bounded_file(strips, [*sizes].index("images/2.png")) == strips.data([*sizes].index("images/2.png"))
    assert sizes["images/1.png"] == (32, 24)
    assert sizes["images/0.png"][1] == 1


def test_unlabelled_images_are_predicted_in_batches_and_only_those_shown_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = digit_project(tmp_path / "project", classes=2, per_class=4)
    (project / "unlabelled").mkdir()
    for number in range(9):
        Image.new("RGB", (16, 16), (number * 20,) * 3).save(project / "unlabelled" / f"{number}.png")
    (project / "unlabelled" / "3.png").write_bytes(b"no image")
    run = run_of(project, "classification", network_size=[16, 16])
    monkeypatch.setattr(image_reports, "MOST_AT_ONCE", 4)
    batches = []

    def network(images: np.ndarray, *, training: bool) -> np.ndarray:
        batches.append(len(images))
        light = images.mean(axis=(1, 2, 3)) / 255
        return np.stack([light, 1 - light], axis=1)

    delivered: Any = SimpleNamespace(network=network)
    image_reports.write(run, delivered, np.arange(2), np.array([0, 1]), np.eye(2))
    assert batches == [3, 4, 1]
    with (run.aside / "label_next.csv").open() as opened:
        rows = list(csv.DictReader(opened))
    assert len(rows) == 8
    assert {Path(next(iter(row.values()))).name for row in rows} == {f"{n}.png" for n in range(9) if n != 3}
    assert (run.aside / "plots" / "label_next.png").is_file()
    assert image_reports._at_once((1024, 1024)) < 4
    assert image_reports._at_once((9000, 9000)) == 1


def test_the_verdict_says_which_measured_images_an_earlier_model_knew(tmp_path: Path) -> None:
    run = run_of(digit_project(tmp_path / "project", classes=2, per_class=4), "classification")
    assert run.conclude("good", [0, 1], [2, 3], "efficientnet-lite0") == "good"
    known = Learnt([image.digest for image in run.findings.images])
    labels = run.findings.labels
    earlier = Earlier(tmp_path / "t0", "classification", "efficientnet-lite0", labels, labels, known)
    run.warm = WarmStart(earlier, run.findings)
    said = run.conclude("good", [0, 1], [2, 3], "efficientnet-lite0")
    assert said == "good, but task t0, from which it started, was trained on 2 of the 2 measured images"
    assert f"Verdict: {said}." in run.notes
