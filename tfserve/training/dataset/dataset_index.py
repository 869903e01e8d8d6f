"""The result of a dataset check: the index of usable images, which the training uses, maybe in another process."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from tfserve.errors import Invalid
from tfserve.training.atomic_files import written_aside

SAMPLES, MAX_SAMPLES = 4, 120
"""Images of each class, and in total, that a check of the dataset names."""


class Box(msgspec.Struct, frozen=True, array_like=True):
    """An object in an image: class number, and the sides in pixels of the upright image.

    `crowd` marks a region with many objects that are not annotated one by one.
    """

    label: int
    left: float
    top: float
    right: float
    bottom: float
    crowd: bool = False


class ImageFile(msgspec.Struct, frozen=True, array_like=True):
    """A good image. Paths are relative to the project folder; `label` is an index into `Findings.labels`.

    `digest` is a hash of the file's bytes, and of its mask's. `grey` says that it has no colours. `part` is `train`,
    `validation` or `test` if the project has its own split, otherwise empty. Images of the same non-empty
    `group` show the same scene, so they belong on the same side of a split. `boxes` are the objects of a detection.
    """

    path: str
    width: int
    height: int
    grey: bool
    digest: str
    label: int = -1
    mask: str | None = None
    part: str = ""
    group: str = ""
    boxes: tuple[Box, ...] = ()


TWIN = "the same image as"
"""The beginning of the reason for which copies are left out. The path of the other image follows."""
MAX_REASONS = 10


class Skipped(msgspec.Struct, frozen=True):
    """A file that is left out of the training, and why."""

    path: str
    reason: str


def reasons(skipped: Sequence[Skipped]) -> str:
    """`12 the same image as another, 3 corrupt`: the most frequent reasons, without what differs from file to file."""
    starts = (each.reason.partition(":")[0] for each in skipped)
    counts = Counter(f"{TWIN} another" if start.startswith(TWIN) else start for start in starts)
    shown = [f"{count} {reason}" for reason, count in counts.most_common(MAX_REASONS)]
    rest = sum(counts.values()) - sum(count for _, count in counts.most_common(MAX_REASONS))
    return ", ".join(shown + ([f"{rest} for other reasons"] if rest else []))


class Findings(msgspec.Struct, kw_only=True):
    """The good images, and the labels in the order of the model's outputs with the numbers given to them.

    For a segmentation the numbers are the values in the masks; the first is 0, the background. `ignore` is the value of
    pixels that belong to no class. `display` are the labels as the user writes them, `layout` is the arrangement of
    files that was recognised, in words, and `remarks` are sentences that do not prevent a training.
    """

    train_type: str
    project_dir: str
    labels: list[str]
    numbers: list[int]
    images: list[ImageFile]
    skipped: list[Skipped]
    problems: list[str]
    display: list[str] = msgspec.field(default_factory=list)
    layout: str = ""
    remarks: list[str] = msgspec.field(default_factory=list)
    ignore: int | None = None

    @property
    def names(self) -> list[str]:
        """The classes as the user writes them: for sentences."""
        return self.display or self.labels

    def fingerprint(self, parameters: dict[str, Any]) -> str:
        """Equal for two trainings if and only if one may continue where the other stopped."""
        described = [
            self.train_type, self.labels, self.numbers, self.ignore, self.images, sorted(parameters.items()),
        ]  # fmt: skip
        return hashlib.sha256(msgspec.json.encode(described)).hexdigest()

    def summary(self) -> dict[str, Any]:
        """What the task's response says of the data set. Classes of a segmentation have no number of images."""
        counts = Counter(image.label for image in self.images)
        parts = Counter(image.part for image in self.images if image.part)
        classes = [
            {"label": label, "display": display, "number": number}
            | ({"images": counts[n]} if self.train_type == "classification" else {})
            for n, (label, display, number) in enumerate(zip(self.labels, self.display, self.numbers, strict=True))
        ]
        return {
            "layout": self.layout, "images": len(self.images), "skipped": len(self.skipped), "classes": classes,
            "split": dict(parts), "groups": len({image.group for image in self.images} - {""}),
            "ignore": self.ignore, "remarks": self.remarks,
        }  # fmt: skip

    def samples(self) -> list[dict[str, str]]:
        """A few images of each class, for people: {path, label}. Images without a class have an empty label."""
        shown: Counter[int] = Counter()
        found: list[dict[str, str]] = []
        for image in self.images:
            if shown[image.label] < SAMPLES and len(found) < MAX_SAMPLES:
                shown[image.label] += 1
                label = self.display[image.label] if 0 <= image.label < len(self.display) else ""
                found.append({"path": image.path, "label": label})
        return found

    def write(self, file: Path) -> None:
        with written_aside(file) as aside:
            aside.write_bytes(msgspec.json.encode(self))


def read(file: Path) -> Findings:
    """Raises `Invalid` when the file is missing or invalid."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=Findings)
    except (OSError, msgspec.DecodeError) as error:
        raise Invalid(f"The results of the dataset check can't be read ({error}). Check the project again.") from error
