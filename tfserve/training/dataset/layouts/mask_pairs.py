"""Images and masks in files of their own, matched by name: `images/` + `labels/`, VOC, Cityscapes, CamVid and others.

A file is a mask by a folder in its path (`masks/`, `SegmentationClass/`, `trainannot/`) or by the end of its name
(`x_mask.png`). It belongs to the image whose path is the same without those words, in the same part of the split.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tfserve.training.dataset import image_reading, masks, text_reading
from tfserve.training.dataset.layouts.parts import TEST, in_words, own_split, part_of
from tfserve.training.dataset.search import Labelled, Search, same_form, sentence, words

IMAGE_FOLDERS = words(
    "images image imgs img jpegimages leftimg8bit rgb inputs input photos pictures img_dir orig original originals"
    " jpg jpgs x data"
)
MASK_FOLDERS = words(
    "labels label masks mask annotations annotation annots annot ann segmentationclass segmentationclasspng gtfine"
    " gtcoarse gt groundtruth ground_truth groundtruths targets target ann_dir segmentation segmentations seg"
    " semantic y"
)
OTHER_FOLDERS = words(
    "segmentationobject segmentationobjectpng segmentationclassvisualization segmentationclassnpy"
    " segmentationobjectvisualization segmentationobjectnpy instances instance visualization visualizations overlays"
    " preview previews disparity depth"
)
"""Images that are neither: masks of single objects, or visualisations."""

_MASK_SUFFIX = re.compile(
    r"[-_. ](gtFine_labelTrainIds|gtFine_labelIds|gtCoarse_labelIds|labelTrainIds|labelIds|masks?|labels?|gt"
    r"|segmentation|seg|annotation|anno|ground_?truth|L)$",
    re.IGNORECASE,
)
_IMAGE_SUFFIX = re.compile(r"[-_. ](leftImg8bit|image|img|rgb|sat|orig)$", re.IGNORECASE)
_NO_CLASSES = re.compile(r"_(color|colour|instanceIds|instanceTrainIds|polygons)$", re.IGNORECASE)
_ANNOTATED = re.compile(r"^(.+?)[-_]?(annot|annotations?|labels?|masks?)$", re.IGNORECASE)

Key = tuple[str, ...]


class MaskPair(NamedTuple):
    image: Path
    mask: Path
    part: str


class _Role(NamedTuple):
    """What a file is, by its path: `key` is the same for an image and its mask."""

    is_mask: bool
    part: str
    key: Key
    folder: Path


_Files = dict[Key, tuple[_Role, Path]]


def find(search: Search) -> list[MaskPair] | None:
    """The images with their masks; None when there are no masks. Sets `search.layout`."""
    if _is_contract(search):
        files = search.files(search.images_folder, image_reading.SUFFIXES, "an image")
        files += search.files(search.root / "labels", masks.SUFFIXES, "a mask")
    else:
        files = search.below(search.root, tuple(dict.fromkeys((*image_reading.SUFFIXES, *masks.SUFFIXES))))
    pictures, found = _by_key(search, files)
    if not found:
        search.hint = _hint(search, files)
        return None
    _match_endings(pictures, found)
    listed = _image_sets(search)
    _report_unmatched(search, pictures, found, listed)
    pairs = [
        MaskPair(pictures[key][1], found[key][1], pictures[key][0].part or listed.get(key[-1], ""))
        for key in sorted(pictures.keys() & found.keys())
    ]
    files_with_parts = own_split([Labelled(pair.image, "", pair.part) for pair in pairs])
    pairs = [pair._replace(part=file.part) for pair, file in zip(pairs, files_with_parts, strict=True)]
    _describe(search, pairs, files_with_parts)
    return pairs


def _hint(search: Search, files: Sequence[Path]) -> str:
    """About masks in formats that change their values: a sentence, empty without any."""
    lossy = [path for path in files if path.suffix.lower() not in masks.SUFFIXES and _is_called_mask(search, path)]
    if not lossy:
        return ""
    return (
        f" {len(lossy)} files, such as {search.name(lossy[0])}, seem to be masks, but files of the type"
        f" {lossy[0].suffix} don't keep their values exactly: save masks as PNG."
    )


def _is_called_mask(search: Search, path: Path) -> bool:
    *folders, _ = path.relative_to(search.root).parts
    return any(name.lower() in MASK_FOLDERS for name in folders) or bool(_MASK_SUFFIX.search(path.stem))


def _is_contract(search: Search) -> bool:
    """Whether there are `images` and `labels`, both with files."""
    labels = search.root / "labels"
    if not (search.images_folder.is_dir() and labels.is_dir()):
        return False
    return bool(search.below(search.images_folder, image_reading.SUFFIXES) and search.below(labels, masks.SUFFIXES))


def _by_key(search: Search, files: Sequence[Path]) -> tuple[_Files, _Files]:
    """Images and masks by their keys. Two with the same key are a problem, because the choice is ambiguous."""
    pictures: _Files = {}
    found: _Files = {}
    for path in files:
        role = _role(search, path)
        if role is None:
            continue
        known = (found if role.is_mask else pictures).setdefault(role.key, (role, path))
        if known[1] is not path:
            search.problems.append(f"{known[1]} and {path} have the same name. Rename or remove one of them.")
    return pictures, found


def _role(search: Search, path: Path) -> _Role | None:
    """None for files that are neither."""
    relative = PurePosixPath(same_form(path.relative_to(search.root).as_posix()))
    part, is_mask, is_image, rest = "", False, False, []
    for name in relative.parts[:-1]:
        lower = name.lower()
        annotated = _ANNOTATED.fullmatch(name)
        if lower in OTHER_FOLDERS:
            return None
        if part_of(name):
            part = part_of(name)
        elif lower in MASK_FOLDERS or (annotated and (part_of(annotated[1]) or annotated[1].lower() in IMAGE_FOLDERS)):
            is_mask, is_image = True, False
            part = (part_of(annotated[1]) if annotated else "") or part
        elif lower in IMAGE_FOLDERS:
            is_mask, is_image = False, True
        else:
            rest.append(name)
    stem = relative.stem
    if is_mask and _NO_CLASSES.search(stem):
        return None
    if not is_mask and not is_image and (suffix := _MASK_SUFFIX.search(stem)):
        is_mask, stem = True, stem[: suffix.start()]
    if relative.suffix.lower() not in (masks.SUFFIXES if is_mask else image_reading.SUFFIXES):
        return None
    return _Role(is_mask, part, (part, *rest, stem), path.parent)


def _match_endings(pictures: _Files, found: _Files) -> None:
    """Where names are not the same: both without a usual ending, then by the name alone if that is clear."""
    for shorten in (_without_ending, _without_folders):
        free_images = _by_short(shorten, pictures.keys() - found.keys())
        for short, keys in _by_short(shorten, found.keys() - pictures.keys()).items():
            image_keys = free_images.get(short, [])
            if len(keys) > 1:  # Cityscapes has several forms of a mask
                keys = [key for key in keys if key[-1].lower().endswith("labelids")]
            if len(image_keys) == len(keys) == 1 and _same_part(image_keys[0], keys[0]):
                found[image_keys[0]] = found.pop(keys[0])
    for key in [key for key in found if key[-1].endswith("labelTrainIds")]:
        del found[key]


def _same_part(one: Key, other: Key) -> bool:
    """Whether the parts of the split, which keys begin with, do not contradict each other."""
    return one[0] == other[0] or "" in (one[0], other[0])


def _by_short(shorten: Callable[[Key], Key], keys: Iterable[Key]) -> dict[Key, list[Key]]:
    found: dict[Key, list[Key]] = defaultdict(list)
    for key in sorted(keys):
        found[shorten(key)].append(key)
    return found


def _without_ending(key: Key) -> Key:
    return (*key[:-1], _MASK_SUFFIX.sub("", _IMAGE_SUFFIX.sub("", key[-1])))


def _without_folders(key: Key) -> Key:
    return (_without_ending(key)[-1],)


def _image_sets(search: Search) -> dict[str, str]:
    """Stem → part, from VOC's `ImageSets/Segmentation/train.txt` and the like."""
    found: dict[str, str] = {}
    for path in search.below(search.root, (".txt",), depth=4):
        part = part_of(path.stem)
        if part and "ImageSets" in path.parts:
            try:
                names = text_reading.read(path).split()
            except (OSError, UnicodeDecodeError):
                continue
            for name in names:
                found.setdefault(same_form(PurePosixPath(name).stem), part)
    return found


