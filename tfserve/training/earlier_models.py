"""The model of an earlier task, which another training may start from: where it is, and what it knows."""

from __future__ import annotations

import json
import unicodedata
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from tfserve.errors import Invalid, nearest
from tfserve.training.project_folders import KERAS_FILE, METRICS_FILE, MODELS

PARAMETER, NONE = "warmStart", "none"
LEARNT_FILE = "learnt.json"
"""Which images a model has learnt from, also by way of the models that it started from."""
COMPACT = "compact"


class Learnt(msgspec.Struct):
    """Digests of images. `frozen`: only the last layer was trained, so the others know nothing of these images."""

    images: list[str]
    frozen: bool = False


@dataclass(frozen=True)
class Earlier:
    """The result of an earlier task. `learnt` is None when that is not known."""

    folder: Path
    train_type: str
    backbone: str
    labels: list[str]
    display: list[str]
    learnt: Learnt | None

    @property
    def task_id(self) -> str:
        return self.folder.name

    def number_of(self, labels: Sequence[str], display: Sequence[str]) -> list[int | None]:
        """For each class of now its number in the earlier model: by the display name, else by the label."""
        found: list[int | None] = [None] * len(labels)
        for theirs, ours in ((self.display, display), (self.labels, labels)):
            known = {_composed(name): number for number, name in enumerate(theirs)}
            for place, name in enumerate(ours):
                number = known.get(_composed(name))
                if found[place] is None and number not in found:
                    found[place] = number
        return found


def find(results: Path, given: str, train_type: str) -> Earlier:
    """The result of the task with this id in `results`, or in the folder that `given` names. Raises `Invalid`."""
    folder = folder_of(results, given)
    try:
        metrics = json.loads((folder / METRICS_FILE).read_bytes())
        earlier = Earlier(
            folder, str(metrics["train_type"]), str(metrics["network"]["backbone"]), list(metrics["labels"]),
            list(metrics.get("display") or metrics["labels"]), learnt_in(folder),
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError) as error:
        others = [file.parent for file in folder.parent.glob(f"*/{METRICS_FILE}")]
        there_are = [each.name for each in others if not each.is_symlink()]
        raise Invalid(
            f"{PARAMETER}: there is no model of a finished task in {folder}{nearest(folder.name, there_are)}. It was"
            " deleted, or the task has no result. Give the id of a task that is done."
        ) from error
    if earlier.train_type != train_type:
        raise Invalid(
            f"{PARAMETER}: task {earlier.task_id} trained a {earlier.train_type}, but this is a {train_type}. Give a"
            " task of the same train type."
        )
    if not zipfile.is_zipfile(folder / KERAS_FILE):
        raise Invalid(f"{PARAMETER}: {folder} has no {KERAS_FILE} (or a damaged one), whose weights would be copied.")
    return earlier


def folder_of(results: Path, given: str) -> Path:
    """`given` is a task's id, `latest`, or the path of a result."""
    return (results / MODELS / given).resolve()


def problems(results: Path, parameters: Mapping[str, Any], train_type: str) -> list[str]:
    """Of a training that could not start from the model that it names."""
    given = parameters.get(PARAMETER, NONE)
    if given == NONE:
        return []
    try:
        earlier = find(results, given, train_type)
    except Invalid as error:
        return [error.message]
    if train_type != "classification":
        return []
    is_compact, wanted = earlier.backbone == COMPACT, parameters.get("backbone", "auto")
    if wanted not in ("auto", earlier.backbone):
        return [
            f"{PARAMETER}: task {earlier.task_id} delivered the network {earlier.backbone}, of which backbone {wanted}"
            f" can use nothing. Leave backbone away, or set it to {earlier.backbone}."
        ]
    if not is_compact and parameters.get("weights", "auto") != "auto":
        return [f"{PARAMETER} and weights both say what the network starts from. Give one of them."]
    return []


def learnt_in(folder: Path) -> Learnt | None:
    try:
        return msgspec.json.decode((folder / LEARNT_FILE).read_bytes(), type=Learnt)
    except (OSError, msgspec.DecodeError):
        return None


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)
