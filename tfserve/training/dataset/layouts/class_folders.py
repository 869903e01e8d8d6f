"""A folder for each class: `images/<class>/`, `<class>/`, and either of them below `train`, `validation` and `test`."""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from pathlib import Path, PurePath

from tfserve.training.dataset import image_reading
from tfserve.training.dataset.layouts import roles
from tfserve.training.dataset.layouts.parts import TEST, TRAINING, in_words, own_split, part_of, part_of_path
from tfserve.training.dataset.search import (
    IGNORED_FOLDERS,
    UNLABELLED,
    Labelled,
    Search,
    is_folder,
    is_image,
    is_utf8,
    same_form,
    sentence,
    shown,
)

MAX_WRAPPERS = 4
"""Folders with nothing but another folder in them that are looked into: archives often have one."""


def in_images(search: Search) -> bool:
    """Whether the folder `images` has folders for classes, as the contract says."""
    return search.images_folder.is_dir() and bool(_class_folders(search, search.images_folder))


def find(search: Search, base: Path) -> list[Labelled] | None:
    """The images below `base` with their classes; None when there are no folders for them.

    Sets `search.layout`. A class folder without images is kept as a class: it is a problem later.
    """
    if parts := _parts(search, base):
        return _in_parts(search, base, parts)
    found = _read(search, base, "")
    if not found:
        return None
    search.layout = f"{_shown(search, base)}<class>/<image>"
    return _parts_in_classes(search, found, base)


def _parts_in_classes(search: Search, files: Sequence[Labelled], base: Path) -> list[Labelled]:
    """`<class>/train/<image>` and `<class>/test/<image>` are a split, also with more folders in between.

    If half of the classes or most images have parts, images outside of them are for training: those in `test` must not
    be learnt because of some others.
    """
    given = [file._replace(part=_part_in_class(file.path, base)) for file in files]
    with_parts = [file for file in given if file.part]
    classes = {file.name for file in with_parts if file.part != TRAINING}
    if 2 * len(classes) < len({file.name for file in files}) and 2 * len(with_parts) <= len(files):
        search.remarks += sentence(
            "Folders called like parts of a split are in few class folders, so they are not used as a split",
            sorted({f"{search.name(file.path.parent)}/" for file in with_parts if file.part != TRAINING}),
        )
        return list(files)
    found = own_split([file._replace(part=file.part or TRAINING) for file in given])
    if not any(file.part for file in found):
        return list(files)
    search.remarks += sentence(
        "These images are in no part of the split, so they are used for training",
        [search.name(file.path) for file in given if not file.part],
    )
    search.layout = search.layout.replace("<class>/", "<class>/<part>/") + f" ({in_words(found)})"
    return found


def _part_in_class(path: Path, base: Path) -> str:
    return part_of_path(PurePath(*path.relative_to(base).parts[1:]))


def wrapped(search: Search) -> Path:
    """The folder that has the class folders: the root, one that it has nothing else than, or one with a split."""
    inside = _inside(search, search.root)
    below = [_inside(search, path) for path in search.data_folders(inside)]
    with_split = [path for path in below if _is_split(search, path)]
    return with_split[0] if len(with_split) == 1 and not _parts(search, inside) else inside


def _inside(search: Search, folder: Path) -> Path:
    for _ in range(MAX_WRAPPERS):
        inner = search.data_folders(folder)
        if len(inner) != 1 or not search.folders(inner[0]):
            break
        folder = inner[0]
    return folder


def looks_like_classes(search: Search, base: Path) -> bool:
    """Whether there are at least two folders with images, and no sign that they mean something else."""
    if parts := _parts(search, base):
        return any(_has_images(search, inner) for path in parts for inner in search.folders(path))
    folders = [path for path in _class_folders(search, base) if _has_images(search, path)]
    return len(folders) > 1 and not all(roles.is_role(path.name) for path in folders)


def hint(search: Search, base: Path) -> str:
    """About a single folder with images, or folders of masks or parts: a sentence, empty in other cases."""
    folders = [path for path in _class_folders(search, base) if _has_images(search, path)]
    if base != search.root and not folders:
        folders = [base] if _has_images(search, base) else []
    if len(folders) > 1 and all(roles.is_role(path.name) for path in folders):
        return roles.about([search.name(path) for path in folders])
    if len(folders) != 1 or roles.is_role(folders[0].name):
        return ""
    return (
        f" Only one folder has images ({search.name(folders[0])}/), but a classification needs a folder for each of at"
        " least two classes."
    )


def _parts(search: Search, base: Path) -> list[Path]:
    """The folders of a split: all folders are parts of it, or at least two of them with classes."""
    folders = _class_folders(search, base)
    parts = [path for path in folders if part_of(path.name)]
    return parts if len(parts) == len(folders) or _is_split(search, base) else []


