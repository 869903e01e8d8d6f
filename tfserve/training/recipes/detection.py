"""The recipe for detection: which objects are in an image, and where. Read it from top to bottom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfserve.tensors.specs import Array
from tfserve.training.dataset.dataset_index import ImageFile
from tfserve.training.dataset.decoded_images import Store
from tfserve.training.dataset.sizes import network_size
from tfserve.training.dataset.splitting import rarest_labels, spread
from tfserve.training.export import detection_exports, exports
from tfserve.training.fit import detection_batches, detector, pretrained
from tfserve.training.fit.augment import Augment
from tfserve.training.fit.checkpoints import State
from tfserve.training.fit.detection_batches import Boxes
from tfserve.training.fit.detection_loss import DetectionLoss
from tfserve.training.fit.fitting import fit, schedule
from tfserve.training.fit.folds import divide_loosely
from tfserve.training.recipes import schedule_defaults
from tfserve.training.recipes.run import INPUT, RecipeRun, resume
from tfserve.training.report import box_examples, detection_metrics, detection_plots, plots, report
from tfserve.training.report.detection_metrics import Predicted, Truth

LARGEST, LARGEST_FOR_SMALL_OBJECTS = 320, 512
SMALL_OBJECT = 12
"""Pixels of an object's side in the network's size, below which larger images are used."""
RATE = 2e-3
TRAINING, MEASURING, PLOTS = "training", "measuring", "plots"
LEARNING_ALL = "learning from all images"
SHARE_OF_ALL, RATE_OF_ALL = 0.2, 0.25
"""Epochs and learning rate of learning from all images, as shares of those before."""
HARM = 0.02
"""mAP50 that the model may lose by learning from all images, which chance explains."""
MAX_SHOWN = 16
"""Images whose loss is shown after each epoch."""
IMAGE_S, BUILD_S = 0.065, 20.0
"""Seconds that two ordinary cores take to learn from an image of 256x256 once, and until the first step."""


@dataclass(frozen=True)
class Data:
    """The images in the network's size, and their boxes."""

    pictures: Store
    boxes: Boxes


@dataclass(frozen=True)
class ImagePositions:
    """Positions in the index of images, sorted. `every` is all that may be learnt from once the model is measured."""

    training: Array
    held_out: Array
    every: Array
    measured_on: str


@dataclass(frozen=True)
class Phase:
    """One training: `name` is the folder of its checkpoints, `stage` what the clock and messages call it."""

    name: str
    stage: str
    indices: Array
    epochs: int
    rate: float


def train(run: RecipeRun) -> dict[str, Any]:
    """Fills `run.aside` and returns what its metrics.json says.

    The network is trained on one part of the images and measured on the other. Then it is trained further on all of
    them, unless the project has its own test part, which is never used for training.
    """
    found, chosen = run.findings, run.parameters
    parts = divided(found.images, chosen["validation_split"], chosen["seed"])
    size = input_size(found.images, chosen["image_size"])
    chosen["network_size"] = list(size)
    weights = None if chosen["backbone"] == "scratch" else pretrained.packaged_weights()
    run.note(f"Backbone: EfficientNet-Lite0, {_origin(weights)}. Image size: {size[0]}x{size[1]}.")
    data = _data(run, size)
    run.clock.expect(PLOTS, 4.0, cores=1.0, fixed=True)
    run.clock.expect(MEASURING, len(parts.held_out) * 0.1 + 2, fixed=True)
    exports.expect(run.clock, detection_exports.EXPORTS_S, "a detector", chosen["exports"])
    phases = _phases(run, parts, size)
    model = detector.detector(size, len(found.labels), weights)
    if run.warm is not None:
        run.warm.fill(model)
    _compile(run, model, phases)
    state = _fit(run, model, data, parts, phases[0])
    network = detector.detections(model)

    truths = [truth_of(found.images[index]) for index in parts.held_out]
    measured_images = [found.images[index] for index in parts.held_out]
    with run.clock.stage(MEASURING, "Measuring the model on the held-out images"):
        predictions = predicted(network, data.pictures, measured_images, parts.held_out)
    measured = detection_metrics.evaluate(truths, predictions, found.labels)
    learnt, learnt_from = parts.training, "all images but the held-out part"
    if len(phases) > 1 and _learn_from_all(run, model, network, data, parts, phases[1], measured["map50"]):
        learnt, learnt_from = parts.every, "all images"
    measured["verdict"] = run.conclude(measured["verdict"], learnt, parts.held_out, "efficientnet-lite0")
    run.min_score = measured["best_score"]
    forms = detection_exports.export(run, network, data.pictures, learnt, parts.held_out)
    with run.clock.stage(PLOTS, "Drawing plots"), run.optional("A plot"):
        _draw(run, state, parts, truths, predictions, measured)
    with run.optional("A page of examples"):
        names = [run.name(index) for index in parts.held_out]
        box_examples.write(
            run.aside, names, lambda at: run.pixels(parts.held_out[at]), truths, predictions, run.min_score
        )
    described = {
        "backbone": "efficientnet-lite0",
        "size": list(size),
        "input": INPUT,
        "weights": network.count_params(),
    }
    more = {"measured_on": parts.measured_on, "learnt_from": learnt_from}
    counts = {"training": len(learnt), "held_out": len(parts.held_out)}
    return report.write(run, measured, forms, described, state=state, counts=counts, more=more)


