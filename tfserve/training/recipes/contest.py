"""The steps that classification and segmentation share: candidates compete, and the best one is delivered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from tfserve.runtimes import image_metadata
from tfserve.tensors.specs import Array
from tfserve.training.dataset.splitting import spread
from tfserve.training.export import exports, graph_images, held_out_images, signatures
from tfserve.training.export.signatures import Classifier, Segmenter
from tfserve.training.fit import budget
from tfserve.training.fit.batches import Arrays
from tfserve.training.fit.candidates import Candidate, Contest
from tfserve.training.fit.delivery import Delivered
from tfserve.training.fit.folds import Folds
from tfserve.training.fit.pretrained import BackboneChoice
from tfserve.training.recipes.run import INPUT, RecipeRun
from tfserve.training.report import plots, report
from tfserve.training.report.mask_verdict import MaskVerdict
from tfserve.training.report.verdict import Verdict

SMALL_SIDE = 64
"""Images up to this size are rarely photographs, and a network from scratch for them is quick."""
PLOTS = "plots and tables"


def compete(
    run: RecipeRun,
    folds: Folds,
    weights: Array,
    candidates: Callable[[float], Sequence[Candidate]],
    *,
    work: float = 1.0,
) -> Contest:
    """Enters the candidates, which may depend on the allowance, the cheapest first.

    `weights` has one number for each image. `work` is the work with an image, in relation to one with a label.
    """
    allowed = run.allowance(work * budget.allowance(run.parameters, len(weights)))
    contest = Contest(folds, weights, allowed, run.work, run.fingerprint, run.note, run.clock)
    entering = candidates(allowed)
    contest.expect(entering)
    for candidate in entering:
        contest.enter(candidate)
    return contest


def deliver(run: RecipeRun, contest: Contest) -> Delivered:
    """The winner, trained on everything that may be learnt from."""
    winner = contest.winner
    assert winner is not None
    run.note(f"Delivered: {winner.row.name}, trained on all {len(contest.folds.development)} images.")
    run.parameters["network_size"] = list(winner.candidate.size)
    with run.clock.limited(1.0):
        delivered: Delivered = winner.candidate.deliver(winner.variant, contest.folds.development)
    return delivered


def complete(
    verdict: Verdict | MaskVerdict, run: RecipeRun, contest: Contest, delivered: Delivered, indices: Array
) -> None:
    """Adds to the verdict what is wrong with its figures. `indices` are the measured images."""
    is_frozen = delivered.state is None
    verdict.text = run.conclude(
        verdict.text, contest.folds.development, indices, delivered.backbone, frozen=is_frozen
    )  # fmt: skip


def export(
    run: RecipeRun, contest: Contest, network: Any, server: Classifier | Segmenter, images: Arrays, tried: Array,
    read: Callable[[int], bytes], try_saved_model: Callable[[exports.ExportTrial, list[Array]], None],
) -> list[exports.Export]:  # fmt: skip
    """All forms, each tried on the held-out images `tried`. The first is the SavedModel, which every result needs.

    `images` are all images of the project. `read` gives the file of one, whose tensor `try_saved_model` gets.
    """
    with exports.stage(run.clock, "SavedModel"):
        signatures.save(network, server, run.aside / exports.SAVED_MODEL)
        originals = [read(index) for index in tried]
        with run.optional(str(image_metadata.HELD_OUT)):
            held_out_images.write(originals, run.aside / exports.SAVED_MODEL, run.background)
        trial = exports.ExportTrial.of(network, run.aside, images.batch(tried).astype(np.float32), image=run.image())
        try_saved_model(trial, [graph_images.as_tensor(data, run.background) for data in originals])
        trial.add("Keras", exports.KERAS_FILE, exports.keras_file(network))
    if run.parameters["exports"] == "all":
        learnt = spread(contest.folds.development, exports.MAX_CALIBRATION_IMAGES)
        trial.add_small_forms(network, run.card(), images.batch(learnt).astype(np.float32), run.clock)
    return trial.results


def draw(run: RecipeRun, contest: Contest, delivered: Delivered, measured: dict[str, Any], **axis: str) -> None:
    """Plots the candidates, the epochs of the delivered one, and what is confused."""
    folder = run.aside / "plots"
    rows = [(entry.row.name, entry.row.score, entry.row.spread or 0.0) for entry in contest.entries]
    plots.candidates(folder / "candidates.png", rows, **axis)
    if delivered.state is not None:
        plots.curves(folder / "curves.png", delivered.state.history)
    else:
        plots.candidates(folder / "curves.png", rows, **axis)
    plots.confusion_matrix(
        folder / "confusion_matrix.png", np.asarray(measured["confusion_matrix"]), run.findings.labels
    )


def write_report(
    run: RecipeRun, contest: Contest, delivered: Delivered, choice: BackboneChoice, verdict: Verdict | MaskVerdict,
    measured: dict[str, Any], forms: Sequence[exports.Export], indices: Array, **more: Any,
) -> dict[str, Any]:  # fmt: skip
    """Returns what metrics.json says; `more` are further entries."""
    network = {
        "backbone": delivered.backbone, "why": choice.why, "size": run.parameters["network_size"], "input": INPUT,
        "weights": delivered.network.count_params(),
    }  # fmt: skip
    more |= {
        "verdict": verdict.text, "verdict_details": msgspec.to_builtins(verdict),
        "measured_on": contest.folds.measured_on(contest.measured()[0]),
        "candidates": [msgspec.to_builtins(entry.row) for entry in contest.entries],
    }  # fmt: skip
    counts = {"training": len(contest.folds.development), "held_out": len(indices)}
    return report.write(run, measured, forms, network, state=delivered.state, counts=counts, more=more)
