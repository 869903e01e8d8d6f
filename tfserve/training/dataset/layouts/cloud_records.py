"""A line of SageMaker's manifest, an entry of Edge Impulse or Azure Custom Vision, as a record with plain labels.

SageMaker     {"source-ref": "s3://…/a.jpg", "job": {"annotations": […]}, "job-metadata": {"class-map": {"0": "cup"}}}
Edge Impulse  {"path": "a.jpg", "category": "training", "label": {"type": "label", "label": "cat"}}
Azure         {"originalImageUri": "https://…/a.jpg", "tags": [{"tagName": "cat"}], "regions": […]}

Each job of SageMaker adds its result to the line, so that a correction comes next to what it corrects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

FILE, LABEL = "file", "label"
IMAGE, TAG = "source-ref", "tagName"
_DATE, _CLASSES, _CLASS = "creation-date", "class-map", "class-name"
_METADATA = "-metadata"
_UNDECIDED = "split"
"""Instead of a part: Edge Impulse chooses one when it reads the file."""

Record = dict[str, Any]


def with_labels(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """The record with the label of its image, or with a list of several; as it is if it is of another program."""
    if isinstance(record.get(IMAGE), str):
        return _of_newest_job(record)
    label, tags = record.get(LABEL), record.get("tags")
    if isinstance(record.get("path"), str) and isinstance(label, dict) and isinstance(label.get("type"), str):
        part = record.get("category")
        return {**record, LABEL: _edge_impulse(label), "category": None if part == _UNDECIDED else part}
    if isinstance(tags, list) and len(tags) > 1 and all(isinstance(_of(each, TAG), str) for each in tags):
        return {**record, "tags": None, TAG: sorted({each[TAG] for each in tags})}
    return record


def boxes(record: Record) -> list[Record] | None:
    """A row for each box of the newest job with boxes in a line of SageMaker's manifest. None for another format."""
    if not isinstance(file := record.get(IMAGE), str):
        return None
    if not (known := jobs_with_boxes(record)):
        return None
    job = newest(record, known)
    names = _metadata(record, job)[_CLASSES]
    given = [each for each in record[job]["annotations"] if isinstance(each, dict)]
    named = [each | {LABEL: names.get(str(each.get("class_id")), "")} for each in given]
    return [{FILE: file} | each for each in named or [{}]]


def jobs(record: Mapping[str, Any]) -> list[str]:
    """The names of SageMaker's jobs in a line, in their order there."""
    return [name for name in record if isinstance(record.get(f"{name}{_METADATA}"), dict)]


def jobs_with_boxes(record: Mapping[str, Any]) -> list[str]:
    """Those that have boxes, and the names of their classes."""
    found = [name for name in jobs(record) if isinstance(_of(record[name], "annotations"), list)]
    return [name for name in found if isinstance(_metadata(record, name).get(_CLASSES), dict)]


def jobs_with_labels(record: Mapping[str, Any]) -> list[str]:
    """Those that have one or more classes of the whole image."""
    return [name for name in jobs(record) if _CLASS in _metadata(record, name) or isinstance(record[name], list)]


def newest(record: Mapping[str, Any], names: Sequence[str]) -> str:
    """By the dates of all of them, else the last in the line, because each job adds its result to the end."""
    dates = [str(_metadata(record, name).get(_DATE, "")) for name in names]
    return names[max(range(len(names)), key=lambda at: (dates[at], at))] if all(dates) else names[-1]


def _of_newest_job(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without the other jobs. A job with several labels has their numbers, and names in its metadata."""
    if not (named := jobs_with_labels(record)):
        return record
    job = newest(record, named)
    of_jobs = {field for name in jobs(record) for field in (name, f"{name}{_METADATA}")}
    own = {name: value for name, value in record.items() if name not in of_jobs}
    names = _metadata(record, job).get(_CLASSES)
    if isinstance(record[job], list) and isinstance(names, dict):
        return own | {LABEL: [str(names.get(str(number), number)) for number in record[job]]}
    return own | {job: record[job], f"{job}{_METADATA}": record[f"{job}{_METADATA}"]}


def _edge_impulse(label: Mapping[str, Any]) -> Any:
    """None for `{"type": "unlabeled"}`."""
    if label["type"] == "multi-label":
        given = label.get("labels")
        return [str(each["label"]) for each in given if _of(each, "label")] if isinstance(given, list) else None
    return label.get("label") if label["type"] == "label" else None


def _metadata(record: Mapping[str, Any], job: str) -> Mapping[str, Any]:
    found = record[f"{job}{_METADATA}"]
    return found if isinstance(found, dict) else {}


def _of(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None
