"""What a user should know of the images of a project that can be read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from tfserve.training import near_duplicates
from tfserve.training.findings import ImageFile
from tfserve.training.images import Look
from tfserve.training.search import Search, sentence

MAX_BLANK_SHARE = 0.5
_NOTES = frozenset({".txt", ".json", ".xml", ".csv", ".tsv", ".md", ".yaml", ".yml", ".html", ".ini", ".db", ".pdf"})


def review(search: Search) -> None:
    """Adds remarks and problems, and puts images that look alike into one group."""
    if not search.images:
        return
    _check_left_out(search)
    groups = near_duplicates.find(search.images, search.looks)
    _report_near_duplicates(search, groups)
    search.images = near_duplicates.grouped(search.images, groups)
    _report_transparency(search)
    search.remarks += sentence(
        "Of these files with several pictures only the first one is used", _paths(search, lambda look: look.animated)
    )


def _report_near_duplicates(search: Search, groups: Sequence[Sequence[int]]) -> None:
    found = [[search.images[place] for place in places] for places in groups]
    pairs = [(first, other) for first, *others in found for other in others]
    conflicts = [
        " and ".join(f"{image.path} ({search.display[image.label]!r})" for image in pair)
        for pair in pairs if pair[0].label != pair[1].label
    ]  # fmt: skip
    leaks = [_names(pair) for pair in pairs if pair[0].part != pair[1].part]
    alike = [_names(pair) for pair in pairs if pair[0].label == pair[1].label]
    search.remarks += (
        sentence("Images that look the same are in two classes, so that one of them may be wrong", conflicts)
        + sentence("Images that look the same are in two parts of the split, so the result will look too good", leaks)
        + sentence("Near-duplicates, which are kept on the same side of the split", alike)
    )


def _check_left_out(search: Search) -> None:
    """A problem when most files are left out, whatever the reasons; copies and notes next to images don't count."""
    left_out = [
        each for each in search.skipped
        if Path(each.path).suffix.lower() not in _NOTES and not each.reason.startswith("the same image as")
    ]  # fmt: skip
    if len(left_out) <= len(search.images) or search.problems:
        return
    reasons = Counter(re.split(r"[:(]", each.reason)[0].strip() for each in left_out).most_common(4)
    search.problems.append(
        f"{len(left_out)} of {len(left_out) + len(search.images)} files in {search.root} are left out"
        f" ({', '.join(f'{count} {reason}' for reason, count in reasons)}). Replace or remove them."
    )


def _report_transparency(search: Search) -> None:
    shapes = _paths(search, lambda look: look.shape_in_alpha)
    blank = _paths(search, lambda look: look.blank)
    search.remarks += sentence(
        "Only the transparency of these images shows a shape, since all their visible pixels have one colour; they are"
        " composited over the parameter 'background'",
        shapes,
    )
    told = sentence(
        "These images are blank over the background. Choose another one with the parameter 'background', such as"
        " 'black'",
        blank,
    )
    if len(blank) > MAX_BLANK_SHARE * len(search.images):
        search.problems += told
    else:
        search.remarks += told


def _paths(search: Search, applies: Callable[[Look], bool]) -> list[str]:
    return [image.path for image in search.images if applies(search.looks[image.path])]


def _names(pair: tuple[ImageFile, ImageFile]) -> str:
    return f"{pair[0].path} and {pair[1].path}"
