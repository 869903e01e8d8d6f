"""The parts of a detector: decoding, removal of duplicates, assignment, loss, and augmentation that moves boxes."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tfserve.tensors.specs import Array
from tfserve.training.dataset.box_checks import MAX_OBJECTS
from tfserve.training.dataset.dataset_index import Box, ImageFile
from tfserve.training.export import detection_exports
from tfserve.training.fit import detection_batches, detector
from tfserve.training.fit.augment import Augment, move
from tfserve.training.fit.checkpoints import State
from tfserve.training.fit.detection_loss import CROWD, PADDING, DetectionLoss, giou
from tfserve.training.recipes.detection import trained_further
from tfserve.training.report.detection_metrics import iou

SIZE = (64, 64)
STILL = Augment(rotation=0, shift=0, zoom=0, brightness=0, mirror=False)


def greedy(boxes: Array, labels: Array) -> list[bool]:
    """Non-maximum suppression as textbooks have it, for boxes ordered by score."""
    kept: list[int] = []
    for place in range(len(boxes)):
        rivals = [other for other in kept if labels[other] == labels[place]]
        if not rivals or iou(boxes[[place]], boxes[rivals]).max() <= detector.SAME_OBJECT_IOU:
            kept.append(place)
    return [place in kept for place in range(len(boxes))]


@pytest.mark.parametrize("seed", range(6))
def test_duplicates_are_removed_as_by_greedy_suppression(seed: int) -> None:
    random = np.random.default_rng(seed)
    centres = random.uniform(0.2, 0.8, (8, 2))[random.integers(0, 8, 60)] + random.normal(0, 0.02, (60, 2))
    sides = random.uniform(0.12, 0.24, (60, 2))
    boxes = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1).astype(np.float32)
    labels = random.integers(0, 2, 60)
    kept = detector._kept(tf.constant(boxes[np.newaxis]), tf.constant(labels[np.newaxis], tf.float32))
    assert (np.asarray(kept)[0] > 0.5).tolist() == greedy(boxes, labels)


def test_decoding_is_the_inverse_of_distances() -> None:
    cell_centres = detector.cells(SIZE)
    assert cell_centres.shape == (8 * 8 + 4 * 4 + 2 * 2, 3)
    assert cell_centres[0].tolist() == [4, 4, 8]
    distances = np.log(np.array([1, 2, 3, 4], np.float32))[np.newaxis, np.newaxis].repeat(len(cell_centres), axis=1)
    first = np.asarray(detector.decoded(tf.constant(distances), cell_centres))[0, 0]
    assert first == pytest.approx([4 - 8, 4 - 16, 4 + 24, 4 + 32])


def predictions_of(box: Array, label: int, *, sure: float = 6.0) -> Array:
    """Raw predictions in which each cell inside the box predicts it exactly."""
    cell_centres = detector.cells(SIZE)
    raw = np.zeros((1, len(cell_centres), 3 + 4), np.float32)
    raw[..., :3] = -sure
    sides = np.concatenate([cell_centres[:, :2] - box[:2], box[2:] - cell_centres[:, :2]], axis=1) / cell_centres[:, 2:]
    raw[0, :, 3:] = np.log(np.maximum(sides, 1e-3))
    raw[0, (sides > 0).all(axis=1), label] = sure
    return raw


def test_the_loss_falls_as_predictions_come_closer() -> None:
    loss = DetectionLoss(detector.cells(SIZE), 3)
    box = np.array([10, 12, 44, 50], np.float32)
    truth = np.full((1, 4, 5), PADDING, np.float32)
    truth[0, 0] = [1, *box]
    exact = float(loss(truth, predictions_of(box, 1)))
    shifted = float(loss(truth, predictions_of(box + 6, 1)))
    wrong_class = float(loss(truth, predictions_of(box, 2)))
    assert exact < shifted
    assert exact < wrong_class
    assert exact < 0.1


def test_an_image_without_objects_has_a_finite_loss() -> None:
    loss = DetectionLoss(detector.cells(SIZE), 3)
    raw = tf.Variable(predictions_of(np.array([0, 0, 5, 5], np.float32), 0, sure=2.0))
    with tf.GradientTape() as tape:
        value = loss(np.full((1, 4, 5), PADDING, np.float32), raw)
    assert np.isfinite(np.asarray(tape.gradient(value, raw))).all()


def test_nothing_is_learnt_inside_a_crowd() -> None:
    loss = DetectionLoss(detector.cells(SIZE), 3)
    box = np.array([0, 0, 64, 64], np.float32)
    truth = np.full((1, 4, 5), PADDING, np.float32)
    predicted = predictions_of(box, 1)
    alone = float(loss(truth, predicted))
    truth[0, 0] = [CROWD, *box]
    assert float(loss(truth, predicted)) == pytest.approx(0.0, abs=1e-6)
    assert alone > 1.0


def test_an_object_smaller_than_a_cell_still_has_a_cell() -> None:
    loss = DetectionLoss(detector.cells(SIZE), 3)
    truth = np.full((1, 2, 5), PADDING, np.float32)
    truth[0, 0] = [2, 16.5, 16.5, 18.5, 19.0]
    raw = predictions_of(np.array([0, 0, 30, 30], np.float32), 0)
    boxes = detector.decoded(tf.constant(raw[..., 3:]), detector.cells(SIZE))
    assigned = loss.assign(tf.constant(truth), tf.sigmoid(raw[..., :3]), boxes)
    assert float(tf.reduce_max(assigned.scores[..., 2])) > 0


def test_giou_of_separate_boxes_is_negative() -> None:
    assert float(giou(tf.constant([0.0, 0, 1, 1]), tf.constant([0.0, 0, 1, 1]))) == pytest.approx(1.0)
    assert float(giou(tf.constant([0.0, 0, 1, 1]), tf.constant([3.0, 0, 4, 1]))) == pytest.approx(-0.5)


def test_rates_follow_one_schedule_after_the_other() -> None:
    rates = detector.Rates([lambda step: 1 + float(step) * 0.1, lambda step: 5 - float(step)], [10, 4])
    assert [float(rates(step)) for step in (0, 9, 10, 12)] == pytest.approx([1.0, 1.9, 5.0, 3.0])


@pytest.mark.parametrize("seed", range(5))
def test_boxes_move_with_the_pixels(seed: int) -> None:
    augment = Augment(rotation=0, shift=0.1, zoom=0.3, brightness=0, mirror=True)
    images = np.zeros((1, *SIZE, 3), np.float32)
    images[0, 20:40, 10:34] = 255
    truth = np.full((1, 3, 5), PADDING, np.float32)
    truth[0, 0] = [1, 10, 20, 34, 40]
    moves = augment.moves(tf.constant(images), (seed, 1))
    moved = np.asarray(move(tf.constant(images), moves, smooth=True))[0, ..., 0] > 127
    box = np.asarray(detection_batches.moved_boxes(tf.constant(truth), moves, SIZE))[0, 0]
    rows, columns = np.flatnonzero(moved.any(axis=1)), np.flatnonzero(moved.any(axis=0))
    assert box == pytest.approx([1, columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], abs=1.01)


def test_boxes_in_a_mosaic_are_where_their_pixels_are() -> None:
    images = np.zeros((4, *SIZE, 3), np.float32)
    truth = np.full((4, 8, 5), PADDING, np.float32)
    for number in range(4):
        images[number, 10:50, 12:40] = 50 * (number + 1)
        truth[number, 0] = [number, 12, 10, 40, 50]
    parts, boxes = detection_batches.mosaics(tf.constant(images), tf.constant(truth), (3, 4))
    for part, known in zip(np.asarray(parts), np.asarray(boxes), strict=True):
        assert (known[:, 0] >= 0).any()
        for label, left, top, right, bottom in known[known[:, 0] >= 0]:
            inside = part[round(top) + 2 : round(bottom) - 2, round(left) + 2 : round(right) - 2, 0]
            assert (np.abs(inside - 50 * (label + 1)) < 1).all()


def test_boxes_that_leave_the_image_are_forgotten() -> None:
    truth = np.array([[[1, -20, 10, 5, 30], [1, -5, 10, 20, 30]]], np.float32)
    cut = np.asarray(detection_batches.cut(tf.constant(truth), SIZE))[0]
    assert (cut[0] == PADDING).all()
    assert cut[1].tolist() == [1, 0, 10, 20, 30]


def test_exports_agree_when_both_have_the_same_boxes() -> None:
    rows = np.array([[1, 0.9, 0, 0, 0.5, 0.5], [0, 0.6, 0.5, 0.5, 1, 1], [2, 0.1, 0, 0, 0.1, 0.1]])
    assert detection_exports.compare([rows], [rows[:2]]) == (1.0, 0.0)
    other = rows[:2].copy()
    other[1, 0] = 2
    same, _ = detection_exports.compare([rows], [other])
    assert same == 0.5
    assert detection_exports.compare([np.zeros((0, 6))], [rows])[0] == 0.0


def test_the_note_about_the_training_on_all_images_counts_the_epochs_that_took_place() -> None:
    state = State(fingerprint="", epochs=4, epoch=1)
    assert trained_further(120, state).endswith("on all 120 images, for only 1 of 4 epochs.")
    state.epoch = 4
    assert trained_further(120, state).endswith("on all 120 images, for 4 epochs.")


# --- more boxes than fit


def crowded(count: int) -> ImageFile:
    """An image with smaller and smaller boxes from the left to the right, in two rows."""
    boxes = [
        Box(n % 2, n * 2.0, 10.0 + 300 * (n % 2), n * 2.0 + 30 - n / 10, 40.0 + 300 * (n % 2)) for n in range(count)
    ]
    return ImageFile("a.png", 640, 640, False, "", boxes=tuple(boxes))


def test_boxes_that_are_too_many_are_ignored_and_not_learnt_as_background() -> None:
    known = detection_batches.Boxes([crowded(200)], (640, 640)).batch(np.array([0]))[0]
    learnt, crowds = known[known[:, 0] >= 0], known[known[:, 0] == CROWD]
    assert len(learnt) == MAX_OBJECTS
    assert learnt[:, 1].max() == 2 * (MAX_OBJECTS - 1), "the largest ones"
    assert 2 <= len(crowds) <= 16
    for n in range(MAX_OBJECTS, 200):
        box = np.array([n * 2.0, 10.0 + 300 * (n % 2), n * 2.0 + 30 - n / 10, 40.0 + 300 * (n % 2)])
        assert ((crowds[:, 1:3] <= box[:2] + 1e-3) & (crowds[:, 3:] >= box[2:] - 1e-3)).all(axis=1).any()
    few = detection_batches.Boxes([crowded(MAX_OBJECTS)], (640, 640)).batch(np.array([0]))[0]
    assert (few[:, 0] >= 0).sum() == MAX_OBJECTS
    assert not (few[:, 0] == CROWD).any()


def test_a_mosaic_with_more_boxes_than_fit_is_not_used() -> None:
    random = np.random.default_rng(1)
    images = random.uniform(0, 255, (4, *SIZE, 3)).astype(np.float32)
    full = np.zeros((4, 6, 5), np.float32)
    corners = random.uniform(2, 40, (4, 6, 2))
    full[..., 1:3], full[..., 3:] = corners, corners + 20
    full[:, 0, 0] = CROWD
    for seed in range(12):
        part, boxes = map(np.asarray, detection_batches.mosaics(images, tf.constant(full), tf.constant([seed, 1])))
        for number in range(4):
            if np.array_equal(part[number], images[number]):
                assert np.array_equal(boxes[number], full[number])
            else:
                assert (boxes[number, :, 0] == PADDING).any() or (boxes[number, :, 0] != PADDING).sum() <= 6
    few = np.full((4, 24, 5), PADDING, np.float32)
    few[:, :6] = full
    part, boxes = map(np.asarray, detection_batches.mosaics(images, tf.constant(few), tf.constant([3, 1])))
    assert not any(np.array_equal(part[number], images[number]) for number in range(4))


def test_a_crowd_of_which_little_is_seen_stays_a_crowd() -> None:
    known = tf.constant([[[CROWD, -90.0, 0, 10, 60], [1, -90, 0, 10, 60]]])
    assert np.asarray(detection_batches.cut(known, SIZE))[0, :, 0].tolist() == [CROWD, PADDING]
