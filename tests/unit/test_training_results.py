"""What the page of a finished training reads from the files of its result."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tfserve.training.report import mask_examples
from tfserve.web.pages.training_results import TrainingResult

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
