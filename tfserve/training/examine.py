"""Looks through a project folder before anything is trained: what is good, what is left out, all that is wrong."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from tfserve.errors import Invalid
from tfserve.training import detection_project, images, known_networks, labels, masks
from tfserve.training.findings import Findings, ImageFile, Skipped
from tfserve.training.images import Bad
from tfserve.training.labels import INFO_FILE, LabelsInfo
from tfserve.training.parameters import LITE_NET
from tfserve.training.project_folders import MODELS, Bounds, problems_of_results

MIN_CLASSES = 2
MIN_IMAGES_PER_CLASS = 2
"""One to train on and one to try with."""
MIN_IMAGES = 4
"""For a segmentation."""
MAX_BAD_SHARE = 0.2
MAX_PATHS = 10
"""So many paths are spelled out in the sentence about a problem."""

_CHUNK = 256

T = TypeVar("T")
R = TypeVar("R")


def examine(project_dir: str, train_type: str, parameters: dict[str, Any], roots: Sequence[str] = ()) -> Findings:
    """Everything found in the project folder; with any `problems` in it there can be no training.

    Links that lead outside of `roots` are not followed; without roots all are.
    """
    search = _Search(Path(project_dir), threads=max(2, int(parameters.get("threads", 2))), bounds=Bounds(roots))
    search.problems += _problems_of_backbone(parameters)
    search.problems += search.problems_of_places(MODELS) + problems_of_results(search.project)
    if outside := search.problems_of_places("images", "labels", INFO_FILE):
        search.problems += outside
    elif train_type == "detection" and search.project.is_dir():
        detection_project.examine(search)
    elif not search.images_folder.is_dir():
        search.problems.append(_no_images_folder(search.project, search.images_folder))
    elif train_type == "classification":
        _classification(search)
    else:
        _segmentation(search)
    search.check_share_of_bad()
    return Findings(
        train_type=train_type, project_dir=project_dir, labels=search.labels, numbers=search.numbers,
        images=search.images, skipped=search.skipped, problems=search.problems, display=search.display,
        layout=search.layout, remarks=search.remarks,
    )  # fmt: skip


class _Search:
    """What has been found so far."""

    def __init__(self, project: Path, threads: int, bounds: Bounds) -> None:
        self.project = project
        self.bounds = bounds
        self.images_folder = project / "images"
        self.threads = threads
        self.labels: list[str] = []
        self.numbers: list[int] = []
        self.images: list[ImageFile] = []
        self.skipped: list[Skipped] = []
        self.problems: list[str] = []
        self.remarks: list[str] = []
        self.display: list[str] = []
        self.layout = ""
        self.bad: Counter[str] = Counter()
        self._seen: dict[str, ImageFile] = {}
        self._twins: list[str] = []

    def problems_of_places(self, *names: str) -> list[str]:
        """A sentence for each that leads outside of what may be read and written."""
        return [problem for name in names for problem in self.bounds.problems(self.project / name)]

    def files(self, folder: Path, suffixes: tuple[str, ...], what: str) -> list[Path]:
        """The files in a folder with such suffixes, in the order of their names; others are skipped and listed."""
        found = []
        for entry in sorted(_entries(folder, self.problems), key=lambda entry: entry.name):
            path = Path(entry.path)
            if _is_folder(entry):
                self.skip(path, f"a folder where {what}s were expected")
            elif not _is_utf8(entry.name):
                self.skip(path, "its name is not UTF-8: rename it")
            elif entry.is_symlink() and not self.bounds.contain(path):
                self.skip(path, "a link that leads outside of the folders that this server may use")
            elif path.suffix.lower() in suffixes:
                found.append(path)
            else:
                self.skip(path, f"no {what} file: {', '.join(suffixes)} are")
        return found

    def look_at(self, paths: Iterable[Path], label: int, masks_of: dict[str, Path] | None = None) -> None:
        """Keeps the good images among these files."""
        for path, found in _in_threads(_look, paths, self.threads):
            if isinstance(found, Bad):
                self.skip(path, str(found), bad=True)
            else:
                mask = masks_of[path.stem] if masks_of is not None else None
                self._keep(path, found, label, mask)

    def skip(self, path: Path, reason: str, *, bad: bool = False) -> None:
        self.skipped.append(Skipped(self.relative(path), reason))
        if bad:
            self.bad[reason.partition(":")[0]] += 1

    def relative(self, path: Path) -> str:
        return _shown(path.relative_to(self.project))

    def check_share_of_bad(self) -> None:
        bad = self.bad.total()
        looked_at = len(self.images) + bad
        if bad > MAX_BAD_SHARE * looked_at:
            told = ", ".join(f"{count} {reason}" for reason, count in self.bad.most_common(4))
            self.problems.append(
                f"{bad} of {looked_at} images in {self.images_folder} can't be used ({told}): more than"
                f" {MAX_BAD_SHARE:.0%}. Replace or remove them."
            )

    def tell_twins(self) -> None:
        self.problems += _told("The same image is in two classes, so that one of them must be wrong", self._twins)

    def _keep(self, path: Path, found: images.Look, label: int, mask: Path | None) -> None:
        image = ImageFile(
            self.relative(path), found.width, found.height, found.grey, found.digest, label,
            self.relative(mask) if mask else None,
        )  # fmt: skip
        twin = self._seen.setdefault(found.digest, image)
        if twin is image:
            self.images.append(image)
        elif twin.label != label:
            self._twins.append(f"{self.project / twin.path} and {path}")
        else:
            self.skip(path, f"the same image as {twin.path}")


# --- classification


def _problems_of_backbone(parameters: dict[str, Any]) -> list[str]:
    """Of a training that could not find its weights."""
    try:
        if "weights" in parameters or parameters.get("backbone") == LITE_NET:
            known_networks.choose(parameters["backbone"], parameters.get("weights", "auto"))
    except Invalid as error:
        return [error.message]
    return []


def _classification(search: _Search) -> None:
    folders = _class_folders(search)
    info = LabelsInfo.find(search.project, folders)
    search.labels = _ordered(sorted(folders), info)
    search.numbers = [info.numbers.get(each, -1) for each in search.labels] if info else [*range(len(folders))]
    if info:
        search.problems += info.problems + info.compare(search.labels)
    if len(folders) < MIN_CLASSES:
        search.problems.append(
            f"{search.images_folder} has {len(folders)} class folders with a name of their own, at least"
            f" {MIN_CLASSES} are needed: images/<class>/<image>."
        )
    for label, name in enumerate(search.labels):
        search.look_at(search.files(folders[name], images.SUFFIXES, "image"), label)
    _check_counts(search, folders)
    search.tell_twins()


def _class_folders(search: _Search) -> dict[str, Path]:
    """Label → folder; two folders with the same label are a problem."""
    folders: dict[str, Path] = {}
    for entry in sorted(_entries(search.images_folder, search.problems), key=lambda entry: entry.name):
        path, label = Path(entry.path), labels.from_folder(entry.name)
        if not _is_folder(entry):
            search.skip(path, "outside of any class folder: expected images/<class>/<image>")
        elif not _is_utf8(entry.name):
            search.problems.append(f"The name of the folder {_shown(path)} is not UTF-8. Rename it.")
        elif outside := search.bounds.problems(path):
            search.problems += outside
        elif not label.strip():
            search.problems.append(f"{path} gives no label: a folder's name needs a letter a-z or a digit.")
        elif label in folders:
            search.problems.append(f"{folders[label]} and {path} give the same label {label!r}. Rename or join them.")
        else:
            folders[label] = path
    return folders


def _ordered(found: list[str], info: LabelsInfo | None) -> list[str]:
    if info is None:
        return found
    return sorted(found, key=lambda label: (info.numbers.get(label, len(info.numbers) + 1), label))


def _check_counts(search: _Search, folders: dict[str, Path]) -> None:
    counts = Counter(image.label for image in search.images)
    for label, name in enumerate(search.labels):
        if counts[label] < MIN_IMAGES_PER_CLASS:
            told = "no good image" if not counts[label] else f"only {counts[label]} good image"
            search.problems.append(
                f"{folders[name]} has {told}, at least {MIN_IMAGES_PER_CLASS} are needed in each class."
            )


# --- segmentation


def _segmentation(search: _Search) -> None:
    labels_folder = search.project / "labels"
    if not labels_folder.is_dir():
        search.problems.append(f"{labels_folder} is missing: a segmentation needs a mask there for each image.")
        return
    pictures = _by_stem(search, search.files(search.images_folder, images.SUFFIXES, "image"))
    mask_files = _by_stem(search, search.files(labels_folder, masks.SUFFIXES, "mask"))
    search.problems += _told(
        f"There is no mask of the same name in {labels_folder} for",
        [str(p) for s, p in pictures.items() if s not in mask_files],
    ) + _told(
        f"There is no image of the same name in {search.images_folder} for",
        [str(p) for s, p in mask_files.items() if s not in pictures],
    )
    search.look_at((path for stem, path in pictures.items() if stem in mask_files), -1, mask_files)
    values = _look_at_masks(search)
    _name_values(search, values)
    if len(search.images) < MIN_IMAGES:
        search.problems.append(
            f"{search.images_folder} has {len(search.images)} good images with masks, at least {MIN_IMAGES} are needed."
        )


def _by_stem(search: _Search, paths: list[Path]) -> dict[str, Path]:
    stems: dict[str, Path] = {}
    for path in paths:
        if stems.setdefault(path.stem, path) is not path:
            search.problems.append(f"{stems[path.stem]} and {path} have the same name. Rename or remove one of them.")
    return stems


def _look_at_masks(search: _Search) -> list[int]:
    """The values in the masks, ordered. Masks that don't fit are problems, all of one kind in one sentence."""
    wrong: dict[str, list[str]] = defaultdict(list)
    images_with: Counter[int] = Counter()
    by_mask = {search.project / (image.mask or ""): image for image in search.images}
    for path, found in _in_threads(_look_at_mask, by_mask, search.threads):
        if isinstance(found, Bad):
            wrong["These masks can't be used"].append(f"{path} ({found})")
            continue
        (height, width), values = found
        image = by_mask[path]
        if (width, height) != (image.width, image.height):
            wrong["These masks have another size than their images"].append(
                f"{path} ({width}x{height}, the image {image.width}x{image.height})"
            )
        images_with.update(values)
    for what, where in wrong.items():
        search.problems += _told(what, where)
    return _checked_values(search, images_with, len(by_mask))


