"""Images that are versions of one image by their paths: other sizes of it, and copies that an augmentation made.

On both sides of a split, they would make a model look better than it is. Only paths that leave no doubt count.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tfserve.training.dataset.search import Search, sentence

MAX_SIZES = 16
"""If more paths are the same without sizes, these are rather positions or counts."""
_SIZE = re.compile(r"[ _.-]*(?<!\d)(?:\d{2,4} ?[x×] ?\d{2,4}|\d{2,4} ?px|@\dx)(?![^\W_])[ _-]*")
"""As in `48x48/open.png`, `open-48x48.png`, `open@2x.png` and `32px_open.png`."""

_AUGMENTOR = re.compile(r"_original_(.+)\.\w+_[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
"""The package Augmentor writes `output/cat_original_img 1.png_<uuid>.png` for `img 1.png`."""
_CHANGE = re.compile(
    r"(?:[ _.-]+(?:aug|augmented|[hv]?flip|[hv]?flipped|mirror|mirrored|rot|rotate|rotated|rotation|crop|cropped|shift|"
    r"shifted|zoom|zoomed|shear|noise|noisy|blur|blurred|bright|brightness|dark|contrast|copy)"
    r"(?:[ _.-]*\(?-?\d{1,4}(?:deg)?\)?)?)+$"
)
"""What is added to the name of an image for a changed copy, as in `cup_rot90.png` and `cup - Copy (2).png`."""


def join(search: Search) -> None:
    """Makes groups of such images. Those that have a group keep it."""
    stems = {
        index: str(Path(image.path).with_suffix("")).casefold()
        for index, image in enumerate(search.images)
        if not image.group
    }
    if not any(image.boxes for image in search.images):  # with boxes, they are rather tiles, named by their places
        _join_same(
            search, _sizes(search, stems), "Images whose paths differ only in a size are taken for versions of one"
        )
    copies = [*_of_augmentor(search, stems), *_changed(search, stems)]
    _join_same(search, copies, "Images are taken for copies of another if their names add only what was changed")


def set_groups(search: Search, groups: Sequence[str]) -> None:
    search.images[:] = [
        msgspec.structs.replace(image, group=group) for image, group in zip(search.images, groups, strict=True)
    ]


def _sizes(search: Search, stems: dict[int, str]) -> list[list[int]]:
    found: dict[tuple[int, str], list[int]] = {}
    sized: set[tuple[int, str]] = set()
    for index, stem in stems.items():
        key = search.images[index].label, _without_sizes(stem)
        found.setdefault(key, []).append(index)
        if key[1] != stem:
            sized.add(key)
    return [indices for key, indices in found.items() if key in sized and 1 < len(indices) <= MAX_SIZES]


def _without_sizes(stem: str) -> str:
    """The path unchanged if it has no size, or nothing else in its name: `640x480.jpg` says nothing of its image."""
    bounds = f"/{stem}/"

    def separator(size: re.Match[str]) -> str:
        return "" if "/" in (bounds[size.start()], bounds[size.end() + 1]) else "/"

    shortened = _SIZE.sub(separator, stem)
    return shortened if shortened.rpartition("/")[2] else stem


def _of_augmentor(search: Search, stems: dict[int, str]) -> list[list[int]]:
    found: dict[tuple[int, str], list[int]] = {}
    for index, stem in stems.items():
        if (match := _AUGMENTOR.search(stem)) is not None:
            found.setdefault((search.images[index].label, match[1]), []).append(index)
    for index, stem in stems.items():
        copies = found.get((search.images[index].label, stem.rpartition("/")[2]))
        if copies is not None:
            copies.insert(0, index)
    return [indices for indices in found.values() if len(indices) > 1]


def _changed(search: Search, stems: dict[int, str]) -> list[list[int]]:
    """Each image that has copies, followed by them."""
    originals = {(search.images[index].label, stem): index for index, stem in stems.items()}
    found: dict[int, list[int]] = {}
    for index, stem in stems.items():
        original = originals.get((search.images[index].label, _CHANGE.sub("", stem)), index)
        if original != index and _CHANGE.search(stem) is not None:
            found.setdefault(original, [original]).append(index)
    return list(found.values())


def _join_same(search: Search, versions: Sequence[Sequence[int]], remark: str) -> None:
    groups = [image.group for image in search.images]
    for indices in versions:
        name = next((groups[index] for index in indices if groups[index]), search.images[indices[0]].path)
        for index in indices:
            groups[index] = name
    if versions:
        set_groups(search, groups)
    examples = [" and ".join(search.images[index].path for index in indices[:2]) for indices in versions]
    search.remarks += sentence(remark, examples)
