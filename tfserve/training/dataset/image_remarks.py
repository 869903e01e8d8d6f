"""Remarks about the readable images of a project."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from tfserve.training.dataset import near_duplicates
from tfserve.training.dataset.dataset_index import ImageFile
from tfserve.training.dataset.image_reading import ImageProperties
from tfserve.training.dataset.search import EXPECTED, NOTE_SUFFIXES, Search, sentence

MAX_BLANK_SHARE = 0.5


def review(search: Search) -> None:
    """Adds remarks and problems, and puts images that look alike into one group."""
    if not search.images:
        return
    _check_left_out(search)
    groups = near_duplicates.find(search.images, search.properties)
    _report_near_duplicates(search, groups)
    search.images = near_duplicates.grouped(search.images, groups)
    _report_transparency(search)
    _report_faint(search)
    search.remarks += sentence(
        "Only the first image of these multi-image files is used", _paths(search, lambda image: image.animated)
    )


def _report_near_duplicates(search: Search, groups: Sequence[Sequence[int]]) -> None:
    found = [[search.images[index] for index in indices] for indices in groups]
    pairs = [(first, other) for first, *others in found for other in others]
    conflicts = [
        " and ".join(f"{image.path} ({search.display[image.label]!r})" for image in pair)
        for pair in pairs if pair[0].label != pair[1].label
    ]  # fmt: skip
    leaks = [_names(pair) for pair in pairs if pair[0].part != pair[1].part]
    alike = [_names(pair) for pair in pairs if pair[0].label == pair[1].label]
    search.remarks += (
        sentence("Images that look the same are in two classes, so one of the labels may be wrong", conflicts)
        + sentence("Images that look the same are in two parts of the split, so the figures will be too good", leaks)
        + sentence("Near-duplicates, kept on the same side of the split", alike)
    )


def _check_left_out(search: Search) -> None:
    """A problem when most files are left out, for any reason. Copies, images of tests and notes don't count."""
    left_out = [
        each for each in search.skipped
        if Path(each.path).suffix.lower() not in NOTE_SUFFIXES and not each.reason.startswith(EXPECTED)
    ]  # fmt: skip
    if len(left_out) <= len(search.images) or search.problems:
        return
    reasons = Counter(re.split(r"[:(]", each.reason)[0].strip() for each in left_out).most_common(4)
    search.problems.append(
        f"{len(left_out)} of {len(left_out) + len(search.images)} files in {search.root} are left out"
        f" ({', '.join(f'{count} {reason}' for reason, count in reasons)}). Replace or remove them."
    )


def _report_transparency(search: Search) -> None:
    shapes = _paths(search, lambda image: image.shape_in_alpha)
    hidden = _paths(search, lambda image: image.blank and image.shape_in_alpha)
    search.remarks += sentence(
        "These images show a shape only by their transparency, because all visible pixels have one colour; they are"
        " composited over the colour in the parameter 'background'",
        shapes,
    )
    sentences = sentence(
        "These images are blank on the background. Set the parameter 'background' to another colour, such as 'black'",
        hidden,
    )
    search.remarks += sentence(
        "These images show nothing: all of their pixels are alike on the background",
        _paths(search, lambda image: image.blank and not image.shape_in_alpha),
    )
    if _is_a_class_hidden(search):
        search.problems += sentences
    else:
        search.remarks += sentences


def _is_a_class_hidden(search: Search) -> bool:
    """Whether most images of a class, or of a project without such classes, have a shape that the background hides.

    Images without any shape, such as fully transparent ones, may be a class that is meant to be empty.
    """
    everything = Counter(image.label for image in search.images)
    known = [(image.label, search.properties[image.path]) for image in search.images]
    blank = Counter(label for label, each in known if each.blank and each.shape_in_alpha)
    return any(count > MAX_BLANK_SHARE * everything[label] for label, count in blank.items())


def _report_faint(search: Search) -> None:
    """Microscopes and X-ray machines write 8 or 12 bits into files of 16. It is a problem if most images are black."""
    known = [(image.path, search.properties[image.path]) for image in search.images]
    faint = [f"{path} ({each.faint[0]} of {each.faint[1]})" for path, each in known if each.faint is not None]
    sentences = sentence(
        "These images are dark or (nearly) black, because they have 16 bits per value and use few of them. Scale their"
        " values so that white is 65535, or save them with 8 bits. Largest values",
        faint,
    )
    is_problem = sum(each.is_black for _, each in known) > MAX_BLANK_SHARE * len(known)
    (search.problems if is_problem else search.remarks).extend(sentences)


def _paths(search: Search, applies: Callable[[ImageProperties], bool]) -> list[str]:
    return [image.path for image in search.images if applies(search.properties[image.path])]


def _names(pair: tuple[ImageFile, ImageFile]) -> str:
    return f"{pair[0].path} and {pair[1].path}"
