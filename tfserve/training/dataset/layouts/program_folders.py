"""Folders that programs write next to a data set: results of earlier runs, thumbnails, logs. They are not classes.

A name alone is enough only where a folder can't be a class, such as next to `images` or `train`. Elsewhere a project
may well have the classes `thumbs` and `fingers`, so that something in the folder must show that a program wrote it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tfserve.training.dataset import image_reading
from tfserve.training.dataset.layouts import folder_evidence, roles
from tfserve.training.dataset.layouts.mask_pairs import MASK_FOLDERS
from tfserve.training.dataset.layouts.parts import part_of
from tfserve.training.dataset.project_folders import FEEDBACK, MODELS
from tfserve.training.dataset.search import Search, sentence, words

MAX_LEVELS = 4
"""The folders of classes are at most this deep: `archive/images/train/<class>`."""
NEVER_DATA = words(
    "runs wandb mlruns lightning_logs tb_logs tensorboard checkpoints predictions preds inference thumbs thumbnails"
    " _thumbs venv site-packages log logs"
)
"""In lower case: these have neither images nor annotations of a data set. No words for things: `trash` is a class."""
RARELY_CLASSES = words("output outputs result results backup backups export exports cache tmp temp previews")
"""In lower case: these may have annotations, so only a classification leaves them out."""
WITHOUT_LABELS = words("unlabelled unlabeled")
"""At the top: the name says that the images can't be learnt from."""
RESULTS = ("latest", "*/metrics.json")
"""In the folder `models` of a project that this server has trained on."""
MIN_ANNOTATED = 2
"""Images next to the folder itself that have annotations of the same name, or a table, are a data set."""


@dataclass
class LeftOut:
    """What is hidden, and what has such a name and is not."""

    hidden: list[Path] = field(default_factory=list)
    doubtful: list[Path] = field(default_factory=list)


def leave_out(search: Search, *, are_classes: bool) -> None:
    """Hides such folders from all readers, with a remark. `are_classes` if the folders next to them would be classes.

    Those next to the parts of a split are never classes.
    """
    found = LeftOut()
    _sort(search, search.root, found, MAX_LEVELS, are_classes=are_classes)
    hidden = [f"{search.name(path)}/" for path in found.hidden if _has_images(search, path)]
    search.left_out.update(found.hidden)
    if hidden:
        search.remarks.append(
            f"These folders were left out because programs write folders with such names: {', '.join(hidden)}."
            " If one of them belongs to the data, rename it."
        )
    search.remarks += sentence(
        "These folders have names that programs use, but nothing in them shows that a program wrote them, so they were"
        " not left out. Move those that do not belong to the data",
        [f"{search.name(path)}/" for path in found.doubtful],
    )
    _report_models(search)


def only_described(search: Search, folder: Path) -> Path | None:
    """A folder such as `output` with folders for classes, next to `photos` and the like, which have none."""
    inner = [path for path in search.data_folders(folder) if _has_images(search, path)]
    written = [path for path in inner if path.name.lower() in RARELY_CLASSES]
    others = [path for path in inner if path not in written]
    if len(written) != 1 or not others or any(search.folders(path) or not roles.is_role(path.name) for path in others):
        return None
    return written[0] if _is_described(search, written[0], are_classes=True) else None


def hint(search: Search) -> str:
    """A sentence about the hidden folders that have images, for a project without a layout."""
    hidden = sorted(f"{search.name(path)}/" for path in search.left_out if _has_images(search, path))
    listed = ", ".join(hidden[:5])
    return f" Left out because of their names: {listed}. Rename those that belong to the data." if hidden else ""


def _sort(search: Search, folder: Path, found: LeftOut, levels: int, *, are_classes: bool) -> None:
    inner = search.data_folders(folder) if folder == search.root else search.folders(folder)
    named = [path for path in inner if _may_be_written(path, are_classes=are_classes)]
    others = [path for path in inner if path not in named and _has_images(search, path)] if named else []
    ignores_others = are_classes and sum(bool(part_of(path.name)) for path in inner) > 1  # with a remark of its own
    for path in [] if ignores_others else named:
        verdict = _verdict(search, path, others, are_classes=are_classes)
        if verdict is not None:
            (found.hidden if verdict else found.doubtful).append(path)
    for path in inner if levels > 1 else ():
        if path not in found.hidden and (len(inner) == 1 or roles.is_role(path.name)):
            _sort(search, path, found, levels - 1, are_classes=are_classes)


