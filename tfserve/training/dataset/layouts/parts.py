"""A data set's own split: the names that people give to its parts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from tfserve.training.dataset.search import Labelled, Search

TRAINING, VALIDATION, TEST = "train", "validation", "test"

_NAMES = {
    TRAINING: ("train", "training", "trainset", "train_set", "training_set", "tr", "train2017", "train2014"),
    VALIDATION: ("val", "valid", "validation", "validation_set", "val_set", "dev", "val2017", "val2014"),
    TEST: ("test", "testing", "testset", "test_set", "test2017", "test2014", "eval", "holdout"),
}
NO_PART = frozenset({"", "unassigned", "unused", "split", "none"})
"""What programs write, in lower case, for an image in no part: Google's UNASSIGNED, Edge Impulse's `split`."""
NO_FOLDER = "in no folder or table of a part (train, val, test)"
"""Why images are left out if others have their part from folders or from the names of tables."""
_PARTS = {name: part for part, names in _NAMES.items() for name in names}


def part_of(name: str) -> str:
    """`train`, `validation` or `test` for a usual name of one, else an empty string."""
    return _PARTS.get(name.strip().lower(), "")


def is_no_part(name: str) -> bool:
    return name.strip().lower() in NO_PART


def part_of_path(path: PurePath) -> str:
    """By the first folder of a relative path that has such a name."""
    return next((part for name in path.parts[:-1] if (part := part_of(name))), "")


def own_split(files: Sequence[Labelled]) -> list[Labelled]:
    """The files with their parts, or without any if all are in one part, which is not a split."""
    if len({file.part for file in files}) > 1:
        return list(files)
    return [file._replace(part="") for file in files]


def in_split(search: Search, files: Sequence[Labelled], why: str) -> list[Labelled]:
    """The files without those in no part, if others are in several: they would be the only ones that choose the model.

    `why` says what they lack.
    """
    left_out = {file.path for file in files if not file.part}
    if not left_out or len({file.part for file in files} - {""}) < 2:
        return list(files)
    for path in sorted(left_out):
        search.skip(path, why)
    search.remarks.append(f"{len(left_out)} of {len(files)} images were left out because they are {why}.")
    return [file for file in files if file.path not in left_out]


def in_words(files: Sequence[Labelled]) -> str:
    """`train 70, validation 20, test 10`, or an empty string without a split."""
    counts = {part: sum(file.part == part for file in files) for part in (TRAINING, VALIDATION, TEST)}
    return ", ".join(f"{part} {count}" for part, count in counts.items() if count)