def _report_unmatched(search: Search, pictures: _Files, found: _Files, listed: Mapping[str, str]) -> None:
    alone = [(role, path) for key, (role, path) in pictures.items() if key not in found]
    lonely = [(role, path) for key, (role, path) in found.items() if key not in pictures]
    mask_folder = _folder_of(search, found)
    image_folder = _folder_of(search, pictures)
    without_masks = [path for _, path in alone]
    if listed or any(role.part == TEST for role, _ in alone):  # VOC has many images without; tests often have none
        for path in without_masks:
            search.skip(path, f"no mask with the same name in {mask_folder}")
        without_masks = []
    search.problems += sentence(f"No mask with the same name in {mask_folder} for", [*map(str, without_masks)])
    search.problems += sentence(f"No image with the same name in {image_folder} for", [str(path) for _, path in lonely])


def _folder_of(search: Search, files: _Files) -> Path:
    """The folder that they are in, or the root if they are in several."""
    folders = {role.folder for role, _ in files.values()}
    return folders.pop() if len(folders) == 1 else search.root


def _describe(search: Search, pairs: Sequence[MaskPair], files: Sequence[Labelled]) -> None:
    def folders(paths: Sequence[Path]) -> str:
        names = list(dict.fromkeys(search.name(path.parent) for path in paths))
        return ", ".join(f"{name}/" for name in names[:3]) + (", …" if len(names) > 3 else "")

    kept = in_words(files)
    search.layout = (
        f"masks with the same names: {folders([pair.image for pair in pairs])} with"
        f" {folders([pair.mask for pair in pairs])}" + (f" ({kept})" if kept else "")
    )
