"""The recipe for segmentation: which class each pixel of an image belongs to. Read it from top to bottom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfserve.runtimes import image_metadata
from tfserve.tensors import Array
from tfserve.training import (
    datasets,
    evaluation,
    events,
    exports,
    graph_images,
    held_out,
    images,
    masks,
    pace,
    plots,
    report,
    signatures,
)
from tfserve.training.augment import Augment
from tfserve.training.checkpoints import State
from tfserve.training.datasets import Source
from tfserve.training.fitting import fit, schedule
from tfserve.training.images import Bad
from tfserve.training.run import INPUT, Run, resume
from tfserve.training.signatures import Segmenter
from tfserve.training.sizes import network_size, thumbnail_size
from tfserve.training.splitting import Split, split, spread
from tfserve.training.store import Store
from tfserve.training.timing import Stage
from tfserve.training.unet import IGNORED, MAX_DEPTH, cross_entropy_with_dice, depth_for, pixel_accuracy, unet

LARGEST = 256
RATE = 2e-3
MAX_TRIED = 20
"""Exports are tried on so many held-out images."""
MAX_SHOWN = 8
TRAINING, MEASURING, EXPORTS, PLOTS = "training", "measuring", "exports", "plots"

Masks = Callable[[Array], Array]
"""From images (1, height, width, 3) of 0 to 255 to the values of their masks (1, height, width)."""


def train(run: Run) -> dict[str, Any]:
    """Fills `run.aside` and returns what its metrics.json says."""
    found, chosen = run.findings, run.parameters
    parts = split(found.images, chosen["validation_split"], chosen["seed"])

    size = network_size(found.images, chosen["image_size"], largest=LARGEST, multiple=2**MAX_DEPTH)
    chosen["network_size"] = list(size)
    source = _source(run, size)
    run.note(
        f"U-Net with {depth_for(size)} halvings and {chosen['filters']} filters; it sees {size[0]}x{size[1]} pixels."
    )
    run.clock.expect(TRAINING, len(found.images) * 0.3)
    run.clock.expect(PLOTS, 4.0, cores=1.0, fixed=True)
    run.clock.expect(MEASURING, len(parts.held_out) * 0.1 + 2, fixed=True)
    run.clock.expect(EXPORTS, 40.0, key=f"exports of a segmentation, {chosen['exports']}", cores=1.0, fixed=True)
    network, state = _fit(run, source, parts, size)

    server = Segmenter(network, found.labels, found.numbers, found.display, background=chosen["background"])
    predict = _predict(server)
    measured = evaluation.segmentation(_confusion(run, predict, parts.held_out), found.labels)
    forms = _export(run, network, server, predict, source, parts)
    with run.clock.stage(PLOTS, "draws plots"), run.optional("A plot"):
        _draw(run, state, predict, parts, measured)
    with run.optional("logs/"):
        events.write(run.aside / "logs", state)
    run.learnt([*parts.training, *parts.selection], parts.held_out, "unet")
    told = {"backbone": "unet", "size": list(size), "input": INPUT, "weights": network.count_params()}
    counts = {
        "training": len(parts.training), "selection": len(parts.selection), "held_out": len(parts.held_out),
        "selection_is_held_out": not parts.is_honest,
    }  # fmt: skip
    return report.write(run, measured, forms, told, state=state, counts=counts, more={})


# --- images and masks


def _source(run: Run, size: tuple[int, int]) -> Source:
    """Images and masks in the network's size, read into memory when they are few."""
    count = len(run.findings.images)
    pictures = Store(count, (*size, 3), lambda place: images.pixels(run.file(place), size, run.background), run.work)
    known = Store(count, size, lambda place: _shrunk(_mask(run, place), size), run.work)
    for store, what in ((pictures, "images"), (known, "masks")):
        with run.clock.stage(f"read {what}", f"reads {count} {what}") as stage:
            store.load(run.threads, lambda share: stage.mention(share, f"reads {count} images and masks: {share:.0%}"))
    run.keep(pictures.batch, known.batch)
    return Source(pictures, known.batch, size)


def _mask(run: Run, place: int) -> Array:
    """Class numbers (height, width) uint8, in the image's own size; `IGNORED` where there is none."""
    image = run.findings.images[place]
    try:
        values = masks.read(run.project / str(image.mask))
        known = [*run.findings.numbers, *([] if run.findings.ignore is None else [run.findings.ignore])]
        if values.shape != (image.height, image.width) or not np.isin(values, known).all():
            raise Bad("it was changed after the examination of the project")
    except Bad as error:
        if run.masks is None:
            raise OSError(f"{image.mask}: {error}") from error
        run.note(f"{image.mask} was deleted or changed after it was read; what was read is used.")
        return _shrunk(run.masks(np.array([place]))[0], (image.height, image.width))
    classes = _classes(values, run.findings.numbers)
    if run.findings.ignore is not None:
        classes[values == run.findings.ignore] = IGNORED
    return classes


def _classes(values: Array, numbers: Sequence[int]) -> Array:
    return np.searchsorted(np.asarray(numbers), values).astype(np.uint8)


def _shrunk(mask: Array, size: tuple[int, int]) -> Array:
    """Each pixel takes the class of the nearest one."""
    rows = ((np.arange(size[0]) + 0.5) * mask.shape[0] / size[0]).astype(int)
    columns = ((np.arange(size[1]) + 0.5) * mask.shape[1] / size[1]).astype(int)
    return mask[np.ix_(rows, columns)]


# --- epochs


