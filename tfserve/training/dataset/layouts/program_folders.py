"""Folders that programs write next to a data set: results of earlier runs, thumbnails, logs. They are not classes.

By their name, and only next to folders with images that are certainly the data set: a project may well have
the classes `thumbs` and `fingers`.
"""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

from tfserve.training.dataset import image_reading
from tfserve.training.dataset.layouts import roles
from tfserve.training.dataset.layouts.parts import part_of
from tfserve.training.dataset.project_folders import MODELS
from tfserve.training.dataset.search import Search, words

MAX_LEVELS = 4
"""The folders of classes are at most this deep: `archive/images/train/<class>`."""
NEVER_DATA = words(
    "runs wandb mlruns lightning_logs tb_logs tensorboard checkpoints predictions preds inference thumbs thumbnails"
    " _thumbs venv site-packages"
)
"""In lower case: these have neither images nor annotations of a data set. No words for things: `trash` is a class."""
RARELY_CLASSES = words("output outputs result results backup backups export exports cache tmp temp previews")
"""In lower case: these may have annotations, so only a classification leaves them out."""
RESULTS = ("latest", "*/metrics.json")
"""In the folder `models` of a project that this server has trained on."""
MIN_OTHERS = 2


def leave_out(search: Search, *, are_classes: bool) -> None:
    """Hides such folders from all readers, with a remark. `are_classes` if the folders next to them would be classes.

    Those next to the parts of a split are never classes.
    """
    names = NEVER_DATA | RARELY_CLASSES if are_classes else NEVER_DATA
    found = _below(search, search.root, names, MAX_LEVELS)
    if are_classes:
        found = [path for path in found if not any(part_of(each.name) for each in search.folders(path.parent))]
    with_images = [f"{search.name(path)}/" for path in found if _has_images(search, path)]
    search.left_out.update(found)
    if with_images:
        search.remarks.append(
            f"These folders were left out because programs write folders with such names: {', '.join(with_images)}."
            " If one of them belongs to the data, rename it."
        )


def _below(search: Search, folder: Path, names: Set[str], levels: int) -> list[Path]:
    inner = search.data_folders(folder) if folder == search.root else search.folders(folder)
    written = [path for path in inner if path.name.lower() in names or _has_results(path)]
    others = [path for path in inner if path not in written and _has_images(search, path)] if written else inner
    is_certain = len(others) >= MIN_OTHERS or any(roles.is_role(path.name) for path in others)
    found = written if is_certain else []
    if levels > 1:
        for path in inner:
            if path not in found and (len(inner) == 1 or roles.is_role(path.name)):
                found = found + _below(search, path, names, levels - 1)
    return found


def _has_results(folder: Path) -> bool:
    return folder.name == MODELS and any(True for pattern in RESULTS for _ in folder.glob(pattern))


def _has_images(search: Search, folder: Path) -> bool:
    return bool(search.below(folder, image_reading.SUFFIXES, depth=3))