def _checked_values(search: _Search, images_with: Counter[int], mask_count: int) -> list[int]:
    folder = search.project / "labels"
    values = sorted({0, *images_with})
    if mask_count and len(values) < MIN_CLASSES:
        search.problems.append(f"All masks in {folder} are only background (0). Something else must be marked in them.")
    if len(values) > MAX_VALUES:
        search.problems.append(
            f"The masks in {folder} have {len(values)} different values ({', '.join(map(str, values[:8]))}, …), at most"
            f" {MAX_VALUES} are expected: one for each class. Saved with loss, or smoothed? Save them as PNG."
        )
    return values


MAX_VALUES = 32
"""Classes of a segmentation. More values are the mark of masks that were blurred or saved as JPEG."""


def _name_values(search: _Search, values: list[int]) -> None:
    info = LabelsInfo.find(search.project)
    search.numbers = values
    if info is None:
        search.labels = ["background" if value == 0 else f"value {value}" for value in values]
        return
    names = {number: label for label, number in info.numbers.items()}
    search.problems += info.problems
    search.problems += [
        f"{info.path} names {names[number]!r} with {number}, a value that no mask has."
        for number in names
        if number not in values
    ]
    search.problems += [
        f"{info.path} has no name for {value}, a value in the masks. Add a line '<label>,{value}'."
        for value in values if value and value not in names and not info.problems
    ]  # fmt: skip
    search.labels = [names.get(value, "background" if value == 0 else f"value {value}") for value in values]