def _fit(run: Run, source: Source, parts: Split, size: tuple[int, int]) -> tuple[Any, State]:
    """The trained network, with chances as its output."""
    chosen, classes = run.parameters, len(run.findings.labels)
    model = unet(size, classes, filters=chosen["filters"])
    if run.warm is not None:
        run.warm.fill(model)
    batch_size = min(run.batch_size, len(parts.training))
    rate = run.rate(RATE, continued=run.warm is not None)
    epochs = run.affordable(pace.epochs(chosen, len(parts.training), share=run.epochs_share), TRAINING)
    steps = len(parts.training) // batch_size
    model.compile(
        optimizer=keras.optimizers.AdamW(schedule(rate, epochs, steps), weight_decay=1e-4),
        loss=cross_entropy_with_dice(classes, chosen["dice_weight"]),
        metrics=[
            keras.metrics.MeanIoU(classes, sparse_y_pred=False, ignore_class=IGNORED, name="mean_iou"),
            keras.metrics.MeanMetricWrapper(pixel_accuracy, name="accuracy"),
        ],
        jit_compile=False,
    )
    checkpoints = run.checkpoints("unet", epochs)
    state = resume(run, model, checkpoints, "U-Net")
    training = datasets.shuffled(
        source, parts.training, batch_size, run.threads,
        seed=chosen["seed"] + state.epoch, augment=Augment.from_parameters(chosen),
    )  # fmt: skip
    with run.clock.limited(1.0), run.clock.stage(TRAINING) as stage:
        fit(
            model, training, datasets.plain(source, parts.selection, batch_size, run.threads), state=state,
            checkpoints=checkpoints, stage=stage, patience=chosen["patience"], steps=steps,
            selected_on=len(parts.selection),
        )  # fmt: skip
    outputs = keras.layers.Softmax(name="probabilities")(model.output)
    return keras.Model(model.input, outputs, name="segmenter"), state


# --- what comes after


def _predict(server: Segmenter) -> Masks:
    floats = tf.TensorSpec((None, None, None, 3), tf.float32)
    function = tf.function(server.from_floats, input_signature=[floats])
    return lambda batch: np.asarray(function(tf.constant(batch, tf.float32))["mask"])


def _predicted(run: Run, predict: Masks, place: int) -> Array:
    """Class numbers (height, width), in the image's own size."""
    values = predict(run.pixels(place)[np.newaxis])[0]
    return _classes(values, run.findings.numbers)


def _confusion(run: Run, predict: Masks, places: Array) -> Array:
    """(classes, classes) counts of pixels, in the images' own sizes."""
    classes = len(run.findings.labels)
    matrix = np.zeros((classes, classes), np.int64)
    message = "measures the model on the held-out images"
    with run.clock.stage(MEASURING, message) as stage:
        for done, place in enumerate(places, start=1):
            matrix += evaluation.confusion(_mask(run, place), _predicted(run, predict, place), classes)
            stage.mention(done / len(places), message)
    return matrix


def _draw(run: Run, state: State, predict: Masks, parts: Split, measured: dict[str, Any]) -> None:
    folder, labels = run.aside / "plots", run.findings.labels
    plots.curves(folder / "curves.png", state.history)
    plots.confusion_matrix(folder / "confusion_matrix.png", np.asarray(measured["confusion_matrix"]), labels)
    rows = []
    for place in spread(parts.held_out, MAX_SHOWN):
        size = thumbnail_size(run.findings.images[place], 256)
        predicted = _shrunk(_predicted(run, predict, place), size)
        rows.append((run.pixels(place, size), _shrunk(_mask(run, place), size), predicted))
    plots.masks(folder / "masks.png", rows, len(labels))


def _export(
    run: Run, network: Any, server: Segmenter, predict: Masks, source: Source, parts: Split
) -> list[exports.Export]:
    """All forms, each tried on held-out images. The first is the SavedModel, without which there is no result."""
    with run.clock.stage(EXPORTS, "exports the SavedModel and the Keras file") as stage:
        return _exported(run, stage, network, server, predict, source, parts)


def _exported(
    run: Run, stage: Stage, network: Any, server: Segmenter, predict: Masks, source: Source, parts: Split
) -> list[exports.Export]:
    numbers, tried = run.findings.numbers, spread(parts.held_out, MAX_TRIED)
    signatures.save(network, server, run.aside / exports.SAVED_MODEL)
    originals = [run.data(place) for place in tried]
    with run.optional(str(image_metadata.HELD_OUT)):
        held_out.write(originals, run.aside / exports.SAVED_MODEL, run.background)
    trial = exports.Trial.of(network, run.aside, source.inputs.batch(tried).astype(np.float32), image=run.image())
    trial.add("SavedModel", exports.SAVED_MODEL, exports.saved_model("mask", values=numbers))
    trial.add(
        "SavedModel from files", exports.SAVED_MODEL, exports.saved_model("mask", "image_bytes", numbers),
        inputs=[np.array([graph_images.readable(data, run.background)], object) for data in originals],
        expected=[_predicted(run, predict, place)[np.newaxis] for place in tried], tolerance=exports.DECODED,
    )  # fmt: skip
    trial.add("Keras", exports.KERAS_FILE, exports.keras_file(network))
    if run.parameters["exports"] == "all":
        examples = source.inputs.batch(spread(parts.training, exports.MAX_CALIBRATION_IMAGES)).astype(np.float32)
        trial.add_small_forms(network, run.card(), examples, stage)
    return trial.results
