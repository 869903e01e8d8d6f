"""The table of held-out images, thresholds, what to label next, and what an answer depends on."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfserve.training.report import occlusion, single_images

LABELS = ["cat", "dog"]


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as opened:
        return list(csv.DictReader(opened))


def test_each_held_out_image_has_a_row_with_its_label_and_the_answer(tmp_path: Path) -> None:
    file = tmp_path / "p.csv"
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2]])
    single_images.write_held_out(file, ["a,b.png", "猫.jpg"], np.array([0, 1]), probabilities, LABELS)
    assert rows_of(file) == [
        {"file": "a,b.png", "true": "cat", "predicted": "cat", "score": "0.9000", "score_of_true": "0.9000"},
        {"file": "猫.jpg", "true": "dog", "predicted": "cat", "score": "0.8000", "score_of_true": "0.2000"},
    ]


def test_the_least_certain_image_is_the_first_to_label(tmp_path: Path) -> None:
    file = tmp_path / "n.csv"
    probabilities = np.array([[0.99, 0.01], [0.45, 0.55], [0.3, 0.7]])
    assert single_images.write_label_next(file, ["a", "b", "c"], probabilities, LABELS).tolist() == [1, 2, 0]
    assert [row["file"] for row in rows_of(file)] == ["b", "c", "a"]
    assert rows_of(file)[0] == {"file": "b", "predicted": "dog", "score": "0.5500", "margin": "0.1000"}


def f1_at(threshold: float, is_true: Any, scores: Any) -> float:
    found = scores >= threshold
    return float(2 * (found & is_true).sum() / max(1, found.sum() + is_true.sum()))


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 8)), min_size=1, max_size=20))
def test_no_threshold_is_better_than_the_one_that_is_given(pairs: list[tuple[bool, int]]) -> None:
    is_dog, score = np.array([true for true, _ in pairs]), np.array([score / 8 for _, score in pairs])
    found = single_images.thresholds(is_dog.astype(int), np.stack([1 - score, score], axis=1), LABELS)[1]
    if not is_dog.any():
        assert found["threshold"] is None
        return
    best = max(f1_at(each, is_dog, score) for each in score)
    assert f1_at(found["threshold"], is_dog, score) == pytest.approx(best)


def test_the_part_that_the_answer_depends_on_is_found() -> None:
    def compute(images: Any) -> Any:
        """Class 1 is as probable as the bottom right quarter is bright."""
        bright = images[:, 16:, 16:].mean(axis=(1, 2, 3)) / 255
        return np.stack([1 - bright, bright], axis=1)

    image = np.zeros((32, 32, 3), np.uint8)
    image[16:, 16:] = 255
    drawn = occlusion.sensitivity(compute, image, 1)
    assert drawn.shape == (occlusion.STEPS, occlusion.STEPS)
    assert drawn[-1, -1] > 0.1
    assert np.abs(drawn[:2, :2]).max() == 0
    assert np.allclose(occlusion.sensitivity(compute, image, 0), -drawn)
