"""A data set's own split: the names that people give to its parts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from tfserve.training.search import Labelled

TRAINING, VALIDATION, TEST = "train", "validation", "test"

_NAMES = {
    TRAINING: ("train", "training", "trainset", "train_set", "training_set", "tr", "train2017", "train2014"),
    VALIDATION: ("val", "valid", "validation", "validation_set", "val_set", "dev", "val2017", "val2014"),
    TEST: ("test", "testing", "testset", "test_set", "test2017", "test2014", "eval", "holdout"),
}
_PARTS = {name: part for part, names in _NAMES.items() for name in names}


def part_of(name: str) -> str:
    """`train`, `validation` or `test` for a usual name of one, else an empty string."""
    return _PARTS.get(name.strip().lower(), "")


def part_of_path(path: PurePath) -> str:
    """By the first folder of a relative path that has such a name."""
    return next((part for name in path.parts[:-1] if (part := part_of(name))), "")


def own_split(files: Sequence[Labelled]) -> list[Labelled]:
    """The files with their parts, or without any if all are in one part, which is no split."""
    if len({file.part for file in files}) > 1:
        return list(files)
    return [file._replace(part="") for file in files]


def in_words(files: Sequence[Labelled]) -> str:
    """`train 70, validation 20, test 10`, or an empty string without a split."""
    counts = {part: sum(file.part == part for file in files) for part in (TRAINING, VALIDATION, TEST)}
    return ", ".join(f"{part} {count}" for part, count in counts.items() if count)
