"""Which of the steps that an earlier attempt has kept a run uses again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from layout_projects import blocks, palette_mask, pictures
from projects import digit_project

from tfserve.ipc.messages import Train
from tfserve.training.dataset.examine import examine
from tfserve.training.fit.features import Features
from tfserve.training.fit.timing import Clock
from tfserve.training.progress import Reporter
from tfserve.training.recipes import parameters, run


@pytest.fixture
def message(tmp_path: Path) -> Train:
    project, findings = digit_project(tmp_path / "project", classes=2, per_class=4), tmp_path / "findings.json"
    examine(str(project), "classification", {"threads": 2}).write(findings)
    return Train(
        job=1, task_id="t1", project_dir=str(project), train_type="classification", parameters={},
        findings=str(findings), folder=str(project / "models" / "t1"), work_folder=str(tmp_path / "work"),
    )  # fmt: skip


def kept_by_an_attempt(message: Train) -> Path:
    run.begin(message, lambda _: None)
    kept = Path(message.work_folder) / "outcome-of-a-fold.npz"
    kept.write_bytes(b"")
    return kept


def test_steps_of_the_same_release_are_used_again(message: Train) -> None:
    kept = kept_by_an_attempt(message)
    run.begin(message, lambda _: None)
    assert kept.exists()


def test_steps_of_a_release_with_another_method_are_not_used(message: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = kept_by_an_attempt(message)
    monkeypatch.setattr(run, "METHOD", run.METHOD + 1)
    run.begin(message, lambda _: None)
    assert not kept.exists()


# --- what follows from a budget


def attempt(message: Train, **chosen: Any) -> run.RecipeRun:
    return run.begin(msgspec.structs.replace(message, parameters=chosen), lambda _: None)


def test_another_attempt_has_the_allowance_that_the_budget_left_for_the_first(message: Train) -> None:
    first = attempt(message, budget="10m")
    allowed = first.allowance(60.0)
    assert allowed > 60
    later = attempt(message, budget="10m")
    later.clock.budget_s = 20.0
    assert later.allowance(60.0) == allowed, "the sizes of images follow from it"
    assert attempt(message, budget="5m").allowance(60.0) < allowed, "another training"
    assert attempt(message).allowance(60.0) == 60


@pytest.mark.parametrize("content", [b"", b"nan", b"-3", b"\xff"])
def test_a_damaged_allowance_is_computed_again(message: Train, content: bytes) -> None:
    allowed = attempt(message, budget="10m").allowance(60.0)
    file = Path(message.work_folder) / run.ALLOWANCE_FILE
    assert float(file.read_text()) == allowed
    file.write_bytes(content)
    assert attempt(message, budget="10m").allowance(60.0) == pytest.approx(allowed, rel=0.5)


def test_checkpoints_belong_to_a_size_of_the_images(message: Train) -> None:
    begun = attempt(message)
    states = [begun.checkpoints("fold-1", 8, size).fresh() for size in ((256, 256), (192, 192), (256, 256))]
    assert states[0] == states[2] != states[1]


class Doubled:
    """The features of an image: twice its pixels."""

    def __init__(self, width: int) -> None:
        self.output_shape = (None, width)

    def __call__(self, batch: Any, *, training: bool) -> Any:
        return batch * 2.0


class Pictures:
    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape, self.dtype = values, values.shape[1:], values.dtype

    def batch(self, indices: np.ndarray) -> np.ndarray:
        return self.values[indices]


def test_features_of_images_of_another_size_are_computed_again(tmp_path: Path) -> None:
    def computed(width: int, value: float, dtype: type = np.float32) -> Features:
        images = Pictures(np.full((3, width), value, np.float32))
        return Features.computed(tmp_path / "maps.npy", Doubled(width), images, 3, lambda _: None, dtype)

    assert computed(8, 1.0).batch(np.array([1])).tolist() == [[2.0] * 8]
    assert computed(8, 5.0).batch(np.array([1])).tolist() == [[2.0] * 8], "from the file"
    assert computed(6, 5.0).batch(np.array([1])).tolist() == [[10.0] * 6]
    assert computed(6, 7.0, np.float16).batch(np.array([1])).tolist() == [[14.0] * 6]
    (tmp_path / "maps.npy").write_bytes(b"\x93NUMPY, but no more")
    assert computed(6, 1.0).batch(np.array([1])).tolist() == [[2.0] * 6]


def head_of_pixels(project: Path, work: Path, allowance: float) -> np.ndarray:
    """What the head predicts for an image after an attempt with this allowance, whose files go into `work`."""
    from tfserve.training.fit import pretrained
    from tfserve.training.fit.map_rows import KnownMaps
    from tfserve.training.fit.segmentation_material import SegmentationMaterial
    from tfserve.training.fit.segmenters import PixelHead

    reporter = Reporter(1, lambda _: None)
    found = examine(str(project), "segmentation", {"threads": 2})
    assert found.problems == []
    work.mkdir(exist_ok=True)
    begun = run.RecipeRun(
        "t1", project, found, parameters.complete("segmentation", {"exports": "saved_model"}), work, work, work,
        reporter, Clock(reporter), "f" * 20,
    )  # fmt: skip
    material = SegmentationMaterial(begun)
    maps = KnownMaps(material, pretrained.choose_for_masks("auto", "auto"), allowance)
    head = PixelHead(material, maps)
    head.evaluate(0, material.folds.folds[0])
    network = head.deliver(0, np.arange(material.count)).network
    pixels = begun.pixels(0, maps.size)[np.newaxis].astype(np.float32)
    return np.asarray(network(pixels, training=False))


@pytest.mark.slow
def test_a_head_of_pixels_does_not_learn_from_maps_of_another_size(tmp_path: Path) -> None:
    for number, path in enumerate(pictures(tmp_path / "p" / "images", 6)):
        palette_mask(tmp_path / "p" / "labels" / path.name, blocks(0, 1 + number % 2))
    large = head_of_pixels(tmp_path / "p", tmp_path / "work", 60.0)
    after = head_of_pixels(tmp_path / "p", tmp_path / "work", 0.1)
    alone = head_of_pixels(tmp_path / "p", tmp_path / "other", 0.1)
    assert large.shape == (1, 256, 256, 3)
    assert after.shape == alone.shape == (1, 128, 128, 3)
    assert np.abs(after - alone).max() < 1e-3
