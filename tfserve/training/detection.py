"""The recipe for detection: which objects are in an image, and where. Read it from top to bottom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import msgspec
import numpy as np

from tfserve.tensors import Array
from tfserve.training import (
    detection_batches,
    detection_exports,
    detection_metrics,
    detection_plots,
    detector,
    events,
    images,
    known_networks,
    pace,
    plots,
    report,
)
from tfserve.training.augment import Augment
from tfserve.training.checkpoints import State
from tfserve.training.detection_batches import Boxes
from tfserve.training.detection_loss import DetectionLoss
from tfserve.training.detection_metrics import Predicted, Truth
from tfserve.training.findings import ImageFile
from tfserve.training.fitting import fit, schedule
from tfserve.training.run import INPUT, Run, resume
from tfserve.training.sizes import network_size
from tfserve.training.splitting import Split, split
from tfserve.training.store import Store

LARGEST, LARGEST_FOR_SMALL_OBJECTS = 320, 512
SMALL_OBJECT = 12
"""Pixels of an object's side in the network's size, below which larger images are used."""
RATE = 2e-3
TRAINING, MEASURING, PLOTS = "training", "measuring", "plots"
MAX_TRIED = 16
"""Exports are tried on so many held-out images."""


@dataclass(frozen=True)
class Data:
    """The images in the network's size, and their boxes."""

    pictures: Store
    boxes: Boxes


def train(run: Run) -> dict[str, Any]:
    """Fills `run.aside` and returns what its metrics.json says."""
    found, chosen = run.findings, run.parameters
    rarest = zip(found.images, rarest_labels(found.images), strict=True)
    by_rarest = [msgspec.structs.replace(image, label=label) for image, label in rarest]
    parts = split(by_rarest, chosen["validation_split"], chosen["seed"])
    size = input_size(found.images, chosen["image_size"])
    chosen["network_size"] = list(size)
    weights = None if chosen["backbone"] == "scratch" else known_networks.packaged_weights()
    run.note(
        f"Backbone: EfficientNet-Lite0, {_origin(weights)}. The network sees images of {size[0]}x{size[1]} pixels."
    )

    data = _data(run, size)
    run.clock.expect(TRAINING, len(parts.training) * 1.0)
    run.clock.expect(PLOTS, 4.0, cores=1.0, fixed=True)
    run.clock.expect(MEASURING, len(parts.held_out) * 0.1 + 2, fixed=True)
    run.clock.expect(
        detection_exports.EXPORTS, 90.0, key=f"exports of a detection, {chosen['exports']}", cores=1.0, fixed=True
    )
    network, state = _fit(run, detector.detector(size, len(found.labels), weights), data, parts)
    network = detector.detections(network)

    truths = [truth_of(found.images[place]) for place in parts.held_out]
    measured_images = [found.images[place] for place in parts.held_out]
    with run.clock.stage(MEASURING, "measures the model on the held-out images"):
        predictions = predicted(network, data.pictures, measured_images, parts.held_out)
    measured = detection_metrics.evaluate(truths, predictions, found.labels)
    run.min_score = measured["best_score"]
    forms = detection_exports.export(run, network, data.pictures, parts)
    with run.clock.stage(PLOTS, "draws plots"), run.optional("A plot"):
        _draw(run, state, parts, truths, predictions, measured)
    with run.optional("logs/"):
        events.write(run.aside / "logs", state)
    run.learnt([*parts.training, *parts.selection], parts.held_out, "efficientnet-lite0")
    described = {
        "backbone": "efficientnet-lite0",
        "size": list(size),
        "input": INPUT,
        "weights": network.count_params(),
    }
    counts = {
        "training": len(parts.training), "selection": len(parts.selection), "held_out": len(parts.held_out),
        "selection_is_held_out": not parts.is_honest,
    }  # fmt: skip
    return report.write(run, measured, forms, described, state=state, counts=counts, more={})


def rarest_labels(found: Sequence[ImageFile]) -> list[int]:
    """For each image its class with the fewest objects in all images, so that a split gives both sides some of each.

    Classes that are the rarest of fewer than two images, and images without objects, are -1.
    """
    counts = np.bincount([box.label for image in found for box in image.boxes], minlength=1)
    rarest = [min((box.label for box in image.boxes), key=lambda label: counts[label], default=-1) for image in found]
    return [label if rarest.count(label) > 1 else -1 for label in rarest]


