"""The recipe for classification: which of several classes an image belongs to. Read it from top to bottom."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from tfserve.tensors import Array
from tfserve.training import (
    backbones,
    datasets,
    evaluation,
    events,
    exports,
    graph_images,
    held_out,
    images,
    known_networks,
    plots,
    report,
    signatures,
)
from tfserve.training.augment import Augment
from tfserve.training.checkpoints import State
from tfserve.training.datasets import Source
from tfserve.training.features import Features
from tfserve.training.fitting import fit, schedule
from tfserve.training.known_networks import Choice
from tfserve.training.progress import FITTED
from tfserve.training.run import INPUT, Run, resume
from tfserve.training.sizes import network_size, thumbnail_size
from tfserve.training.splitting import Split, split, spread
from tfserve.training.store import Store

LARGEST_COMPACT = 128
RATES = {"compact": 3e-3, "transfer": 2e-3}
UNBALANCED = 1.5
"""Classes count differently when the largest has so many times the images of the smallest."""
MAX_TRIED = 100
"""Exports are tried on so many held-out images."""
MAX_MISTAKES = 24


def train(run: Run) -> dict[str, Any]:
    """Fills `run.aside` and returns what its metrics.json says."""
    found, parameters = run.findings, run.parameters
    labels = [image.label for image in found.images]
    parts = split(labels, parameters["validation_split"], parameters["seed"])

    choice = known_networks.choose(parameters["backbone"], parameters["weights"])
    size = _size(run, choice)
    parameters["network_size"] = list(size)
    run.note(f"Backbone: {choice.name}, {choice.why}. Images are learnt from in {size[0]}x{size[1]} pixels.")

    pictures = _store(run, size)
    pictures.load(run.threads, run.telling(f"reads {len(labels)} images", 1.0, 3.0))
    source = Source(pictures, datasets.labels_of(labels))
    run.reporter.say(4.0, f"backbone {choice.name}: {choice.why}")
    if choice.weights is None:
        network, state = _from_scratch(run, source, parts, size)
    else:
        network, state = _transfer(run, source, parts, choice, size)

    run.reporter.say(FITTED, "measures the model on the held-out images", eta_s=15)
    chances = _chances(network, source, parts.held_out, run.threads)
    truth = np.asarray(labels)[parts.held_out]
    measured = evaluation.classification(truth, chances, found.labels)
    _draw(run, state, parts, truth, chances, measured)
    forms = _export(run, network, source, parts)
    events.write(run.aside / "logs", state)
    run.reporter.say(98.0, "writes the report")
    told = {"backbone": choice.name, "why": choice.why, "size": list(size), "input": INPUT}
    return report.write(run, parts, state, measured, forms, told | {"weights": network.count_params()})


# --- images


def _size(run: Run, choice: Choice) -> tuple[int, int]:
    """Height and width that the network takes: from the images, unless they are asked for."""
    wanted = run.parameters["image_size"]
    if choice.weights is None:
        return network_size(run.findings.images, wanted, largest=LARGEST_COMPACT, multiple=4)
    height, width = network_size(
        run.findings.images, wanted, largest=max(known_networks.KNOWN[choice.name].sizes), multiple=1
    )
    side = min(known_networks.KNOWN[choice.name].sizes, key=lambda known: (known < max(height, width), known))
    return side, side


def _store(run: Run, size: tuple[int, int]) -> Store:
    found = run.findings.images
    return Store(len(found), (*size, 3), lambda place: images.pixels(run.file(place), size, run.background), run.work)


# --- epochs


def _from_scratch(run: Run, source: Source, parts: Split, size: tuple[int, int]) -> tuple[Any, State]:
    """The compact network, trained on randomly changed images."""
    grey = all(image.grey for image in run.findings.images)
    network = backbones.compact(size, len(run.findings.labels), grey=grey)
    state = _fit(run, network, source, parts, rate=RATES["compact"], augment=Augment.from_parameters(run.parameters))
    return backbones.with_probabilities(network), state


def _transfer(run: Run, source: Source, parts: Split, choice: Choice, size: tuple[int, int]) -> tuple[Any, State]:
    """A head on a known network, whose features are computed once and kept."""
    network = backbones.features(choice, size)
    telling = run.telling(f"computes the features of {len(run.findings.images)} images", 3.0, 4.9)
    file = run.work / f"features-{run.checkpoints.fresh().fingerprint[:16]}.npy"
    features = Features.computed(file, network, source.inputs, len(run.findings.images), telling)
    head = backbones.head(features.shape[0], len(run.findings.labels))
    state = _fit(run, head, Source(features, source.targets), parts, rate=RATES["transfer"], augment=None)
    return backbones.with_probabilities(network, head), state


def _fit(run: Run, model: Any, source: Source, parts: Split, *, rate: float, augment: Augment | None) -> State:
    chosen = run.parameters
    batch_size = min(run.batch_size, len(parts.training))
    rate = rate if chosen["learning_rate"] == "auto" else float(chosen["learning_rate"])
    epochs = run.checkpoints.fresh().epochs
    model.compile(
        optimizer=keras.optimizers.AdamW(schedule(rate, epochs, len(parts.training) // batch_size), weight_decay=1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
        jit_compile=False,
    )
    state = resume(run, model)
    training = datasets.shuffled(
        source, parts.training, batch_size, run.threads, seed=chosen["seed"] + state.epoch, augment=augment
    )
    fit(
        model, training, datasets.plain(source, parts.selection, 64, run.threads), state=state,
        checkpoints=run.checkpoints, reporter=run.reporter, patience=chosen["patience"],
        class_weight=_class_weights(run, source.targets(parts.training)),
    )  # fmt: skip
    return state


def _class_weights(run: Run, labels: Array) -> dict[int, float] | None:
    """None while the classes are about equal in size."""
    counts = np.bincount(labels, minlength=len(run.findings.labels))
    if run.parameters["class_weights"] == "none" or counts.max() < UNBALANCED * counts.min():
        return None
    weights = counts.sum() / (len(counts) * counts)
    run.note(f"Classes have {counts.min()} to {counts.max()} images to learn from, so those with few count more.")
    return {label: float(weight) for label, weight in enumerate(weights)}


# --- what comes after


def _chances(network: Any, source: Source, places: Array, threads: int) -> Array:
    """(len(places), classes) probabilities."""
    return np.asarray(network.predict(datasets.plain(source, places, 64, threads), verbose=0))


def _draw(run: Run, state: State, parts: Split, truth: Array, chances: Array, measured: dict[str, Any]) -> None:
    labels, folder = run.findings.labels, run.aside / "plots"
    plots.curves(folder / "curves.png", state.history)
    plots.confusion_matrix(folder / "confusion_matrix.png", np.asarray(measured["confusion_matrix"]), labels)
    predicted, sure = chances.argmax(axis=1), chances.max(axis=1)
    wrong = np.flatnonzero(predicted != truth)
    worst = wrong[np.argsort(-sure[wrong])][:MAX_MISTAKES]
    shown = [run.findings.images[parts.held_out[place]] for place in worst]
    plots.worst_mistakes(
        folder / "worst_mistakes.png",
        [images.pixels(run.project / image.path, thumbnail_size(image), run.background) for image in shown],
        [f"{labels[truth[at]]} → {labels[predicted[at]]} {sure[at]:.0%}" for at in worst],
    )


def _export(run: Run, network: Any, source: Source, parts: Split) -> list[exports.Export]:
    """All forms, each tried on held-out images. The first is the SavedModel, without which there is no result."""
    run.reporter.say(88.0, "exports the SavedModel and the Keras file", eta_s=12)
    tried = spread(parts.held_out, MAX_TRIED)
    server = signatures.Classifier(
        network, run.findings.labels, run.findings.display, background=run.parameters["background"]
    )
    signatures.save(network, server, run.aside / exports.SAVED_MODEL)
    held_out.write([run.file(place) for place in tried], run.aside / exports.SAVED_MODEL, run.background)
    trial = exports.Trial.of(network, run.aside, source.inputs.batch(tried).astype(np.float32), image=run.image())
    trial.add("SavedModel", exports.SAVED_MODEL, exports.saved_model("probabilities"))
    files = [np.array([graph_images.readable(run.file(place), run.background)], object) for place in tried]
    from_files = exports.saved_model("probabilities", "image_bytes")
    trial.add("SavedModel from files", exports.SAVED_MODEL, from_files, inputs=files, tolerance=exports.DECODED)
    trial.add("Keras", exports.KERAS_FILE, exports.keras_file(network))
    if run.parameters["exports"] == "all":
        examples = source.inputs.batch(spread(parts.training, exports.MAX_CALIBRATION_IMAGES)).astype(np.float32)
        trial.add_small_forms(network, run.card(), examples, run.reporter)
    return trial.results
