"""The recipe for classification: which of several classes an image belongs to. Read it from top to bottom."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from tfserve.tensors.specs import Array
from tfserve.training.dataset.dataset_index import ImageFile
from tfserve.training.dataset.sizes import thumbnail_size
from tfserve.training.dataset.splitting import spread
from tfserve.training.export import exports
from tfserve.training.export.signatures import Classifier
from tfserve.training.fit import pretrained
from tfserve.training.fit.batches import plain
from tfserve.training.fit.candidates import Contest
from tfserve.training.fit.classification_material import ClassificationMaterial
from tfserve.training.fit.delivery import Delivered
from tfserve.training.fit.fine_tuning import FineTuned
from tfserve.training.fit.folds import divide, independent
from tfserve.training.fit.from_scratch import Compact
from tfserve.training.fit.linear_heads import AugmentedHead, LinearHead, known_network
from tfserve.training.fit.pretrained import BackboneChoice
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
from tfserve.training.recipes.parameters import LITE_NET
from tfserve.training.recipes.run import RecipeRun
from tfserve.training.report import evaluation, image_reports, plots, single_images, verdict

MAX_TRIED = 50
"""Maximum held-out images on which exports are tried."""
MAX_MISTAKES = 24
EXPORTS_S, PLOTS_S = (14.0, 5.0, 7.0, 4.0), 1.5
"""On a quiet ordinary machine; the exports for each of `exports.STAGES`."""


def train(run: RecipeRun) -> dict[str, Any]:
    """Fills `run.aside` and returns what its metrics.json says."""
    found, parameters = run.findings, run.parameters
    labels = np.array([image.label for image in found.images])
    folds = divide(found.images, parameters["validation_split"], parameters["seed"])
    choice = known_network(run) or pretrained.choose(parameters["backbone"], parameters["weights"])
    material = ClassificationMaterial(run, labels, folds)
    contest = _compete(run, material, choice)
    delivered = deliver(run, contest)

    indices, chances = _measure(run, material, contest, delivered)
    truth = labels[indices]
    measured = evaluation.classification(truth, chances, found.labels)
    judged = verdict.judge(
        truth, chances.argmax(axis=1), found.names, images=_independent(found.images, labels, len(found.labels)),
        rivals=_rivals(contest), groups=[found.images[index].group for index in indices],
    )  # fmt: skip
    complete(judged, run, contest, delivered, indices)
    forms = _export(run, material, contest, delivered, indices)
    with run.clock.stage(PLOTS, "Drawing plots and writing tables"):
        with run.optional("A plot"):
            draw(run, contest, delivered, measured)
            _draw_mistakes(run, indices, truth, chances)
        image_reports.write(run, delivered, indices, truth, chances)
    return write_report(
        run, contest, delivered, choice, judged, measured, forms, indices,
        thresholds=single_images.thresholds(truth, chances, found.labels),
    )  # fmt: skip


# --- candidates


def _compete(run: RecipeRun, material: ClassificationMaterial, choice: BackboneChoice) -> Contest:
    """The candidates that the backbone allows."""
    network = "a compact network" if choice.weights is None else "a known network"
    exports.expect(run.clock, EXPORTS_S, network, run.parameters["exports"])
    run.clock.expect(PLOTS, PLOTS_S, cores=1.0, fixed=True)
    weights = 1 / np.maximum(np.bincount(material.labels, minlength=material.classes), 1)
    return compete(run, material.folds, weights[material.labels], partial(_candidates, material, choice))


def _candidates(material: ClassificationMaterial, choice: BackboneChoice, allowed: float) -> list[Any]:
    """In the order in which they are tried. Small images, such as letters, are rarely photographs."""
    if choice.weights is None:
        return [Compact(material, allowed)]
    head = LinearHead(material, choice, allowed)
    left = allowed - head.preparation() - sum(head.cost(len(fold.training)) for fold in material.folds.folds)
    known: list[Any] = [AugmentedHead(material, choice, allowed, head)]
    if choice.name == LITE_NET:  # the one whose layers are known by name
        tuned = FineTuned(material, choice, max(head.size), left)
        known = [*known, tuned] if tuned.unsuitable() else [tuned, *known]
    if material.run.parameters["backbone"] != "auto":
        return [head, *known]
    compact = Compact(material, left)
    return [head, compact, *known] if max(compact.size) <= SMALL_SIDE else [head, *known, compact]


def _measure(
    run: RecipeRun, material: ClassificationMaterial, contest: Contest, delivered: Delivered
) -> tuple[Array, Array]:
    """The images that the figures come from, with probabilities (images, classes) by models that never saw them."""
    assert contest.winner is not None
    test = contest.folds.test
    if len(test):
        images = plain(material.source(delivered.size), test, 64, run.threads)
        return test, np.asarray(delivered.network.predict(images, verbose=0))
    count, indices = contest.measured()
    return indices, contest.winner.outputs(count)


def _independent(images: Sequence[ImageFile], labels: Array, classes: int) -> list[int]:
    """For each class, its images; those of a group count once."""
    groups = independent(images)
    return [len(np.unique(groups[labels == label])) for label in range(classes)]


def _rivals(contest: Contest) -> Array | None:
    """The classes that all settings of all candidates predicted for the measured images (settings, images).

    None if the figures come from images by which nothing was chosen.
    """
    if len(contest.folds.test):
        return None
    return np.concatenate(contest.rivals())


# --- what comes after


def _draw_mistakes(run: RecipeRun, indices: Array, truth: Array, chances: Array) -> None:
    labels = run.findings.labels
    predicted, sure = chances.argmax(axis=1), chances.max(axis=1)
    wrong = np.flatnonzero(predicted != truth)
    worst = wrong[np.argsort(-sure[wrong])][:MAX_MISTAKES]
    shown = [int(indices[index]) for index in worst]
    plots.worst_mistakes(
        run.aside / "plots" / "worst_mistakes.png",
        [run.pixels(index, thumbnail_size(run.findings.images[index])) for index in shown],
        [f"{labels[truth[at]]} → {labels[predicted[at]]} {sure[at]:.0%}" for at in worst],
    )


def _export(
    run: RecipeRun, material: ClassificationMaterial, contest: Contest, delivered: Delivered, indices: Array
) -> list[exports.Export]:
    found = run.findings
    server = Classifier(delivered.network, found.labels, found.display, background=run.parameters["background"])
    images = material.source(delivered.size).inputs
    tried = spread(indices, MAX_TRIED)
    return export(run, contest, delivered.network, server, images, tried, run.data, _try_saved_model)


def _try_saved_model(trial: exports.ExportTrial, files: Sequence[Array]) -> None:
    trial.add("SavedModel", exports.SAVED_MODEL, exports.saved_model("probabilities"))
    from_files = exports.saved_model("probabilities", "image_bytes")
    trial.add("SavedModel from files", exports.SAVED_MODEL, from_files, inputs=files, tolerance=exports.DECODED)
