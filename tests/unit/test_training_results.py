"""What the page of a finished training reads from the files of its result."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tfserve.training.report import box_examples, detection_mistakes, mask_examples
from tfserve.training.report.detection_metrics import Predicted, Truth
from tfserve.web.pages.training_results import TrainingResult, history_at

METRICS = {
    "accuracy": 0.75, "labels": ["cup", "dog"], "display": ["Cup", "Dog"], "confusion_matrix": [[3, 1], [0, 4]],
    "per_class": [{"label": "cup", "f1": 0.8}, {"label": "dog", "f1": 0.9}],
    "calibration": {"expected_calibration_error": 0.1, "bins": [
        {"from": 0.5, "to": 0.6, "images": 0, "confidence": None, "accuracy": None},
        {"from": 0.9, "to": 1.0, "images": 8, "confidence": 0.95, "accuracy": 0.875},
    ]},
}  # fmt: skip
PREDICTIONS = """file,true,predicted,score,score_of_true
images/Cup/a b.jpg,Cup,Cup,0.9,0.9
images/Cup/c.jpg,Cup,Dog,0.6,0.4
images/Cup/d.jpg,Cup,Dog,0.8,0.2
"""


@pytest.fixture
def result(tmp_path: Path) -> TrainingResult:
    (tmp_path / "metrics.json").write_text(json.dumps(METRICS))
    (tmp_path / "predictions.csv").write_text(PREDICTIONS)
    (tmp_path / "README.md").write_text(
        "# Cups\n\n<script>alert(1)</script> [x](javascript:alert(1))\n\n|a|\n|-|\n|1|\n"
    )
    found = TrainingResult.read("0f31", tmp_path)
    assert found is not None
    return found


def test_a_folder_without_metrics_is_no_result(tmp_path: Path) -> None:
    assert TrainingResult.read("0f31", tmp_path) is None
    (tmp_path / "metrics.json").write_text("{torn")
    assert TrainingResult.read("0f31", tmp_path) is None


def test_a_cell_of_the_matrix_has_its_images_the_most_certain_first(result: TrainingResult) -> None:
    label, cells = result.matrix[0]
    assert label == "Cup"
    assert [(cell.number, cell.heat) for cell in cells] == [(3, 8), (1, 2)]
    assert [each.file for each in result.of_cell(0, 1)] == ["images/Cup/d.jpg", "images/Cup/c.jpg"]
    assert result.of_cell(7, 0) == []
    assert [each.score for each in result.mistakes] == [0.8, 0.6]
    assert result.predictions[0].url.startswith("/tasks/0f31/images/images/Cup/a%20b.jpg")


def test_many_classes_become_a_list_of_what_is_confused_most(result: TrainingResult) -> None:
    names = [f"c{n}" for n in range(50)]
    matrix = np.eye(50, dtype=int) * 9
    matrix[3, 4] = 5
    many = TrainingResult("1", result.folder, "/", {"display": names, "confusion_matrix": matrix.tolist()})
    assert many.matrix == []
    assert [(pair.true, pair.predicted, pair.number) for pair in many.pairs] == [("c3", "c4", 5)]


def test_a_readme_can_carry_neither_scripts_nor_their_addresses(result: TrainingResult) -> None:
    assert "<h1>Cups</h1>" in result.readme
    assert "<td>1</td>" in result.readme
    assert "<script" not in result.readme
    assert 'href="javascript' not in result.readme


def test_empty_bins_of_the_calibration_are_left_out(result: TrainingResult) -> None:
    assert [each.accuracy for each in result.calibration] == [87.5]
    assert result.calibration[0].label == "90% to 100% sure: right in 88% of 8 images"


def test_examples_of_masks_are_layers_that_show_the_image_where_the_background_is(tmp_path: Path) -> None:
    true = np.zeros((8, 6), np.int64)
    true[2:6, 1:4] = 2
    mask_examples.write(tmp_path, [("a.png", np.zeros((8, 6, 3), np.uint8), true, np.zeros_like(true))])
    (row,) = json.loads((tmp_path / mask_examples.EXAMPLES_FILE).read_text())
    assert row["iou"] == 0.0
    layer = np.asarray(Image.open(tmp_path / row["true"]).convert("RGBA"))
    assert layer[0, 0, 3] == 0
    assert layer[3, 2].tolist() == [0x3C, 0xB4, 0x4B, mask_examples.ALPHA]


@pytest.mark.parametrize(
    ("true", "predicted", "expected"),
    [([0, 0], [0, 0], 1.0), ([1, 1], [1, 1], 1.0), ([1, 0], [1, 1], 0.5), ([1, 2], [2, 1], 0.0), ([0, 0], [0, 1], 0.0)],
)
def test_the_agreement_of_masks(true: list[int], predicted: list[int], expected: float) -> None:
    assert mask_examples.iou(np.array(true), np.array(predicted)) == expected


@pytest.fixture
def boxes(tmp_path: Path) -> TrainingResult:
    """Three held-out images of 640x480: all found; one of two missed; a sure wrong box and a weak one."""
    nothing = np.zeros((0, 4))
    cup, dog = [10.0, 20, 110, 220], [300.0, 100, 500, 400]
    truths = [
        Truth(np.array([cup]), np.array([0]), np.array([False])),
        Truth(np.array([cup, dog]), np.array([0, 1]), np.array([False, False])),
        Truth(nothing, np.zeros(0, int), np.zeros(0, bool)),
    ]
    predictions = [
        Predicted(np.array([cup]), np.array([0.9]), np.array([0])),
        Predicted(np.array([dog]), np.array([0.8]), np.array([1])),
        Predicted(np.array([cup, dog]), np.array([0.95, 0.1]), np.array([0, 1])),
    ]
    (tmp_path / "metrics.json").write_text(json.dumps({"labels": ["cup", "dog"], "display": ["Cup", "Dog"]}))
    box_examples.write(
        tmp_path, ["a.jpg", "b.jpg", "c.jpg"], lambda at: np.full((480, 640, 3), at, np.uint8), truths, predictions, 0.5
    )
    found = TrainingResult.read("0f31", tmp_path)
    assert found is not None
    return found


def test_examples_of_boxes_begin_with_the_worst_mistakes(boxes: TrainingResult) -> None:
    assert [each.file for each in boxes.box_examples] == ["c.jpg", "b.jpg", "a.jpg"]
    invented, missed, right = boxes.box_examples
    assert (invented.wrong, invented.missed, invented.summary) == (["Cup 95 %"], [], "wrong: Cup 95 %")
    assert (missed.right, missed.missed) == (["Dog 80 %"], ["Cup"])
    assert right.summary == "found: Cup 90 %"
    assert [box.state for box in missed.boxes] == ["missed", "true", "right"]


def test_boxes_are_drawn_in_pixels_of_the_whole_image(boxes: TrainingResult) -> None:
    example = boxes.box_examples[-1]
    assert (example.width, example.height) == (640, 480)
    assert example.boxes[0][:4] == (10.0, 20.0, 100.0, 200.0)
    assert example.boxes[0].text_y >= example.text_size, "the text of a box at the upper edge is inside the image"
    assert example.image == "/tasks/0f31/artifacts/examples/02-image.webp"
    with Image.open(boxes.folder / "examples" / "02-image.webp") as image:
        assert image.size == (320, 240)


@pytest.mark.parametrize("content", ["{torn", '[{"file": "a.jpg"}]', '{"a": 1}'])
def test_examples_that_cannot_be_read_are_left_out(boxes: TrainingResult, content: str) -> None:
    (boxes.folder / box_examples.EXAMPLES_FILE).write_text(content)
    assert boxes.box_examples == []


def test_a_box_over_a_crowd_is_neither_right_nor_wrong() -> None:
    box = np.array([[0.0, 0, 10, 10]])
    crowd = Truth(box, np.array([0]), np.array([True]))
    found = detection_mistakes.compare(crowd, Predicted(box, np.array([0.9]), np.array([1])), 0.5)
    assert (found.wrong.tolist(), found.missed.tolist()) == ([False], [False])


def test_a_second_box_on_an_object_and_one_of_another_class_are_mistakes() -> None:
    box = np.array([[0.0, 0, 10, 10]])
    truth = Truth(box, np.array([0]), np.array([False]))
    predicted = Predicted(np.repeat(box, 3, axis=0), np.array([0.9, 0.8, 0.7]), np.array([1, 0, 0]))
    found = detection_mistakes.mistakes([truth], [predicted], ["cup", "dog"], 0.5)
    assert [each.caption for each in found] == ["cup \u2192 dog 0.90", "cup \u2192 cup 0.70"]


def test_a_history_that_comes_late_is_shown_and_may_have_values_that_json_has_not(tmp_path: Path) -> None:
    assert history_at(tmp_path) == {}
    history = {"loss": [1.0, float("nan")]}
    (tmp_path / "metrics.json").write_text(json.dumps({"epochs": {"history": history}}))
    assert str(history_at(tmp_path)) == str(history)