def divided(found: Sequence[ImageFile], share: float, seed: int) -> ImagePositions:
    """The project's own test part is held out, else its validation part, else about `share` of each class."""
    folds = divide_loosely(found, rarest_labels(found), share, seed)
    measured_on = folds.measured_on(1)
    if len(folds.test):
        return ImagePositions(folds.development, folds.test, folds.development, measured_on)
    return ImagePositions(folds.folds[0].training, folds.folds[0].held_out, folds.development, measured_on)


def input_size(found: Sequence[ImageFile], requested: Any) -> tuple[int, int]:
    """Height and width that the network takes: larger where objects would be only a few pixels wide."""
    size = network_size(found, requested, largest=LARGEST, multiple=32)
    if requested != "auto":
        return size
    sides = [
        min((box.right - box.left) * size[1] / image.width, (box.bottom - box.top) * size[0] / image.height)
        for image in found for box in image.boxes
    ]  # fmt: skip
    if sides and np.percentile(sides, 25) < SMALL_OBJECT:
        return network_size(found, requested, largest=LARGEST_FOR_SMALL_OBJECTS, multiple=32)
    return size


def truth_of(image: ImageFile) -> Truth:
    """In pixels of the image."""
    sides = [(box.left, box.top, box.right, box.bottom) for box in image.boxes]
    return Truth(
        np.array(sides, np.float64).reshape(-1, 4), np.array([box.label for box in image.boxes], int),
        np.array([box.crowd for box in image.boxes], bool),
    )  # fmt: skip


def predicted(network: Any, pictures: Store, found: Sequence[ImageFile], indices: Array) -> list[Predicted]:
    """In pixels of the images."""
    compute = detector.as_function(network)
    predictions = []
    for image, index in zip(found, indices, strict=True):
        outputs = compute(pictures.batch(np.array([index])).astype(np.float32))
        boxes, scores, labels, count = (np.asarray(outputs[name])[0] for name in ("boxes", "scores", "labels", "count"))
        sides = np.array([image.width, image.height, image.width, image.height])
        predictions.append(Predicted(boxes[:count] * sides, scores[:count], labels[:count]))
    return predictions


def _origin(weights: Any) -> str:
    return "from scratch" if weights is None else "with ImageNet weights"


def _data(run: RecipeRun, size: tuple[int, int]) -> Data:
    found = run.findings.images
    pictures = run.store("read images", "images", (*size, 3), lambda index: run.pixels(index, size))
    run.keep(pictures.batch)
    return Data(pictures, Boxes(found, size))


def _phases(run: RecipeRun, parts: ImagePositions, size: tuple[int, int]) -> list[Phase]:
    """Both, or only the first where nothing is left to learn from after it; their stages are expected."""
    rate = run.rate(RATE, continued=run.warm is not None)
    usual = schedule_defaults.epochs(run.parameters, len(parts.training), share=run.epochs_share)
    epoch_s = len(parts.training) * IMAGE_S * size[0] * size[1] / 256**2
    run.clock.expect(TRAINING, usual * epoch_s * (1 + SHARE_OF_ALL) + BUILD_S)
    epochs = run.affordable(usual, TRAINING)
    run.clock.expect(TRAINING, epochs * epoch_s + BUILD_S)
    phases = [Phase("detector", TRAINING, parts.training, epochs, rate)]
    if len(parts.every) > len(parts.training):
        again = max(1, round(epochs * SHARE_OF_ALL))
        run.clock.expect(LEARNING_ALL, again * epoch_s * len(parts.every) / len(parts.training))
        phases.append(Phase("all-images", LEARNING_ALL, parts.every, again, rate * RATE_OF_ALL))
    return phases


