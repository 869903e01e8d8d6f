"""Examines the project of a classification: its classes, their labels and numbers, and enough images of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfserve.training.dataset import labels
from tfserve.training.dataset.labels import LabelsInfo
from tfserve.training.dataset.layouts import foreign, groups, recognise
from tfserve.training.dataset.layouts.parts import TRAINING
from tfserve.training.dataset.layouts.recognise import Classified
from tfserve.training.dataset.project_folders import FEEDBACK
from tfserve.training.dataset.search import MAX_PATHS, Labelled, Search, same_form, sentence

MIN_CLASSES = 2
MIN_IMAGES_PER_CLASS = 2
"""One to train on and one to measure with."""


def examine(search: Search, parameters: Mapping[str, Any]) -> None:
    """Fills `search` with the images, labels and problems of a classification."""
    chosen = str(parameters.get("groups", "auto"))
    found = recognise.classification(search, chosen)
    if found is None:
        return
    names = {file.name for file in found.files} | search.empty_classes.keys()
    label_of, remarks = labels.distinct(sorted(names))
    search.remarks += remarks
    _number(search, label_of)
    if len(names) < MIN_CLASSES:
        search.problems.append(
            f"{search.root} has {len(names)} classes, but at least {MIN_CLASSES} are needed. Layout: {search.layout}."
        )
    number_of = {label: n for n, label in enumerate(search.labels)}
    sent_back = _sent_back(search, label_of, part=TRAINING if any(file.part for file in found.files) else "")
    for files in (sent_back, sorted(found.files, key=lambda file: number_of[label_of[file.name]])):
        search.examine(files, [number_of[label_of[file.name]] for file in files])
    _check_counts(search, found)
    search.report_twins()
    groups.apply(search, chosen, found.columns)


def _sent_back(search: Search, label_of: Mapping[str, str], *, part: str) -> Sequence[Labelled]:
    """The images that `feedback` has kept, with the classes that their labels are in the project as it is now."""
    folder = search.results / FEEDBACK
    if not folder.is_dir() or not search.bounds.contain(folder):
        return []
    names = {label: name for name, label in label_of.items()}
    found = []
    for each in search.folders(folder):
        paths = sorted(path for path in each.iterdir() if path.is_file() and not path.name.startswith("."))
        if each.name in names:
            found += [Labelled(path, names[each.name], part) for path in paths]
        else:
            for path in paths:
                search.skip(path, "feedback for a class that the project no longer has")
    if found:
        search.remarks.append(f"{len(found)} images from feedback are also used for training.")
    return found


def _number(search: Search, label_of: Mapping[str, str]) -> None:
    """The labels in the order of the model's outputs, with their numbers."""
    ordered = sorted(label_of.values())
    if all(label.isdigit() for label in ordered):
        ordered.sort(key=lambda label: (len(label.lstrip("0")), label.lstrip("0")))
    info = LabelsInfo.find(search.project, label_of) or LabelsInfo.find(search.root, label_of)
    search.numbers = [*range(len(ordered))]
    if info is not None:
        numbers = info.numbers
        ordered.sort(key=lambda label: (numbers.get(label, len(numbers) + 1), label))
        search.numbers = [numbers.get(label, -1) for label in ordered]
        search.problems += info.problems + info.compare(ordered)
    names = {label: name for name, label in label_of.items()}
    search.labels, search.display = ordered, [names[label] for label in ordered]


def _check_counts(search: Search, found: Classified) -> None:
    counts = Counter(image.label for image in search.images)
    learnt = Counter(image.label for image in search.images if image.part in ("", TRAINING))
    where = _places(search, found)
    small = [(label, name) for label, name in enumerate(search.display) if counts[label] < MIN_IMAGES_PER_CLASS]
    for label, name in small[:MAX_PATHS]:
        usable = "no usable image" if not counts[label] else f"only {counts[label]} usable image"
        usable += _why(search, search.empty_classes.get(name))
        search.problems.append(f"{where[name]} has {usable}, but each class needs at least {MIN_IMAGES_PER_CLASS}.")
    if len(small) > MAX_PATHS:
        more = len(small) - MAX_PATHS
        search.problems.append(f"{more} more classes have fewer than {MIN_IMAGES_PER_CLASS} usable images.")
    if not search.images and (advice := foreign.hint(search)):
        search.problems.append(advice.strip())
    search.problems += sentence(
        "The training part has no images of the classes",
        [
            name
            for label, name in enumerate(search.display)
            if counts[label] >= MIN_IMAGES_PER_CLASS and not learnt[label]
        ],
    )


def _why(search: Search, folder: Path | None) -> str:
    """The files in a folder without images, for a message."""
    inside = f"{search.name(folder)}/" if folder is not None else None
    others = [each.path for each in search.skipped if inside is not None and each.path.startswith(inside)]
    return f" ({len(others)} other files, such as {others[0]})" if others else ""


def _places(search: Search, found: Classified) -> dict[str, str]:
    """The name of each class in messages: its folder if it has one, otherwise its name."""
    folders: dict[str, set[Path]] = {name: {path} for name, path in search.empty_classes.items()}
    for file in found.files:
        folders.setdefault(file.name, set()).add(file.path.parent)
    return {
        name: str(*paths) if len(paths) == 1 and same_form(min(paths).name) == name else f"The class {name!r}"
        for name, paths in folders.items()
    }
