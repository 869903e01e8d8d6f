"""What files get from a detector: boxes in pixels of each file, and names as labels."""

from __future__ import annotations

import numpy as np
import pytest

from tfserve.errors import Invalid
from tfserve.runtimes import image_boxes
from tfserve.runtimes.image_spec import ImageSpec
from tfserve.tensors.specs import TensorSpec

SPEC = ImageSpec(task="detection", labels=["cup", "猫"])
SPECS = [
    TensorSpec("boxes", "float32", (-1, 3, 4)), TensorSpec("scores", "float32", (-1, 3)),
    TensorSpec("labels", "int32", (-1, 3)), TensorSpec("count", "int32", (-1,)),
]  # fmt: skip
OUTPUTS = {
    "boxes": np.array([[[0, 0.5, 0.25, 1], [0.1, 0.1, 0.2, 0.2], [0, 0, 1, 1]]], np.float32),
    "scores": np.array([[0.9, 0.5, 0.3]], np.float32), "labels": np.array([[1, 0, 0]], np.int32),
    "count": np.array([3], np.int32),
}  # fmt: skip


def test_boxes_are_in_pixels_of_the_file_and_labels_are_names() -> None:
    found = image_boxes.for_files(OUTPUTS, np.array([[100, 200]]), SPEC)
    assert found["count"].tolist() == [3]
    assert found["boxes"][0, 0].tolist() == [0, 50, 50, 100]
    assert found["labels"][0].tolist() == ["猫".encode(), b"cup", b"cup"]
    assert found["boxes"][0, 2].tolist() == [0, 0, 200, 100]


def test_rows_after_the_count_are_no_boxes() -> None:
    found = image_boxes.for_files(OUTPUTS | {"count": np.array([1])}, np.array([[100, 200]]), SPEC)
    assert (found["count"].tolist(), found["scores"][0, 1]) == ([1], 0.0)


def test_a_class_without_a_label_is_refused() -> None:
    with pytest.raises(Invalid, match="labels has 2 names, but the model returned class 7"):
        image_boxes.for_files(OUTPUTS | {"labels": np.array([[7, 0, 0]])}, np.array([[100, 200]]), SPEC)


@pytest.mark.parametrize(
    "change",
    [
        {"boxes": np.zeros((1, 2, 4), np.float32)},
        {"boxes": np.zeros((1, 1, 4), np.float32)},
        {"boxes": np.zeros((1, 3, 5), np.float32)},
        {"scores": np.zeros((1, 2), np.float32)},
        {"labels": np.zeros((1, 2), np.int32)},
        {"count": np.array([3, 3])},
    ],
)
def test_outputs_of_different_lengths_are_refused(change: dict[str, np.ndarray]) -> None:
    with pytest.raises(Invalid, match="outputs of the detector do not match"):
        image_boxes.for_files(OUTPUTS | change, np.array([[100, 200]]), SPEC)


def test_outputs_are_found_by_their_names() -> None:
    assert [each.name for each in image_boxes.choose(SPECS[::-1])] == ["boxes", "scores", "labels", "count"]
    with pytest.raises(Invalid, match="missing: 'count'"):
        image_boxes.choose(SPECS[:3])
    with pytest.raises(Invalid, match="Expected 3 dimensions"):
        image_boxes.choose([TensorSpec("boxes", "float32", (-1, 4)), *SPECS[1:]])
