"""Average precision, compared with numbers recorded from pycocotools 2.0.11 (`coco_table.json` tells how)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tfserve.training.report import detection_metrics as metrics
from tfserve.training.report.detection_metrics import Predicted, Truth


def random_case(seed: int, images: int = 12, classes: int = 3) -> tuple[list[Truth], list[Predicted]]:
    """True boxes, some of them crowds, and predictions near them, with duplicates, wrong classes and inventions."""
    random = np.random.default_rng(seed)
    truths, predictions = [], []
    for _ in range(images):
        count = int(random.integers(0, 6))
        corner, sides = random.uniform(0, 70, (count, 2)), random.uniform(8, 30, (count, 2))
        boxes = np.concatenate([corner, corner + sides], axis=1)
        labels = random.integers(0, classes, count)
        truths.append(Truth(boxes, labels, random.random(count) < 0.15))
        near = np.repeat(boxes, 2, axis=0) + random.normal(0, 2.5, (2 * count, 4))
        odd = np.sort(random.uniform(0, 100, (3, 2, 2)), axis=1).reshape(3, 4)
        found = np.concatenate([near, odd])
        guessed = np.concatenate([np.repeat(labels, 2), random.integers(0, classes, 3)])
        scores = np.round(random.random(len(found)), 3)
        order = np.argsort(-scores, kind="stable")
        predictions.append(Predicted(found[order], scores[order], guessed[order]))
    return truths, predictions


RECORDED = json.loads((Path(__file__).parent / "coco_table.json").read_text())


@pytest.mark.parametrize("row", RECORDED["rows"], ids=lambda row: f"seed {row['seed']}")
def test_average_precision_is_that_of_pycocotools(row: dict[str, float]) -> None:
    measured = metrics.evaluate(*random_case(int(row["seed"])), ["a", "b", "c"])
    assert measured["map"] == pytest.approx(row["map"], abs=1e-6)
    assert measured["map50"] == pytest.approx(row["map50"], abs=1e-6)


def test_a_second_box_on_the_same_object_is_wrong() -> None:
    box = np.array([[0.0, 0, 10, 10]])
    truth = Truth(box, np.array([0]), np.array([False]))
    twice = Predicted(np.repeat(box, 2, axis=0), np.array([0.9, 0.8]), np.array([0, 0]))
    matches = metrics.match_class([truth], [twice], 0)
    assert matches.right[0].tolist() == [True, False]
    assert metrics.evaluate([truth], [twice], ["a"])["map50"] == 1.0


def test_images_without_objects_and_without_predictions_count_as_nothing() -> None:
    nothing = Truth(np.zeros((0, 4)), np.zeros(0, int), np.zeros(0, bool))
    silent = Predicted(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
    measured = metrics.evaluate([nothing], [silent], ["a"])
    assert (measured["map50"], measured["per_class"][0]["objects"]) == (0.0, 0)


def test_the_best_score_leaves_out_what_is_wrong() -> None:
    box = np.array([[0.0, 0, 10, 10]])
    truth = Truth(box, np.array([0]), np.array([False]))
    found = Predicted(np.array([[0.0, 0, 10, 10], [50, 50, 60, 60]]), np.array([0.8, 0.3]), np.array([0, 0]))
    measured = metrics.evaluate([truth], [found], ["a"])
    assert 0.4 < measured["best_score"] < 0.7
    assert (measured["precision"], measured["recall"]) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("scores", "objects", "words"),
    [
        ([0.9, 0.8], 40, "good"),
        ([0.9, 0.2], 40, "fair, but `b` is often missed"),
        ([0.02, 0.01], 40, "almost nothing was learnt"),
        ([0.9, 0.9], 2, "too few objects to measure: 4 "),
        ([0.0, 0.0], 2, "almost nothing was learnt: the model finds hardly any of the 4 objects"),
        ([0.0, 0.0], 0, "not measured: the held-out images contain no objects"),
    ],
)
def test_the_verdict_says_what_the_numbers_mean(scores: list[float], objects: int, words: str) -> None:
    rows = [{"label": label, "ap50": score, "objects": objects} for label, score in zip("ab", scores, strict=True)]
    assert metrics.verdict(float(np.mean(scores)), rows).startswith(words)


def test_a_model_that_finds_nothing_has_no_precision() -> None:
    box = np.array([[0.0, 0, 10, 10]])
    truth = Truth(box, np.array([0]), np.array([False]))
    for found in (np.zeros((0, 4)), np.array([[50.0, 50, 60, 60]])):
        silent = Predicted(found, np.full(len(found), 0.2), np.zeros(len(found), int))
        measured = metrics.evaluate([truth], [silent], ["a"])
        assert (measured["precision"], measured["recall"], measured["f1"]) == (0.0, 0.0, 0.0)
