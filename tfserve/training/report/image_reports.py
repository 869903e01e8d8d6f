"""A classifier's files about single images: predictions, images to label next, and explanation plots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tfserve.tensors.specs import Array
from tfserve.training.dataset import image_reading
from tfserve.training.dataset.search import is_image
from tfserve.training.fit.delivery import Delivered
from tfserve.training.recipes.run import RecipeRun
from tfserve.training.report import occlusion, plots, single_images

UNLABELLED_FOLDERS = ("unlabelled", "unlabeled")
MAX_UNLABELLED = 5000
MAX_SHOWN = 24
MAX_EXPLAINED = 12
MOST_AT_ONCE, PIXELS_AT_ONCE = 64, 64 * 224**2
"""Images and pixels that are in memory at once."""


def write(run: RecipeRun, delivered: Delivered, indices: Array, truth: Array, probabilities: Array) -> None:
    """`indices` are the held-out images, `probabilities` is (held-out, classes). A file that fails becomes a note."""
    names = run.findings.names
    with run.optional(single_images.HELD_OUT_FILE):
        paths = [run.name(index) for index in indices]
        single_images.write_held_out(run.aside / single_images.HELD_OUT_FILE, paths, truth, probabilities, names)
    with run.optional(single_images.LABEL_NEXT_FILE):
        _label_next(run, delivered, names)
    if run.parameters["explain"]:
        with run.optional("The explanation plot"):
            _explain(run, delivered, indices, truth, probabilities, names)


def _label_next(run: RecipeRun, delivered: Delivered, names: Sequence[str]) -> None:
    """Predictions for unlabelled images, if the project has any."""
    folder = _unlabelled(run)
    if folder is None:
        return
    found = sorted(path for path in folder.rglob("*") if path.is_file() and is_image(path))
    files, probabilities = _predicted(run, delivered, found[:MAX_UNLABELLED], folder)
    if not files:
        return
    shown = [str(path.relative_to(folder)) for path in files]
    order = single_images.write_label_next(run.aside / single_images.LABEL_NEXT_FILE, shown, probabilities, names)
    first = order[:MAX_SHOWN]
    captions = [f"{names[probabilities[n].argmax()]} {probabilities[n].max():.0%}?" for n in first]
    size = run.parameters["network_size"]
    with run.optional("The plot of images to label next"):
        pictures = [image_reading.pixels(files[n], size, run.background) for n in first]
        plots.worst_mistakes(run.aside / "plots" / "label_next.png", pictures, captions)
    run.note(
        f"{len(files)} images of {folder.name} have no label; {single_images.LABEL_NEXT_FILE} says which to label next."
    )


def _predicted(
    run: RecipeRun, delivered: Delivered, paths: Sequence[Path], folder: Path
) -> tuple[list[Path], Array]:  # fmt: skip
    """The files that can be read, and (files, classes) probabilities. Only the images of a batch are in memory."""
    files: list[Path] = []
    probabilities: list[Array] = []
    size = run.parameters["network_size"]
    count = _at_once(size)
    for begin in range(0, len(paths), count):
        pictures = []
        for path in paths[begin : begin + count]:
            try:
                pictures.append(image_reading.pixels(path, size, run.background))
                files.append(path)
            except OSError:
                run.note(f"{path.relative_to(folder)} has no label and can't be read, so it is not in the list.")
        if pictures:
            probabilities.append(_compute(delivered, np.stack(pictures)))
    return files, np.concatenate(probabilities) if probabilities else np.zeros((0, 0))


def _unlabelled(run: RecipeRun) -> Path | None:
    given = run.parameters["unlabelled"]
    folders = [Path(given)] if given != "auto" else [run.project / name for name in UNLABELLED_FOLDERS]
    return next((folder for folder in folders if folder.is_dir()), None)


def _explain(
    run: RecipeRun, delivered: Delivered, indices: Array, truth: Array, probabilities: Array, names: Sequence[str]
) -> None:
    """Plots the most certain mistakes, then the least certain predictions."""
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != truth)
    wrong = wrong[np.argsort(-probabilities.max(axis=1)[wrong])][: MAX_EXPLAINED // 2]
    unsure = [n for n in single_images.by_uncertainty(probabilities) if n not in wrong]
    chosen = [*wrong, *unsure][:MAX_EXPLAINED]
    size = run.parameters["network_size"]
    pictures = [run.pixels(indices[n], size) for n in chosen]
    maps = [
        occlusion.sensitivity(lambda batch: _compute(delivered, batch), picture, int(predicted[n]))
        for n, picture in zip(chosen, pictures, strict=True)
    ]
    captions = [f"{names[predicted[n]]} {probabilities[n].max():.0%} (true: {names[truth[n]]})" for n in chosen]
    plots.sensitivity(run.aside / "plots" / "what_it_looks_at.png", pictures, maps, captions)


def _at_once(size: Sequence[int]) -> int:
    """How many images of this height and width are predicted together."""
    return int(np.clip(PIXELS_AT_ONCE // (size[0] * size[1]), 1, MOST_AT_ONCE))


def _compute(delivered: Delivered, pictures: Array) -> Array:
    count = _at_once(pictures.shape[1:3])
    pieces = (pictures[at : at + count].astype(np.float32) for at in range(0, len(pictures), count))
    return np.concatenate([np.asarray(delivered.network(piece, training=False)) for piece in pieces])
