"""Names of folders that say what files are for (`masks`, `train_images`, `trainA`), not of what class they are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath

from tfserve.training.dataset.layouts.mask_pairs import IMAGE_FOLDERS, MASK_FOLDERS, OTHER_FOLDERS
from tfserve.training.dataset.layouts.parts import part_of

_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_KNOWN = IMAGE_FOLDERS | MASK_FOLDERS | OTHER_FOLDERS
_NUMBERED_CLASS = re.compile(r"(label|target|annotation|annot?|y|seg|instance)s?([-_ ]?\d+|[-_ ][a-z])", re.IGNORECASE)
"""`label_0` and `target1` may well be classes, `train1` and `masks2` hardly."""
_FILLERS = frozenset({"set", "sets", "dataset", "files", "folder", "all"})


def is_role(name: str) -> bool:
    """Whether all words of a name are such, also `train1` and `trainA`. Single letters may be classes."""
    if len(name) < 2 or _NUMBERED_CLASS.fullmatch(name):
        return False
    if name.lower() in _KNOWN or part_of(name):
        return True
    words = [word.lower() for word in _WORD.findall(name)]
    long = [word for word in words if len(word) > 1]
    return bool(long) and all(word in _KNOWN or word in _FILLERS or part_of(word) for word in long)


def about(names: Sequence[str]) -> str:
    """What folders with such names are probably, and what to do."""
    listed = ", ".join(f"{name}/" for name in names[:5])
    if any(PurePath(name).name.lower() in MASK_FOLDERS for name in names):
        return f" The folders {listed} seem to be images and their masks or labels: use trainType segmentation."
    return f" The folders {listed} seem to be parts of the data, not classes: labels are missing."