# --- files


def _look(path: Path) -> images.Look | Bad:
    try:
        return images.look(path)
    except Bad as bad:
        return bad


def _look_at_mask(path: Path) -> tuple[tuple[int, int], list[int]] | Bad:
    import numpy as np

    try:
        values = masks.read(path)
    except Bad as bad:
        return bad
    height, width = values.shape
    return (height, width), np.flatnonzero(np.bincount(values.ravel(), minlength=256)).tolist()


def _in_threads(function: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[tuple[T, R]]:
    """Each item with its result, in order; a chunk at a time, so that memory does not grow with their number."""
    rest = iter(items)
    with ThreadPoolExecutor(threads) as executor:
        while chunk := list(islice(rest, _CHUNK)):
            yield from zip(chunk, executor.map(function, chunk), strict=True)


def _entries(folder: Path, problems: list[str]) -> list[os.DirEntry[str]]:
    """What is in a folder, but for hidden files: those belong to desktops."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        problems.append(f"{folder} can't be read: {error.strerror}.")
        return []


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _is_utf8(name: str) -> bool:
    """What is not can't be told in JSON, nor to the worker that trains."""
    return name.isascii() or _shown(name) == name


def _shown(path: str | Path) -> str:
    return os.fsencode(path).decode(errors="backslashreplace")


def _no_images_folder(project: Path, folder: Path) -> str:
    if not project.is_dir():
        return f"{project} is no folder on this server."
    return f"{folder} is missing: the images are expected there."


def _told(what: str, where: list[str]) -> list[str]:
    """One sentence about all places with the same problem; none when there are no places."""
    if not where:
        return []
    more = f" and {len(where) - MAX_PATHS} more" if len(where) > MAX_PATHS else ""
    return [f"{what}: {', '.join(where[:MAX_PATHS])}{more}."]
