"""The recipe for segmentation: which class each pixel of an image belongs to. Read it from top to bottom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import tensorflow as tf

from tfserve.runtimes import image_metadata
from tfserve.tensors import Array
from tfserve.training import (
    budget,
    evaluation,
    events,
    exports,
    graph_images,
    held_out,
    known_networks,
    mask_verdict,
    plots,
    report,
    signatures,
)
from tfserve.training.candidates import Contest
from tfserve.training.known_networks import Choice
from tfserve.training.map_rows import KnownMaps
from tfserve.training.run import INPUT, Run
from tfserve.training.segmentation_material import Material, Segmented, measured_mask, shrunk
from tfserve.training.segmenters import Decoder, LinearHead, Trained, Tuned, UNet
from tfserve.training.signatures import Segmenter
from tfserve.training.sizes import thumbnail_size
from tfserve.training.splitting import spread
from tfserve.training.store import Store

MAX_TRIED = 20
"""Exports are tried on so many held-out images."""
MAX_SHOWN = 8
SMALL_SIDE = 64
"""Images up to this size are rarely photographs, and a U-Net for them is quick."""
MORE_WORK = 1.5
"""An image with a mask has more to learn from than one with a label."""
PLOTS = "plots and tables"
EXPORTS_S, PLOTS_S = (16.0, 5.0, 8.0, 5.0), 5.0
"""On a quiet ordinary machine; the exports for each of `exports.STAGES`."""

Masks = Callable[[Array], Array]
"""From images (1, height, width, 3) of 0 to 255 to the values of their masks (1, height, width)."""


def train(run: Run) -> dict[str, Any]:
    """Fills `run.aside` and returns what its metrics.json says."""
    found = run.findings
    choice = known_networks.choose_for_masks(run.parameters["backbone"], run.parameters["weights"])
    material = Material(run)
    contest = _compete(run, material, choice)
    delivered = _deliver(run, contest)

    places, confusions, small = _measure(run, material, contest, delivered)
    measured = evaluation.segmentation(confusions.sum(axis=0, dtype=np.int64), found.labels)
    said = _judge(material, places, measured, small)
    caveat = run.learnt(contest.folds.development, places, delivered.backbone, frozen=delivered.state is None)
    said.text += f", but {caveat}" if caveat else ""
    run.note(f"Verdict: {said.text}.")
    server = Segmenter(
        delivered.network, found.labels, found.numbers, found.display, background=run.parameters["background"]
    )
    forms = _export(run, material, delivered, server, places, contest)
    with run.clock.stage(PLOTS, "draws plots"), run.optional("A plot"):
        _draw(run, contest, delivered, places, small, measured)
    if delivered.state is not None:
        with run.optional("logs/"):
            events.write(run.aside / "logs", delivered.state)
    network = {
        "backbone": delivered.backbone, "why": choice.why, "size": list(delivered.size), "input": INPUT,
        "weights": delivered.network.count_params(),
    }  # fmt: skip
    more = {
        "verdict": said.text, "verdict_details": msgspec.to_builtins(said),
        "measured_on": contest.folds.measured_on(contest.measured()[0]),
        "candidates": [msgspec.to_builtins(entry.row) for entry in contest.entries],
    }  # fmt: skip
    counts = {"training": len(contest.folds.development), "held_out": len(places)}
    return report.write(run, measured, forms, network, state=delivered.state, counts=counts, more=more)


# --- candidates


def _compete(run: Run, material: Material, choice: Choice) -> Contest:
    """The candidates that the backbone allows, the cheapest first."""
    clock, network = run.clock, "a U-Net" if choice.weights is None else "a known network for masks"
    exports.expect(clock, EXPORTS_S, network, run.parameters["exports"])
    clock.expect(PLOTS, PLOTS_S, cores=1.0, fixed=True)
    allowed = MORE_WORK * budget.allowance(run.parameters, material.count)
    if clock.budget_s is not None:
        allowed = max(1.0, clock.spare_s / clock.speed)
    contest = Contest(material.folds, np.ones(material.count), allowed, run.work, run.fingerprint, run.note, clock)
    candidates = _candidates(material, choice, allowed)
    contest.expect(candidates)
    for candidate in candidates:
        contest.enter(candidate)
    return contest


def _candidates(material: Material, choice: Choice, allowed: float) -> list[LinearHead | Trained]:
    """In the order in which they are tried."""
    if choice.weights is None:
        return [UNet(material, allowed)]
    maps = KnownMaps(material, choice, allowed)
    decoder = Decoder(material, maps)
    tuned = Tuned(material, maps, decoder)
    if material.run.parameters["backbone"] != "auto":
        return [LinearHead(material, maps), decoder, tuned]
    unet = UNet(material, allowed - maps.plain_s)
    if max(unet.size) <= SMALL_SIDE:
        return [LinearHead(material, maps), unet, decoder, tuned]
    return [LinearHead(material, maps), decoder, tuned, unet]


def _deliver(run: Run, contest: Contest) -> Segmented:
    """The winner, trained on everything that may be learnt from."""
    winner = contest.winner
    assert winner is not None
    run.note(f"Delivered: {winner.row.name}, trained on all {len(contest.folds.development)} images.")
    with run.clock.limited(1.0):
        delivered: Segmented = winner.candidate.deliver(winner.variant, contest.folds.development)
    run.parameters["network_size"] = list(delivered.size)
    return delivered


def _measure(
    run: Run, material: Material, contest: Contest, delivered: Segmented
) -> tuple[Array, Array, Array]:  # fmt: skip
    """The images that the figures come from, and by models that never saw them: confusions (images, classes, classes)
    and small predicted masks (images, height, width)."""
    winner = contest.winner
    assert winner is not None
    test = contest.folds.test
    if len(test):
        message = "measures the model on the test part"
        with run.clock.stage("measuring", message) as stage:
            confusions, small = material.measure(
                delivered.network, material.pictures(delivered.size), test, lambda share: stage.mention(share, message)
            )  # fmt: skip
        return test, confusions[0], small[0]
    count, places = contest.measured()
    return places, winner.outputs(count), material.small_masks(winner.row.name, winner.variant, count)


def _judge(
    material: Material, places: Array, measured: dict[str, Any], small: Array
) -> mask_verdict.MaskVerdict:  # fmt: skip
    truth = np.stack([shrunk(measured_mask(material.run, place), small.shape[1:]) for place in places])
    return mask_verdict.judge(
        np.asarray(measured["confusion_matrix"]), measured["mean_iou"], truth, small, material.run.findings.labels,
        images=(material.pixels > 0).sum(axis=0).tolist(),
    )  # fmt: skip


# --- what comes after


def _draw(
    run: Run, contest: Contest, delivered: Segmented, places: Array, small: Array, measured: dict[str, Any]
) -> None:  # fmt: skip
    folder, labels = run.aside / "plots", run.findings.labels
    rows = [(entry.row.name, entry.row.score, entry.row.spread or 0.0) for entry in contest.entries]
    plots.candidates(folder / "candidates.png", rows, score="mean IoU")
    if delivered.state is not None:
        plots.curves(folder / "curves.png", delivered.state.history)
    else:
        plots.candidates(folder / "curves.png", rows, score="mean IoU")
    plots.confusion_matrix(folder / "confusion_matrix.png", np.asarray(measured["confusion_matrix"]), labels)
    shown = []
    for at in spread(np.arange(len(places)), MAX_SHOWN):
        place = places[at]
        size = thumbnail_size(run.findings.images[place], 256)
        shown.append((run.pixels(place, size), shrunk(measured_mask(run, place), size), shrunk(small[at], size)))
    plots.masks(folder / "masks.png", shown, len(labels))


def _predict(server: Segmenter) -> Masks:
    floats = tf.TensorSpec((None, None, None, 3), tf.float32)
    function = tf.function(server.from_floats, input_signature=[floats])
    return lambda batch: np.asarray(function(tf.constant(batch, tf.float32))["mask"])


def _export(
    run: Run, material: Material, delivered: Segmented, server: Segmenter, places: Array, contest: Contest
) -> list[exports.Export]:
    """All forms, each tried on held-out images. The first is the SavedModel, without which there is no result."""
    pictures = material.pictures(delivered.size)
    with exports.stage(run.clock, "SavedModel"):
        trial = _exported(run, pictures, delivered.network, server, spread(places, MAX_TRIED))
    if run.parameters["exports"] == "all":
        learnt = spread(contest.folds.development, exports.MAX_CALIBRATION_IMAGES)
        trial.add_small_forms(delivered.network, run.card(), pictures.batch(learnt).astype(np.float32), run.clock)
    return trial.results


def _exported(run: Run, pictures: Store, network: Any, server: Segmenter, tried: Array) -> exports.Trial:
    numbers, predict = run.findings.numbers, _predict(server)

    def predicted(place: int) -> Array:
        """Class numbers (1, height, width), in the image's own size."""
        values = predict(run.pixels(place)[np.newaxis])
        return np.searchsorted(np.asarray(numbers), values)

    signatures.save(network, server, run.aside / exports.SAVED_MODEL)
    originals = [run.data(place) for place in tried]
    with run.optional(str(image_metadata.HELD_OUT)):
        held_out.write(originals, run.aside / exports.SAVED_MODEL, run.background)
    trial = exports.Trial.of(network, run.aside, pictures.batch(tried).astype(np.float32), image=run.image())
    trial.add("SavedModel", exports.SAVED_MODEL, exports.saved_model("mask", values=numbers))
    trial.add(
        "SavedModel from files", exports.SAVED_MODEL, exports.saved_model("mask", "image_bytes", numbers),
        inputs=[np.array([graph_images.readable(data, run.background)], object) for data in originals],
        expected=[predicted(place) for place in tried], tolerance=exports.DECODED,
    )  # fmt: skip
    trial.add("Keras", exports.KERAS_FILE, exports.keras_file(network))
    return trial
