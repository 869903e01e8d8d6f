"""The class in the names of the files: `cat.1.jpg`, `cat_001.png`, `Cat (3).jpg`, `012-cat.png`.

Names are not made for this, so it is used only if there are no classes elsewhere and it is certain: all images are in
one folder or in the parts of a split, every name is a word and a number, the words repeat, and none of them is what
cameras and programs call images.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from tfserve.training.dataset.layouts.image_index import ImageIndex
from tfserve.training.dataset.layouts.parts import in_words, own_split, part_of, part_of_path
from tfserve.training.dataset.search import Labelled, Search, same_form, words

MIN_CLASSES, MIN_IMAGES = 2, 2
MIN_MEAN = 3
"""Images per class, at least. Names that hardly repeat are titles."""
NO_CLASSES = words(
    "img image images imgs dsc dscn dscf dscs pxl pic pics frame frames screen"
    " shot scan scans file files sample samples example item data train training test val valid validation unknown"
    " untitled dcim mvi mov vid video clip capture snap snapshot pano foto fotos bild gopr dji sam cimg hpim imag"
    " wa whatsapp fb received download downloads copy page slide tile patch crop cam camera p x a b input output raw"
    " rgb id no nr n render thumb thumbnail wp wallpaper mvimg burst cover index view class label category"
)
NO_BEGINNINGS = ("image", "photo", "pict", "screenshot")
"""Of such words, in several languages."""

_ALL_AFTER = re.compile(r"^(.*?)[\s._()\d-]*\d\)?$")
"""Without repetitions in repetitions, because names may have hundreds of digits."""
_ONE_AFTER = re.compile(r"^(.*?)[\s._-]*\(?\d+\)?$")
_BEFORE = re.compile(r"^\(?\d+\)?[\s._-]+(.*)$")
_ONLY_NUMBERS = re.compile(r"[\d\s._()-]*")


def find(search: Search, index: ImageIndex) -> list[Labelled] | None:
    """The images with their classes; None if names do not show them with certainty. Sets `search.layout`."""
    if not index.files or not _in_one_place(index):
        return None
    named = [path for path in index.files if not _ONLY_NUMBERS.fullmatch(path.stem)]
    for word_of in (_word_by(_ALL_AFTER), _word_by(_ONE_AFTER), _word_by(_BEFORE)):
        classes = [word_of(path.stem) for path in named]
        if _are_certain(classes, len(index.files)):
            return _labelled(search, index, named, classes)
    return None


def _word_by(pattern: re.Pattern[str]) -> Callable[[str], str]:
    def word(stem: str) -> str:
        match = pattern.match(same_form(stem))
        return match[1].strip(" ._-") if match else ""

    return word


def _in_one_place(index: ImageIndex) -> bool:
    """Whether all images are in one folder, apart from the parts of a split."""
    places = {tuple(part for part in index.relative(file).parts[:-1] if not part_of(part)) for file in index.files}
    return len(places) == 1


def _are_certain(classes: Sequence[str], images: int) -> bool:
    counts = Counter(classes)
    return (
        len(classes) > images / 2
        and MIN_CLASSES <= len(counts) <= images / MIN_MEAN
        and min(counts.values()) >= MIN_IMAGES
        and all(_may_be_a_class(name) for name in counts)
    )


def _may_be_a_class(name: str) -> bool:
    """Whether it has a letter, and is not the name of images in general: `IMG_2024`, `Screenshot from`."""
    found = re.findall(r"[^\W\d_]+", name.casefold())
    return bool(found) and found[0] not in NO_CLASSES and not found[0].startswith(NO_BEGINNINGS)


def _labelled(search: Search, index: ImageIndex, named: Sequence[Path], classes: Sequence[str]) -> list[Labelled]:
    first = named[0]
    files = own_split(
        [Labelled(path, name, part_of_path(index.relative(path))) for path, name in zip(named, classes, strict=True)]
    )
    kept = f", {in_words(files)}" if in_words(files) else ""
    search.layout = f"the class in the names of files ({first.name} is {classes[0]!r}{kept})"
    search.remarks.append(
        f"The classes were taken from the names of the files: {', '.join(sorted({*classes})[:20])}. If these are not"
        " classes, put the images of each class into a folder."
    )
    for path in sorted({*index.files} - {*named}):
        search.skip(path, "no class: its name has no word, as those of the other files have")
    return files