def _compile(run: RecipeRun, model: Any, phases: Sequence[Phase]) -> None:
    """Once for all phases: to build the graph takes as long as twenty steps."""
    steps = [len(phase.indices) // min(run.batch_size, len(phase.indices)) for phase in phases]
    schedules = [schedule(phase.rate, phase.epochs, count) for phase, count in zip(phases, steps, strict=True)]
    totals = [phase.epochs * count for phase, count in zip(phases, steps, strict=True)]
    share = 1.0 if run.parameters["backbone"] == "scratch" else detector.BACKBONE_RATE
    model.compile(
        optimizer=detector.Optimizer(detector.Rates(schedules, totals), share),
        loss=DetectionLoss(detector.cells(tuple(run.parameters["network_size"])), len(run.findings.labels)),
        jit_compile=False,
    )


def _fit(run: RecipeRun, model: Any, data: Data, parts: ImagePositions, phase: Phase) -> State:
    """Trains to the end of the schedule. The loss of a few held-out images is shown, and decides nothing."""
    chosen = run.parameters
    batch_size = min(run.batch_size, len(phase.indices))
    steps = len(phase.indices) // batch_size
    checkpoints = run.checkpoints(phase.name, phase.epochs)
    state = resume(run, model, checkpoints, phase.stage)
    if phase.stage == LEARNING_ALL and not state.epoch:  # the phase before may have ended early, to keep a budget
        model.optimizer.begin_last()
    training = detection_batches.shuffled(
        data.pictures, data.boxes, phase.indices, batch_size, run.threads, seed=chosen["seed"] + state.epoch,
        augment=Augment.from_parameters(chosen), mosaic=chosen["mosaic"] and len(phase.indices) >= batch_size,
    )  # fmt: skip
    shown = None
    if phase.stage == TRAINING:
        shown = detection_batches.plain(
            data.pictures, data.boxes, spread(parts.held_out, MAX_SHOWN), batch_size, run.threads
        )
    share = 1.0 if phase.stage == LEARNING_ALL else 1 / (1 + SHARE_OF_ALL)
    with run.clock.limited(share), run.clock.stage(phase.stage) as stage:
        fit(
            model, training, shown, state=state, checkpoints=checkpoints, stage=stage, patience=phase.epochs,
            steps=steps, selected_on=0, name="" if phase.stage == TRAINING else phase.stage,
        )  # fmt: skip
    return state


def _learn_from_all(
    run: RecipeRun, model: Any, network: Any, data: Data, parts: ImagePositions, phase: Phase, honest: float
) -> bool:
    """Whether the model has learnt from all images: if that did not harm it on those that it knows by now."""
    before = model.get_weights()
    state = _fit(run, model, data, parts, phase)
    found = [run.findings.images[index] for index in parts.held_out]
    after = detection_metrics.evaluate(
        list(map(truth_of, found)), predicted(network, data.pictures, found, parts.held_out), run.findings.labels
    )["map50"]
    if after >= honest - HARM:
        run.note(trained_further(len(parts.every), state))
        return True
    model.set_weights(before)
    run.note(
        f"Training on all images made the model worse (mAP50 {after:.3f} on images that it was then trained on,"
        f" {honest:.3f} before), so the earlier model is delivered."
    )
    return False


def trained_further(images: int, state: State) -> str:
    """The note about the training on all images, which a budget or a person may have ended."""
    epochs = f"{state.epochs}" if state.epoch >= state.epochs else f"only {state.epoch} of {state.epochs}"
    return f"After measuring, the model was trained further on all {images} images, for {epochs} epochs."


def _draw(
    run: RecipeRun, state: State, parts: ImagePositions, truths: Sequence[Truth], predictions: Sequence[Predicted],
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