def input_size(found: Sequence[ImageFile], wanted: Any) -> tuple[int, int]:
    """Height and width that the network takes: larger where objects would be only a few pixels wide."""
    size = network_size(found, wanted, largest=LARGEST, multiple=32)
    if wanted != "auto":
        return size
    sides = [
        min((box.right - box.left) * size[1] / image.width, (box.bottom - box.top) * size[0] / image.height)
        for image in found for box in image.boxes
    ]  # fmt: skip
    if sides and np.percentile(sides, 25) < SMALL_OBJECT:
        return network_size(found, wanted, largest=LARGEST_FOR_SMALL_OBJECTS, multiple=32)
    return size


def truth_of(image: ImageFile) -> Truth:
    """In pixels of the image."""
    sides = [(box.left, box.top, box.right, box.bottom) for box in image.boxes]
    return Truth(
        np.array(sides, np.float64).reshape(-1, 4), np.array([box.label for box in image.boxes], int),
        np.array([box.crowd for box in image.boxes], bool),
    )  # fmt: skip


def predicted(network: Any, pictures: Store, found: Sequence[ImageFile], places: Array) -> list[Predicted]:
    """In pixels of the images."""
    compute = detector.as_function(network)
    predictions = []
    for image, place in zip(found, places, strict=True):
        outputs = compute(pictures.batch(np.array([place])).astype(np.float32))
        boxes, scores, labels, count = (np.asarray(outputs[name])[0] for name in ("boxes", "scores", "labels", "count"))
        sides = np.array([image.width, image.height, image.width, image.height])
        predictions.append(Predicted(boxes[:count] * sides, scores[:count], labels[:count]))
    return predictions


def _origin(weights: Any) -> str:
    return "from scratch" if weights is None else "with ImageNet weights"


def _data(run: Run, size: tuple[int, int]) -> Data:
    found = run.findings.images
    pictures = Store(
        len(found), (*size, 3), lambda place: images.pixels(run.file(place), size, run.background), run.work
    )
    message = f"reads {len(found)} images"
    with run.clock.stage("read images", message) as stage:
        pictures.load(run.threads, lambda share: stage.mention(share, f"{message}: {share:.0%}"))
    run.keep(pictures.batch)
    return Data(pictures, Boxes(found, size))


def _fit(run: Run, model: Any, data: Data, parts: Split) -> tuple[Any, State]:
    chosen = run.parameters
    if run.warm is not None:
        run.warm.fill(model)
    batch_size = min(run.batch_size, len(parts.training))
    rate = run.rate(RATE, continued=run.warm is not None)
    epochs = run.affordable(pace.epochs(chosen, len(parts.training), share=run.epochs_share), TRAINING)
    steps = len(parts.training) // batch_size
    checkpoints = run.checkpoints("detector", epochs)
    size = tuple(chosen["network_size"])
    model.compile(
        optimizer=keras.optimizers.AdamW(schedule(rate, epochs, steps), weight_decay=1e-4, clipnorm=10.0),
        loss=DetectionLoss(detector.cells(size), len(run.findings.labels)),
        jit_compile=False,
    )
    state = resume(run, model, checkpoints, "detector")
    training = detection_batches.shuffled(
        data.pictures, data.boxes, parts.training, batch_size, run.threads, seed=chosen["seed"] + state.epoch,
        augment=Augment.from_parameters(chosen), mosaic=chosen["mosaic"] and len(parts.training) >= batch_size,
    )  # fmt: skip
    selection = detection_batches.plain(data.pictures, data.boxes, parts.selection, batch_size, run.threads)
    with run.clock.limited(1.0), run.clock.stage(TRAINING) as stage:
        fit(
            model, training, selection, state=state, checkpoints=checkpoints, stage=stage,
            patience=chosen["patience"], steps=steps, selected_on=len(parts.selection),
        )  # fmt: skip
    return model, state


def _draw(
    run: Run, state: State, parts: Split, truths: Sequence[Truth], predictions: Sequence[Predicted],
    measured: dict[str, Any],
) -> None:  # fmt: skip
    labels, folder = run.findings.labels, run.aside / "plots"

    def shown(number: int) -> Array:
        return run.pixels(parts.held_out[number])

    plots.curves(folder / "curves.png", state.history)
    detection_plots.score_curve(folder / "precision_recall.png", measured["score_curve"], measured["best_score"])
    score = measured["best_score"]
    detection_plots.boxes(folder / "boxes.png", shown, truths, predictions, labels, score)
    detection_plots.worst_mistakes(folder / "worst_mistakes.png", shown, truths, predictions, labels, score)