def _is_split(search: Search, base: Path) -> bool:
    """Whether at least two folders are parts of a split, with folders and no images of their own.

    Only a test part may have nothing but images: those without labels.
    """
    parts = [path for path in _class_folders(search, base) if part_of(path.name)]
    with_folders = [path for path in parts if search.folders(path)]
    with_images = [path for path in parts if search.below(path, image_reading.SUFFIXES, depth=0)]
    are_tests = all(part_of(path.name) == TEST and path not in with_folders for path in with_images)
    return len(parts) > 1 and bool(with_folders) and are_tests and len({*with_folders, *with_images}) == len(parts)


def _has_images(search: Search, folder: Path) -> bool:
    return bool(search.below(folder, image_reading.SUFFIXES, depth=3))


def _class_folders(search: Search, base: Path) -> list[Path]:
    folders = [Path(entry.path) for entry in search.entries(base) if is_folder(entry)]
    return [path for path in folders if base != search.root or path.name.lower() not in IGNORED_FOLDERS]


def _in_parts(search: Search, base: Path, parts: Sequence[Path]) -> list[Labelled] | None:
    """The user's own split. Without classes in its parts there is nothing to learn from."""
    found: list[Labelled] = []
    has_classes = any(len(search.data_folders(path)) > 1 for path in parts)  # a single one is `train/images/<class>/`
    parts = sorted(parts, key=lambda path: part_of(path.name) == TEST)
    for path in parts:
        base_of_part = path if has_classes else _inside(search, path)
        if part_of(path.name) == TEST and _has_no_labels(search, base_of_part, found):
            _skip_unlabelled(search, path)
        else:
            found += _read(search, base_of_part, part_of(path.name))
    if not found:
        return None
    search.remarks += sentence(
        "Folders next to the parts of the split were ignored",
        [search.name(path) for path in _class_folders(search, base) if path not in parts],
    )
    found = own_split(_joined(search, found))
    names = "|".join(path.name for path in parts)
    kept = f" ({in_words(found)})" if in_words(found) else ""
    search.layout = f"{_shown(search, base)}{names}/<class>/<image>{kept}"
    return found


def _has_no_labels(search: Search, base: Path, others: Sequence[Labelled]) -> bool:
    """Whether a test part has no folders for classes, or a single one that other parts do not have."""
    folders, known = search.folders(base), {_simple(file.name) for file in others}
    return len(known) > 1 and (not folders or (len(folders) == 1 and _simple(same_form(folders[0].name)) not in known))


def _skip_unlabelled(search: Search, folder: Path) -> None:
    files = search.below(folder, image_reading.SUFFIXES)
    for path in files:
        search.skip(path, UNLABELLED)
    if files:
        search.remarks.append(
            f"{len(files)} images in {search.name(folder)} have no labels, so they were not used. To measure with"
            " them, put them into a folder for each class."
        )


def _read(search: Search, base: Path, part: str) -> list[Labelled]:
    """The images of each class folder in `base`."""
    found = []
    entries = search.entries(base)
    names = {entry.name for entry in entries if is_folder(entry)}
    for entry in entries:
        path = Path(entry.path)
        if base == search.root and path.name.lower() in IGNORED_FOLDERS:
            continue
        if not is_folder(entry):
            if base != search.root or is_image(path):
                where = f"{_shown(search, base)}<class>/<image>"
                search.skip(path, f"outside any class folder: expected {where}")
        elif not is_utf8(entry.name):
            search.problems.append(f"The name of the folder {shown(path)} is not valid UTF-8. Rename it.")
        elif outside := search.bounds.problems(path):
            search.problems += outside
        elif _repeats_all(search, path, names):
            search.remarks.append(f"{search.name(path)}/ has folders for the same classes again, so it was left out.")
        else:
            files = search.files(path, image_reading.SUFFIXES, "an image")
            found += [Labelled(file, same_form(path.name), part) for file in files]
            if not files:
                search.empty_classes.setdefault(same_form(path.name), path)
    return found


def _repeats_all(search: Search, folder: Path, names: Set[str]) -> bool:
    """Whether it has the same folders as there are next to it: some archives have everything twice.

    `names` are those of all folders there.
    """
    inner = {path.name for path in search.folders(folder)}
    return len(inner) > 1 and len(inner) == len(names) - 1 and inner == names - {folder.name}


def _joined(search: Search, files: Sequence[Labelled]) -> list[Labelled]:
    """Classes whose names differ between the parts only in capitals, blanks and hyphens become one."""
    by_part: dict[str, dict[str, None]] = {}
    for file in files:
        by_part.setdefault(file.part, {})[file.name] = None
    known: dict[str, None] = {}
    joined: dict[tuple[str, str], str] = {}
    for part, names in by_part.items():
        for name in [name for name in names if name not in known]:
            same = [other for other in known if other not in names and _simple(other) == _simple(name)]
            if len(same) == 1:
                joined[part, name] = same[0]
            else:
                known[name] = None
    pairs = [f"{name!r} in {part} is {other!r}" for (part, name), other in joined.items()]
    search.remarks += sentence("Classes whose names differ between the parts of the split were merged", pairs)
    return [file._replace(name=joined.get((file.part, file.name), file.name)) for file in files]


def _simple(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name.casefold())


def _shown(search: Search, base: Path) -> str:
    inside = shown(base.relative_to(search.root))
    return "" if inside == "." else f"{inside}/"
