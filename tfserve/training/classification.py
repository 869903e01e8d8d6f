"""The recipe for classification: which of several classes an image belongs to. Read it from top to bottom."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from tfserve.runtimes import image_metadata
from tfserve.tensors import Array
from tfserve.training import (
    budget,
    evaluation,
    events,
    exports,
    graph_images,
    held_out,
    image_reports,
    known_networks,
    plots,
    predictions,
    report,
    signatures,
    verdict,
)
from tfserve.training.candidates import Contest
from tfserve.training.datasets import Source, plain
from tfserve.training.fine_tuning import FineTuned
from tfserve.training.folds import divide
from tfserve.training.from_scratch import Compact
from tfserve.training.known_networks import Choice
from tfserve.training.linear_heads import AugmentedHead, LinearHead, known_network
from tfserve.training.material import Delivered, Material
from tfserve.training.parameters import LITE_NET
from tfserve.training.run import INPUT, Run
from tfserve.training.sizes import thumbnail_size
from tfserve.training.splitting import spread

MAX_TRIED = 50
"""Exports are tried on so many held-out images."""
MAX_MISTAKES = 24
SMALL_SIDE = 64
PLOTS = "plots and tables"
EXPORTS_S, PLOTS_S = (14.0, 5.0, 7.0, 4.0), 1.5
"""On a quiet ordinary machine; the exports for each of `exports.STAGES`."""


def train(run: Run) -> dict[str, Any]:
    """Fills `run.aside` and returns what its metrics.json says."""
    found, parameters = run.findings, run.parameters
    labels = np.array([image.label for image in found.images])
    folds = divide(found.images, parameters["validation_split"], parameters["seed"])
    choice = known_network(run) or known_networks.choose(parameters["backbone"], parameters["weights"])
    material = Material(run, labels, folds)
    contest = _compete(run, material, choice)
    delivered = _deliver(run, contest)

    measured_places, chances = _measure(run, contest, delivered)
    truth = labels[measured_places]
    measured = evaluation.classification(truth, chances, found.labels)
    said = verdict.judge(
        truth, chances.argmax(axis=1), found.labels, images=np.bincount(labels, minlength=len(found.labels)).tolist()
    )
    caveat = run.learnt(
        folds.development, measured_places, delivered.backbone, frozen=delivered.state is None
    )  # fmt: skip
    said.text += f", but {caveat}" if caveat else ""
    run.note(f"Verdict: {said.text}.")
    forms = _export(run, delivered.network, delivered.source, measured_places, contest)
    with run.clock.stage(PLOTS, "draws plots and writes tables"):
        with run.optional("A plot"):
            _draw(run, contest, delivered, measured_places, truth, chances, measured)
        image_reports.write(run, delivered, measured_places, truth, chances)
    if delivered.state is not None:
        with run.optional("logs/"):
            events.write(run.aside / "logs", delivered.state)
    network = {
        "backbone": delivered.backbone, "why": choice.why, "size": run.parameters["network_size"], "input": INPUT,
        "weights": delivered.network.count_params(),
    }  # fmt: skip
    more = {
        "verdict": said.text, "verdict_details": msgspec.to_builtins(said),
        "measured_on": folds.measured_on(contest.measured()[0]),
        "thresholds": predictions.thresholds(truth, chances, found.labels),
        "candidates": [msgspec.to_builtins(entry.row) for entry in contest.entries],
    }  # fmt: skip
    counts = {"training": len(folds.development), "held_out": len(measured_places)}
    return report.write(run, measured, forms, network, state=delivered.state, counts=counts, more=more)


# --- candidates


def _compete(run: Run, material: Material, choice: Choice) -> Contest:
    """The candidates that the backbone allows, the cheapest first."""
    folds, count, clock = material.folds, len(material.labels), run.clock
    network = "a compact network" if choice.weights is None else "a known network"
    exports.expect(clock, EXPORTS_S, network, run.parameters["exports"])
    clock.expect(PLOTS, PLOTS_S, cores=1.0, fixed=True)
    allowed = budget.allowance(run.parameters, count)
    if clock.budget_s is not None:
        allowed = max(1.0, clock.spare_s / clock.speed)
    weights = 1 / np.maximum(np.bincount(material.labels, minlength=material.classes), 1)
    contest = Contest(folds, weights[material.labels], allowed, run.work, run.fingerprint, run.note, clock)
    candidates = _candidates(material, choice, allowed)
    contest.expect(candidates)
    for candidate in candidates:
        contest.enter(candidate)
    return contest


def _candidates(material: Material, choice: Choice, allowed: float) -> list[Any]:
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


def _deliver(run: Run, contest: Contest) -> Delivered:
    """The winner, trained on everything that may be learnt from."""
    winner = contest.winner
    assert winner is not None
    run.note(f"Delivered: {winner.row.name}, trained on all {len(contest.folds.development)} images.")
    run.parameters["network_size"] = list(winner.candidate.size)
    with run.clock.limited(1.0):
        delivered: Delivered = winner.candidate.deliver(winner.variant, contest.folds.development)
    return delivered


def _measure(run: Run, contest: Contest, delivered: Delivered) -> tuple[Array, Array]:
    """The images that the figures come from, with probabilities (images, classes) by models that never saw them."""
    assert contest.winner is not None
    test = contest.folds.test
    if len(test):
        return test, np.asarray(delivered.network.predict(plain(delivered.source, test, 64, run.threads), verbose=0))
    count, places = contest.measured()
    return places, contest.winner.outputs(count)


# --- what comes after


def _draw(
    run: Run, contest: Contest, delivered: Delivered, places: Array, truth: Array, chances: Array,
    measured: dict[str, Any],
) -> None:  # fmt: skip
    labels, folder = run.findings.labels, run.aside / "plots"
    rows = [(entry.row.name, entry.row.score, entry.row.spread or 0.0) for entry in contest.entries]
    plots.candidates(folder / "candidates.png", rows)
    if delivered.state is not None:
        plots.curves(folder / "curves.png", delivered.state.history)
    else:
        plots.candidates(folder / "curves.png", rows)
    plots.confusion_matrix(folder / "confusion_matrix.png", np.asarray(measured["confusion_matrix"]), labels)
    predicted, sure = chances.argmax(axis=1), chances.max(axis=1)
    wrong = np.flatnonzero(predicted != truth)
    worst = wrong[np.argsort(-sure[wrong])][:MAX_MISTAKES]
    shown = [int(places[place]) for place in worst]
    plots.worst_mistakes(
        folder / "worst_mistakes.png",
        [run.pixels(place, thumbnail_size(run.findings.images[place])) for place in shown],
        [f"{labels[truth[at]]} → {labels[predicted[at]]} {sure[at]:.0%}" for at in worst],
    )


def _export(run: Run, network: Any, source: Source, places: Array, contest: Contest) -> list[exports.Export]:
    """All forms, each tried on held-out images. The first is the SavedModel, without which there is no result."""
    with exports.stage(run.clock, "SavedModel"):
        trial = _exported(run, network, source, spread(places, MAX_TRIED))
    if run.parameters["exports"] == "all":
        learnt = spread(contest.folds.development, exports.MAX_CALIBRATION_IMAGES)
        trial.add_small_forms(network, run.card(), source.inputs.batch(learnt).astype(np.float32), run.clock)
    return trial.results


def _exported(run: Run, network: Any, source: Source, tried: Array) -> exports.Trial:
    server = signatures.Classifier(
        network, run.findings.labels, run.findings.display, background=run.parameters["background"]
    )
    signatures.save(network, server, run.aside / exports.SAVED_MODEL)
    originals = [run.data(place) for place in tried]
    with run.optional(str(image_metadata.HELD_OUT)):
        held_out.write(originals, run.aside / exports.SAVED_MODEL, run.background)
    trial = exports.Trial.of(network, run.aside, source.inputs.batch(tried).astype(np.float32), image=run.image())
    trial.add("SavedModel", exports.SAVED_MODEL, exports.saved_model("probabilities"))
    files = [np.array([graph_images.readable(data, run.background)], object) for data in originals]
    from_files = exports.saved_model("probabilities", "image_bytes")
    trial.add("SavedModel from files", exports.SAVED_MODEL, from_files, inputs=files, tolerance=exports.DECODED)
    trial.add("Keras", exports.KERAS_FILE, exports.keras_file(network))
    return trial