def _may_be_written(path: Path, *, are_classes: bool) -> bool:
    name = path.name.lower()
    return name in NEVER_DATA | WITHOUT_LABELS or (are_classes and name in RARELY_CLASSES) or _has_results(path)


def _verdict(search: Search, path: Path, others: Sequence[Path], *, are_classes: bool) -> bool | None:
    """Whether to hide a folder with such a name. None if it certainly belongs to the data, or there is nothing else."""
    if _has_results(path):
        return True
    direct = search.below(path.parent, image_reading.SUFFIXES, depth=0)
    if not (others or direct) or folder_evidence.is_named(search, path):
        return None
    if path.name.lower() in WITHOUT_LABELS:
        return True if path.parent == search.root else None
    if folder_evidence.is_written(search, path) or _has_copies(search, path, others, are_classes=are_classes):
        return True
    if not _has_images(search, path):
        return None if _has_tables(search, path) else True
    are_annotated = not are_classes and _are_annotated(search, direct)
    if are_classes:
        is_next_to_data = bool(others) and all(roles.is_role(each.name) for each in others)
    else:
        is_next_to_data = are_annotated or any(_is_data(search, each) for each in others)
    if not is_next_to_data:
        return False
    are_labelled = are_annotated or _has_tables(search, path.parent)
    described = [_is_described(search, each, are_classes=are_classes) for each in (path, *others)]
    return True if are_labelled or not described[0] or any(described[1:]) else None


def _has_copies(search: Search, path: Path, others: Sequence[Path], *, are_classes: bool) -> bool:
    """Whether all images have the names of others, from at least two classes: thumbnails of all classes.

    Names that several classes have, such as `001.jpg`, show nothing.
    """
    stems = [{each.stem for each in search.below(other, image_reading.SUFFIXES)} for other in others]
    own = {each.stem for each in search.below(path, image_reading.SUFFIXES)}
    if not are_classes or not own or not own <= set().union(*stems):
        return False
    known = Counter(stem for each in stems for stem in each)
    return sum(any(known[stem] == 1 for stem in own & each) for each in stems) > 1


def _is_data(search: Search, path: Path) -> bool:
    """By its name, or by the names of the folders in it: `images`, `train`, `cups/images`."""
    return roles.is_role(path.name) or any(roles.is_role(inner.name) for inner in search.folders(path))


def _are_annotated(search: Search, images: Sequence[Path]) -> bool:
    with_notes = [each for each in images if any(each.with_suffix(end).exists() for end in (".txt", ".xml", ".json"))]
    return len(with_notes) >= MIN_ANNOTATED or (len(images) >= MIN_ANNOTATED and _has_tables(search, images[0].parent))


def _has_tables(search: Search, folder: Path) -> bool:
    return bool(folder_evidence.tables(search, folder))


def _is_described(search: Search, path: Path, *, are_classes: bool) -> bool:
    """Whether a folder has labels of its own: folders for classes or parts, annotations, a table."""
    if are_classes:
        folders = [each for each in search.folders(path) if _has_images(search, each)]
        return len(folders) > 1 or _has_tables(search, path)
    if path.name.lower() in MASK_FOLDERS or any(roles.is_role(inner.name) for inner in search.folders(path)):
        return True
    return bool(search.below(path, (*folder_evidence.TABLES, ".txt", ".xml"), depth=2))


def _has_results(folder: Path) -> bool:
    return folder.name == MODELS and any(True for pattern in RESULTS for _ in folder.glob(pattern))


def _report_models(search: Search) -> None:
    """The folder `models` at the top is for results, so that it can't be a class."""
    folder, feedback = search.root / MODELS, search.root / FEEDBACK
    if not folder.is_dir() or _has_results(folder):
        return
    if any(not path.is_relative_to(feedback) for path in search.below(folder, image_reading.SUFFIXES, depth=3)):
        search.remarks.append(
            f"{search.name(folder)}/ was left out because results are written to a folder with this name. If it belongs"
            " to the data, rename it."
        )


def _has_images(search: Search, folder: Path) -> bool:
    return bool(search.below(folder, image_reading.SUFFIXES, depth=3))
