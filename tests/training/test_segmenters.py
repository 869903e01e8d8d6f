"""What decides which network a segmentation delivers, and what is said of it: numbers without a training."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfserve.errors import Invalid
from tfserve.training import efficientnet_lite, evaluation, known_networks, mask_verdict, pixel_head
from tfserve.training import segmentation_decoder as networks
from tfserve.training.augment import Augment
from tfserve.training.map_rows import Copies, Moved, leading
from tfserve.training.pixel_head import chosen_pixels, interpolated
from tfserve.training.segmentation_material import class_weights, credits_of, rarest_classes, shrunk
from tfserve.training.store import Store
from tfserve.training.unet import IGNORED, cross_entropy_with_dice, depth_for, macs, unet

LABELS = ["background", "ring", "dot"]


def confusions(seed: int, images: int = 7, classes: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 90, (images, classes, classes))


# --- the score of a candidate


def test_the_mean_of_the_credits_is_the_mean_iou_of_all_pixels() -> None:
    known = confusions(1)
    assert credits_of(known).mean() == pytest.approx(evaluation.segmentation(known.sum(axis=0), LABELS)["mean_iou"])


def test_a_class_that_no_held_out_image_has_counts_for_nobody() -> None:
    known = confusions(2)
    known[:, 2, :] = 0
    assert credits_of(known).mean() == pytest.approx(evaluation.segmentation(known.sum(axis=0), LABELS)["mean_iou"])


def test_images_with_nothing_but_background_are_measured_by_it() -> None:
    known = np.zeros((2, 3, 3), int)
    known[:, 0, 0] = 10
    assert credits_of(known).tolist() == [1.0, 1.0]
    known[0, 0] = [5, 5, 0]
    assert credits_of(known).mean() == pytest.approx(15 / 20)
    assert credits_of(np.zeros((2, 3, 3), int)).tolist() == [0.0, 0.0], "all ignored"


def test_an_image_with_a_better_mask_has_the_higher_credit() -> None:
    known = np.zeros((2, 2, 2), int)
    known[0] = [[80, 0], [0, 20]]
    known[1] = [[80, 0], [10, 10]]
    good, bad = credits_of(known)
    assert good > bad


# --- classes


def test_images_are_divided_by_their_rarest_class() -> None:
    pixels = np.array([[0.9, 0.1, 0], [0.8, 0.1, 0.1], [1, 0, 0], [0, 0.2, 0]])
    assert rarest_classes(pixels) == [1, 2, 0, 1]


def test_the_weights_of_classes_have_a_mean_of_1_over_all_pixels_and_favour_rare_ones() -> None:
    pixels = np.array([9000.0, 900.0, 100.0])
    weights = class_weights(pixels, balanced=True)
    assert (weights * pixels).sum() / pixels.sum() == pytest.approx(1, rel=1e-5)
    assert weights[2] / weights[0] == pytest.approx(np.sqrt(90), rel=1e-5)
    assert class_weights(pixels, balanced=False).tolist() == [1, 1, 1]
    assert np.isfinite(class_weights(np.array([5.0, 0.0]), balanced=True)).all()


def test_ignored_pixels_and_class_weights_in_the_loss() -> None:
    random = np.random.default_rng(1)
    masks, logits = random.integers(0, 2, (2, 8, 8)), random.normal(size=(2, 8, 8, 2)).astype(np.float32)
    masks[:, :, 4:] = IGNORED
    loss, entropy, plain = (
        lambda *given, made=made: float(np.mean(made(*given)))
        for made in (
            cross_entropy_with_dice(2, 0.5, [1.0, 3.0]), cross_entropy_with_dice(2, 0.0, [1.0, 3.0]),
            cross_entropy_with_dice(2, 0.0),
        )
    )  # fmt: skip
    other = logits.copy()
    other[:, :, 4:] = 50 * random.normal(size=(2, 8, 4, 2))
    assert loss(masks, logits) == pytest.approx(loss(masks, other), rel=1e-5)
    only_second = np.where(masks == 1, 1, IGNORED)
    assert entropy(only_second, logits) == pytest.approx(3 * plain(only_second, logits), rel=1e-5)


# --- pixels for the linear head


def test_every_class_gives_pixels_and_ignored_ones_give_none() -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[10, 10] = 2
    mask[20:30, 20:30] = 1
    mask[40:] = IGNORED
    positions, shares = chosen_pixels(mask, 90, np.random.default_rng(1))
    found = mask[positions[:, 0], positions[:, 1]]
    assert np.bincount(found).tolist() == [30, 30, 1]
    assert shares.sum() == pytest.approx((mask != IGNORED).sum())
    assert len(chosen_pixels(np.full((4, 4), IGNORED), 90, np.random.default_rng(1))[0]) == 0


def test_features_between_the_positions_of_a_map_are_those_of_the_enlarged_map() -> None:
    random = np.random.default_rng(1)
    shapes = [(64 // stride, 96 // stride, 3) for stride in efficientnet_lite.STRIDES]
    maps = [random.normal(size=shape).astype(np.float32) for shape in shapes]
    positions = np.argwhere(np.ones((64, 96)))
    found = interpolated(np.concatenate([each.ravel() for each in maps]), shapes, positions)
    enlarged = np.concatenate([tf.image.resize(each, (64, 96)) for each in maps], axis=-1).reshape(-1, 12)
    assert np.allclose(found, enlarged, atol=1e-5)


def test_a_head_of_pixels_becomes_a_network_with_the_same_answers() -> None:
    random = np.random.default_rng(1)
    shapes = [(64 // stride, 64 // stride, width) for stride, width in zip((4, 8, 16, 32), (2, 3, 4, 5), strict=True)]
    kernel, bias = random.normal(size=(14, 3)).astype(np.float32), np.array([0.1, 0.2, 0.3], np.float32)
    network = networks.linear(shapes, kernel, bias)
    maps = [np.ones((1, *shape), np.float32) * n for n, shape in enumerate(shapes, start=1)]
    values = np.concatenate([np.full(shape[-1], n) for n, shape in enumerate(shapes, start=1)])
    assert network(maps).shape == (1, 16, 16, 3)
    assert np.allclose(network(maps), values @ kernel + bias, atol=1e-4)


def test_a_rare_class_is_learnt_from_few_pixels() -> None:
    random = np.random.default_rng(1)
    labels = (random.random(4000) < 0.01).astype(int)
    features = random.normal(size=(4000, 5)).astype(np.float32) + 1.5 * labels[:, np.newaxis]
    pixels = pixel_head.Pixels(features, labels, np.zeros(4000, int), np.ones(4000))
    weights = class_weights(np.bincount(labels).astype(float), balanced=True)
    found, plain = (
        pixel_head.solve(pixels, each)[-1].probabilities(features).argmax(axis=1) for each in (weights, np.ones(2))
    )
    assert (found[labels == 1] == 1).mean() > max(0.75, (plain[labels == 1] == 1).mean() + 0.05)
    assert len(pixels.of(np.array([1])).labels) == 0


# --- maps that are computed once


@pytest.fixture(scope="module")
def weights() -> Path:
    known = known_networks.packaged_weights()
    assert known is not None
    return known


def test_training_on_rows_is_training_on_images(weights: Path) -> None:
    size = (64, 96)
    backbone = networks.backbone(size, weights)
    shapes = networks.shapes(backbone)
    assert [shape[:2] for shape in shapes] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    body = networks.decoder(shapes, 3)
    image = np.random.default_rng(1).uniform(0, 255, (1, *size, 3)).astype(np.float32)
    rows = networks.rows(backbone)(image)
    logits = networks.from_rows(shapes, body)(rows)
    assert logits.shape == (1, 32, 48, 3)
    chances = networks.segmenter(backbone, [body])(image)
    assert chances.shape == (1, *size, 3)
    assert np.allclose(np.asarray(chances).sum(axis=-1), 1, atol=1e-5)
    assert np.allclose(chances, networks.segmenter_of_rows(shapes, [body])(rows), atol=1e-4)


def test_the_tuned_part_begins_at_stride_8_and_gives_the_same_maps(weights: Path) -> None:
    size = (64, 64)
    backbone = networks.backbone(size, weights)
    upper = networks.tunable(backbone)
    image = np.random.default_rng(1).uniform(0, 255, (1, *size, 3)).astype(np.float32)
    maps = keras.Model(backbone.input, networks.maps(backbone))(image)
    for given, expected in zip(upper(maps[1]), maps[2:], strict=True):
        assert np.allclose(given, expected, atol=1e-4)
    assert not backbone.get_layer("block3").trainable
    assert backbone.get_layer("block5").trainable
    before = backbone.get_layer("block10").get_weights()[0].copy()
    fine = networks.shapes(backbone)[:2]
    body = networks.decoder(networks.shapes(backbone), 2)
    model = networks.from_rows(fine, lambda levels: body([*levels, *upper(levels[-1])]))
    model.compile(optimizer="sgd", loss=cross_entropy_with_dice(2, 0.5))
    row = leading(Copies([_Rows(networks.rows(backbone)(image))], 1), model.input_shape[1]).batch(np.array([0]))
    model.train_on_batch(row, np.ones((1, 32, 32), int))
    assert not np.allclose(before, backbone.get_layer("block10").get_weights()[0]), "the backbone itself is tuned"


class _Rows:
    def __init__(self, values: tf.Tensor) -> None:
        self._values = np.asarray(values)
        self.shape, self.dtype = self._values.shape[1:], self._values.dtype

    def batch(self, places: np.ndarray) -> np.ndarray:
        return self._values[places]


def test_masks_are_moved_as_their_images_are(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    masks = np.zeros((3, 64, 64), np.uint8)
    for mask in masks:
        top, left = random.integers(10, 30, 2)
        mask[top : top + 20, left : left + 20] = 1
    pictures = np.stack([masks * 200] * 3, axis=-1).astype(np.uint8)
    stores = [
        Store(3, values.shape[1:], lambda place, values=values: values[place], tmp_path) for values in (pictures, masks)
    ]
    for store in stores:
        store.load(1, lambda _: None)
    augment = Augment(rotation=30, shift=0.1, zoom=0.2, brightness=0, mirror=True)
    moved = Moved(*stores, augment, 5)
    batch = moved.batch(np.arange(3))
    for place in range(3):
        assert (moved.mask(place) == (batch[place, :, :, 0] > 100)).mean() > 0.98
        assert (moved.mask(place) != masks[place]).any()
        assert np.array_equal(moved.batch(np.array([place]))[0], batch[place]), "the same whenever it is read"
    assert not np.array_equal(Moved(*stores, augment, 6).mask(0), moved.mask(0))


def test_copies_follow_the_originals() -> None:
    parts = [_Rows(tf.reshape(tf.range(6.0), (3, 2))), _Rows(10 + tf.reshape(tf.range(6.0), (3, 2)))]
    copies = Copies(parts, 3)
    assert copies.places(np.array([0, 2])).tolist() == [0, 2, 3, 5]
    assert copies.batch(np.array([5, 0])).tolist() == [[14, 15], [0, 1]]


def test_masks_made_smaller_keep_their_classes() -> None:
    mask = np.array([[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]], np.uint8)
    assert shrunk(mask, (2, 2)).tolist() == [[1, 2], [3, 4]]
    assert shrunk(mask[:2, :2], (3, 5)).tolist() == [[1] * 5] * 3


@pytest.mark.parametrize("size", [(64, 64), (32, 96)])
def test_the_cost_of_a_u_net_is_that_of_its_layers(size: tuple[int, int]) -> None:
    network = unet(size, 2, filters=8)
    total = 0
    for layer in network.layers:
        if isinstance(layer, keras.layers.Conv2DTranspose):
            total += np.prod(layer.output.shape[1:3]) / 4 * np.prod(layer.kernel.shape)
        elif isinstance(layer, keras.layers.Conv2D) and layer.name != "logits":
            total += np.prod(layer.output.shape[1:3]) * np.prod(layer.kernel.shape)
    assert depth_for(size) > 1
    assert macs(size, filters=8) == pytest.approx(total, rel=0.1)


# --- the choice of a backbone


def test_the_backbone_and_its_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, weights: Path) -> None:
    choose = known_networks.choose_for_masks
    assert choose("auto", "auto").name == choose("efficientnet-lite0", "auto").name == "efficientnet-lite0"
    assert choose("unet", "auto").weights is None
    own = tmp_path / "own.pth"
    own.symlink_to(weights)
    assert choose("auto", str(own)).weights == own
    for backbone, given, words in (
        ("auto", "net.h5", r"\.pth"), ("unet", str(own), "from scratch"), ("auto", "/nowhere/a.pth", "does not exist"),
    ):  # fmt: skip
        with pytest.raises(Invalid, match=words):
            choose(backbone, given)
    monkeypatch.setattr(known_networks, "PACKAGE", "a_package_that_nobody_has")
    assert choose("auto", "auto").name == "unet"
    with pytest.raises(Invalid, match="not installed"):
        choose("efficientnet-lite0", "auto")


# --- the verdict


def squares(count: int, seed: int = 1) -> np.ndarray:
    """A square of class 1 somewhere in each mask."""
    random = np.random.default_rng(seed)
    masks = np.zeros((count, 32, 32), np.uint8)
    for mask in masks:
        top, left = random.integers(0, 22, 2)
        mask[top : top + 10, left : left + 10] = 1
    return masks


def judged(
    truth: np.ndarray, predicted: np.ndarray, images: tuple[int, ...] = (20, 20, 20)
) -> mask_verdict.MaskVerdict:
    matrix = evaluation.confusion(truth, predicted, 3)
    mean_iou = evaluation.segmentation(matrix, LABELS)["mean_iou"]
    return mask_verdict.judge(matrix, mean_iou, truth, predicted, LABELS, images=images)


def test_masks_that_fit_their_images_are_good() -> None:
    truth = squares(12)
    assert judged(truth, truth).code == "good"
    shifted = np.roll(truth, 4, axis=2)
    said = judged(truth, shifted)
    assert said.code == "fair"
    assert said.text.startswith("fair (mean IoU 0.")
    assert "on 12 images" in said.text


@pytest.mark.parametrize("answer", ["background", "the same square", "squares of other images"])
def test_answers_that_have_nothing_to_do_with_the_image_are_no_better_than_guessing(answer: str) -> None:
    truth = squares(15)
    predicted = {
        "background": np.zeros_like(truth), "the same square": np.stack([truth[0]] * 15),
        "squares of other images": squares(15, seed=9),
    }[answer]  # fmt: skip
    said = judged(truth, predicted)
    assert said.code == "guessing"
    assert said.text.startswith("no better than guessing")


def test_three_images_are_too_few_to_tell() -> None:
    said = judged(squares(3), squares(3))
    assert said.code == "too_few"
    assert "add images" in said.text


def test_what_is_not_found_and_what_has_few_images_is_named() -> None:
    truth = squares(12)
    truth[:, 0, :3] = 2
    predicted = np.where(truth == 2, 0, truth).astype(np.uint8)
    said = judged(truth, predicted, (12, 12, 3))
    assert (said.hardly_found, said.few_images) == (["dot"], ["dot"])
    assert "but `dot` is hardly found" in said.text
    assert "too few images to tell how good it is at `dot`" in said.text
    taken = judged(truth, np.where(truth == 2, 2, np.where(squares(12) == 1, 2, 0)).astype(np.uint8))
    assert ("ring", "dot", 1.0) in taken.taken


def test_ignored_pixels_do_not_count_in_the_verdict() -> None:
    truth, predicted = squares(12), squares(12)
    predicted[:, :, 16:] = 1 - predicted[:, :, 16:]
    truth[:, :, 16:] = IGNORED
    assert judged(truth, predicted).code == "good"
