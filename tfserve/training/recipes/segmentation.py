"""The recipe for segmentation: which class each pixel of an image belongs to. Read it from top to bottom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import tensorflow as tf

from tfserve.tensors.specs import Array
from tfserve.training.dataset import image_reading
from tfserve.training.dataset.sizes import thumbnail_size
from tfserve.training.dataset.splitting import spread
from tfserve.training.export import exports
from tfserve.training.export.signatures import Segmenter
from tfserve.training.fit import pretrained
from tfserve.training.fit.candidates import Contest
from tfserve.training.fit.delivery import Delivered
from tfserve.training.fit.folds import independent
from tfserve.training.fit.map_rows import KnownMaps
from tfserve.training.fit.pretrained import BackboneChoice
from tfserve.training.fit.segmentation_material import SegmentationMaterial, bounded_file, measured_mask, shrunk
from tfserve.training.fit.segmenters import MaskDecoder, PixelHead, Trained, Tuned, UNet
from tfserve.training.recipes.contest import (
    PLOTS,
    SMALL_SIDE,
    compete,
    complete,
    deliver,
    draw,
    export,
    write_report,
)
from tfserve.training.recipes.run import RecipeRun
from tfserve.training.report import evaluation, mask_examples, mask_verdict, plots

MAX_TRIED = 20
"""Maximum held-out images on which exports are tried."""
MAX_SHOWN = 8
MAX_EXAMPLES = 12
"""Worst masks, and as many others, that are kept as files."""
MORE_WORK = 1.5
"""An image with a mask has more to learn from than one with a label."""
EXPORTS_S, PLOTS_S = (16.0, 5.0, 8.0, 5.0), 5.0
"""On a quiet ordinary machine; the exports for each of `exports.STAGES`."""

Masks = Callable[[Array], Array]
"""From images (1, height, width, 3) of 0 to 255 to the values of their masks (1, height, width)."""


def train(run: RecipeRun) -> dict[str, Any]:
    """Fills `run.aside` and returns what its metrics.json says."""
    found = run.findings
    choice = pretrained.choose_for_masks(run.parameters["backbone"], run.parameters["weights"])
    material = SegmentationMaterial(run)
    contest = _compete(run, material, choice)
    delivered = deliver(run, contest)

    indices, confusions, small = _measure(run, material, contest, delivered)
    measured = evaluation.segmentation(confusions.sum(axis=0, dtype=np.int64), found.labels)
    judged = _judge(material, indices, measured, small)
    complete(judged, run, contest, delivered, indices)
    forms = _export(run, material, contest, delivered, indices)
    with run.clock.stage(PLOTS, "Drawing plots"), run.optional("A plot"):
        draw(run, contest, delivered, measured, score="mean IoU")
        _draw_masks(run, indices, small)
    with run.optional("The examples of masks"):
        _write_examples(run, indices, small)
    return write_report(run, contest, delivered, choice, judged, measured, forms, indices)


# --- candidates


def _compete(run: RecipeRun, material: SegmentationMaterial, choice: BackboneChoice) -> Contest:
    """The candidates that the backbone allows."""
    network = "a U-Net" if choice.weights is None else "a known network for masks"
    exports.expect(run.clock, EXPORTS_S, network, run.parameters["exports"])
    run.clock.expect(PLOTS, PLOTS_S, cores=1.0, fixed=True)
    return compete(run, material.folds, np.ones(material.count), partial(_candidates, material, choice), work=MORE_WORK)


def _candidates(material: SegmentationMaterial, choice: BackboneChoice, allowed: float) -> list[PixelHead | Trained]:
    """In the order in which they are tried."""
    if choice.weights is None:
        return [UNet(material, allowed)]
    maps = KnownMaps(material, choice, allowed)
    decoder = MaskDecoder(material, maps)
    tuned = Tuned(material, maps, decoder)
    if material.run.parameters["backbone"] != "auto":
        return [PixelHead(material, maps), decoder, tuned]
    unet = UNet(material, allowed - maps.plain_s)
    if max(unet.size) <= SMALL_SIDE:
        return [PixelHead(material, maps), unet, decoder, tuned]
    return [PixelHead(material, maps), decoder, tuned, unet]


def _measure(
    run: RecipeRun, material: SegmentationMaterial, contest: Contest, delivered: Delivered
) -> tuple[Array, Array, Array]:  # fmt: skip
    """The images that the figures come from, and by models that never saw them: confusions (images, classes, classes)
    and small predicted masks (images, height, width)."""
    winner = contest.winner
    assert winner is not None
    test = contest.folds.test
    if len(test):
        message = "Measuring the model on the test part"
        with run.clock.stage("measuring", message) as stage:
            confusions, small = material.measure(
                delivered.network, material.pictures(delivered.size), test, lambda share: stage.mention(share, message)
            )  # fmt: skip
        return test, confusions[0], small[0]
    count, indices = contest.measured()
    return indices, winner.outputs(count), material.small_masks(winner.candidate, winner.variant, count)


def _judge(
    material: SegmentationMaterial, indices: Array, measured: dict[str, Any], small: Array
) -> mask_verdict.MaskVerdict:  # fmt: skip
    truth = np.stack([shrunk(measured_mask(material.run, index), small.shape[1:]) for index in indices])
    groups, has_class = independent(material.run.findings.images), material.pixels > 0
    return mask_verdict.judge(
        np.asarray(measured["confusion_matrix"]), measured["mean_iou"], truth, small, material.run.findings.names,
        images=[len(np.unique(groups[column])) for column in has_class.T],
        groups=[material.run.findings.images[index].group for index in indices],
    )  # fmt: skip


# --- what comes after


def _draw_masks(run: RecipeRun, indices: Array, small: Array) -> None:
    shown = []
    for at in spread(np.arange(len(indices)), MAX_SHOWN):
        index = indices[at]
        size = thumbnail_size(run.findings.images[index], 256)
        shown.append((run.pixels(index, size), shrunk(measured_mask(run, index), size), shrunk(small[at], size)))
    plots.masks(run.aside / "plots" / "masks.png", shown, len(run.findings.labels))


def _write_examples(run: RecipeRun, indices: Array, small: Array) -> None:
    """The worst ones, and as many others."""
    truth = np.stack([shrunk(measured_mask(run, index), small.shape[1:]) for index in indices])
    agreement = [mask_examples.iou(true, found) for true, found in zip(truth, small, strict=True)]
    worst = np.argsort(agreement)[:MAX_EXAMPLES]
    rest = np.setdiff1d(np.arange(len(indices)), worst)
    examples = []
    for at in [*worst, *spread(rest, MAX_EXAMPLES)]:
        image = run.findings.images[indices[at]]
        size = thumbnail_size(image, mask_examples.SIDE)
        true = shrunk(measured_mask(run, indices[at]), size)
        known = np.where(true < len(run.findings.labels), true, 0)  # ignored pixels look like the background
        examples.append((run.name(indices[at]), run.pixels(indices[at], size), known, shrunk(small[at], size)))
    mask_examples.write(run.aside, examples)


def _predict(server: Segmenter) -> Masks:
    floats = tf.TensorSpec((None, None, None, 3), tf.float32)
    function = tf.function(server.from_floats, input_signature=[floats], autograph=False)
    return lambda batch: np.asarray(function(tf.constant(batch, tf.float32))["mask"])


def _export(
    run: RecipeRun, material: SegmentationMaterial, contest: Contest, delivered: Delivered, indices: Array
) -> list[exports.Export]:
    found, network, tried = run.findings, delivered.network, spread(indices, MAX_TRIED)
    server = Segmenter(network, found.labels, found.numbers, found.display, background=run.parameters["background"])
    predict = _predict(server)
    read = cache(partial(bounded_file, run))

    def predicted(original: bytes) -> Array:
        """Class numbers (1, height, width), in the size of the file."""
        pixels = image_reading.decoded(original, run.background)
        return np.searchsorted(np.asarray(found.numbers), predict(pixels[np.newaxis]))

    def try_saved_model(trial: exports.ExportTrial, files: Sequence[Array]) -> None:
        trial.add("SavedModel", exports.SAVED_MODEL, exports.saved_model("mask", values=found.numbers))
        trial.add(
            "SavedModel from files", exports.SAVED_MODEL, exports.saved_model("mask", "image_bytes", found.numbers),
            inputs=files, expected=lambda: [predicted(read(index)) for index in tried], tolerance=exports.DECODED,
        )  # fmt: skip

    images = material.pictures(delivered.size)
    return export(run, contest, network, server, images, tried, read, try_saved_model)
