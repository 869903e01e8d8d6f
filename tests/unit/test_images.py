"""How image files become inputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_models import as_array, png

from tfserve import runtimes
from tfserve.errors import Invalid
from tfserve.models import formats
from tfserve.runtimes import decoding, image_files, image_spec, images
from tfserve.runtimes.image_files import BadImage
from tfserve.runtimes.image_metadata import FoundDescription
from tfserve.runtimes.interface import Runtime, remarks_of
from tfserve.tensors.specs import Array
from tfserve.training.dataset import image_reading as training


@pytest.fixture
def numbers(tmp_path: Path) -> Runtime:
    """It gives pixels back, and has a signature for files of its own."""
    pixels = {"pixels": {"dtype": "float32", "shape": [-1, -1, -1, 1]}}
    own = {"image_bytes": {"dtype": "string", "shape": [-1]}}
    path = tmp_path / "numbers.echo"
    path.write_text(json.dumps({"signatures": {"serving_default": pixels, "image_bytes": own}}))
    return runtimes.load(formats.locate(str(path), None), device="/cpu:0", runtime="auto", precision="float32")


def spec(**fields: Any) -> image_spec.ImageSpec:
    return image_spec.parse({"channels": 1, **fields}, "image")


def pixels_of(rows: list[list[int]], **fields: Any) -> Array:
    """What the model is given for a grey picture."""
    array, _ = decoding.decode(spec(**fields), 0, png(rows))
    return array[:, :, 0]


def test_a_description_replaces_the_models_own_signature_for_files(numbers: Runtime) -> None:
    assert images.with_files(numbers, None) is numbers
    replaced = images.with_files(numbers, FoundDescription(spec(), binding=True))
    assert [each.name for each in replaced.signatures["image_bytes"].outputs] == ["label", "probabilities"]


def test_a_description_that_came_with_somebody_elses_model_may_not_fit_it(numbers: Runtime) -> None:
    with pytest.raises(Invalid, match="takes float32"):
        images.with_files(numbers, FoundDescription(spec(channels=3), binding=True))
    assert images.with_files(numbers, FoundDescription(spec(channels=3), binding=False)) is numbers
    (remark,) = remarks_of(numbers)
    assert remark.startswith("Image files are not accepted")


def test_without_antialias_values_lie_between_the_four_pixels_around() -> None:
    rows = [[0, 10, 20, 30], [40, 50, 60, 70]]
    smaller = pixels_of(rows, height=1, width=2, antialias=False)
    np.testing.assert_allclose(smaller, [[25, 45]])
    larger = pixels_of([[0, 100]], height=1, width=4, antialias=False)
    np.testing.assert_allclose(larger, [[0, 25, 75, 100]])
    same = pixels_of(rows, antialias=False, scale=0.1, offset=-1)
    np.testing.assert_allclose(same, np.array(rows) / 10 - 1, atol=1e-6)


def test_serving_reads_images_as_large_as_training_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert image_files.MAX_PIXELS > 89_478_485, "Pillow's own limit is smaller"
    monkeypatch.setattr(image_files, "MAX_PIXELS", 3)
    assert pixels_of([[1, 2, 3]]).size == 3
    with pytest.raises(Invalid, match="huge: 4x1 pixels"):
        pixels_of([[1, 2, 3, 4]])
    file = tmp_path / "wide.png"
    file.write_bytes(png([[1, 2, 3, 4]]))
    with pytest.raises(BadImage, match="huge: 4x1 pixels"):
        training.inspect(file)


def test_with_antialias_every_pixel_counts() -> None:
    rows = [[0, 0, 0, 200] * 4] * 4
    assert pixels_of(rows, height=1, width=1).item() == pytest.approx(50, abs=12)
    assert pixels_of(rows, height=1, width=1, antialias=False).item() == pytest.approx(100)


def test_files_of_one_request_may_differ_in_size_where_masks_are_requested(numbers: Runtime) -> None:
    segmenter = images.ImageFiles(numbers, spec(task="segmentation"))
    small, large = png([[1, 2]]), png([[3], [4], [5]])
    mask, size = segmenter.run({"image_bytes": as_array(small, large)}, ["mask", "size"], "image_bytes")
    assert mask is not None
    assert size is not None
    assert size.tolist() == [[1, 2], [3, 1]]
    assert mask.tolist() == [[[1, 2], [0, 0], [0, 0]], [[3, 0], [4, 0], [5, 0]]]  # one channel of class numbers
    classifier = images.ImageFiles(numbers, spec())
    with pytest.raises(Invalid, match="Send them one by one"):
        classifier.prepare({"image_bytes": as_array(small, large)})
    with pytest.raises(Invalid, match="Expected at least one image file, got none"):
        classifier.prepare({"image_bytes": as_array()})


def test_masks_of_different_requests_are_never_computed_together(numbers: Runtime) -> None:
    (segments,) = images.ImageFiles(numbers, spec(task="segmentation")).inner.values()
    (classes,) = images.ImageFiles(numbers, spec(height=2, width=2)).inner.values()
    assert not any(each.is_batched for each in segments.outputs)
    assert all(each.is_batched for each in (*classes.inputs, *classes.outputs))
    assert classes.inputs[0].shape == (-1, 2, 2, 1)
