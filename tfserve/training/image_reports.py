"""Files about single images that go along with a classifier: its answers, what to label next, what it looks at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfserve.tensors import Array
from tfserve.training import images, occlusion, plots, predictions
from tfserve.training.material import Delivered
from tfserve.training.run import Run
from tfserve.training.search import is_image

UNLABELLED_FOLDERS = ("unlabelled", "unlabeled")
MAX_UNLABELLED = 5000
MAX_SHOWN = 24
MAX_EXPLAINED = 12
_BATCH = 64


def write(run: Run, delivered: Delivered, places: Array, truth: Array, probabilities: Array) -> None:
    """`places` are the held-out images, `probabilities` is (held-out, classes). A file that fails becomes a note."""
    names = run.findings.display or run.findings.labels
    with run.optional(predictions.HELD_OUT_FILE):
        paths = [run.findings.images[place].path for place in places]
        predictions.write_held_out(run.aside / predictions.HELD_OUT_FILE, paths, truth, probabilities, names)
    with run.optional(predictions.LABEL_NEXT_FILE):
        _label_next(run, delivered, names)
    if run.parameters["explain"]:
        with run.optional("The drawing of what the model looks at"):
            _explain(run, delivered, places, truth, probabilities, names)


def _label_next(run: Run, delivered: Delivered, names: Sequence[str]) -> None:
    """Answers for the images without labels, if the project has any."""
    folder = _unlabelled(run)
    if folder is None:
        return
    files, pictures, size = [], [], run.parameters["network_size"]
    found = sorted(path for path in folder.rglob("*") if path.is_file() and is_image(path))
    for path in found[:MAX_UNLABELLED]:
        try:
            pictures.append(images.pixels(path, size, run.background))
            files.append(path)
        except OSError:
            run.note(f"{path.relative_to(folder)} has no label and can't be read, so it is not in the list either.")
    if not files:
        return
    probabilities = _compute(delivered, np.stack(pictures))
    shown = [str(path.relative_to(folder)) for path in files]
    order = predictions.write_label_next(run.aside / predictions.LABEL_NEXT_FILE, shown, probabilities, names)
    first = order[:MAX_SHOWN]
    captions = [f"{names[probabilities[n].argmax()]} {probabilities[n].max():.0%}?" for n in first]
    plots.worst_mistakes(run.aside / "plots" / "label_next.png", [pictures[n] for n in first], captions)
    run.note(
        f"{len(files)} images of {folder.name} have no label; {predictions.LABEL_NEXT_FILE} says which to label next."
    )


def _unlabelled(run: Run) -> Path | None:
    given = run.parameters["unlabelled"]
    folders = [Path(given)] if given != "auto" else [run.project / name for name in UNLABELLED_FOLDERS]
    return next((folder for folder in folders if folder.is_dir()), None)


def _explain(
    run: Run, delivered: Delivered, places: Array, truth: Array, probabilities: Array, names: Sequence[str]
) -> None:
    """Draws the most certain mistakes, then the least certain answers."""
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != truth)
    wrong = wrong[np.argsort(-probabilities.max(axis=1)[wrong])][: MAX_EXPLAINED // 2]
    unsure = [n for n in predictions.by_uncertainty(probabilities) if n not in wrong]
    chosen = [*wrong, *unsure][:MAX_EXPLAINED]
    size = run.parameters["network_size"]
    pictures = [run.pixels(places[n], size) for n in chosen]
    maps = [
        occlusion.sensitivity(lambda batch: _compute(delivered, batch), picture, int(predicted[n]))
        for n, picture in zip(chosen, pictures, strict=True)
    ]
    captions = [f"{names[predicted[n]]} {probabilities[n].max():.0%} (true: {names[truth[n]]})" for n in chosen]
    plots.sensitivity(run.aside / "plots" / "what_it_looks_at.png", pictures, maps, captions)


def _compute(delivered: Delivered, pictures: Array) -> Array:
    pieces = [pictures[at : at + _BATCH].astype(np.float32) for at in range(0, len(pictures), _BATCH)]
    return np.concatenate([np.asarray(delivered.network(piece, training=False)) for piece in pieces])
