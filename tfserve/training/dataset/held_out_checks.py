"""Checks that images can be held out to measure a model, although images of a group stay together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tfserve.training.dataset.dataset_index import ImageFile
from tfserve.training.dataset.search import MAX_PATHS, Search
from tfserve.training.dataset.splitting import rarest_labels
from tfserve.training.fit.folds import may_be_held_out, relabelled

GROUP = "group of images (the same scene, near-duplicates, or versions of one image)"
OWN_PARTS = ("validation", "test")


def check(search: Search, train_type: str, *, has_named_groups: bool) -> None:
    """A problem if no image may be held out, else a remark about classes that are never measured.

    `has_named_groups`: some groups follow from the parameter `groups`, and not from the look of the images.
    """
    if search.problems or not search.images:
        return
    parts = {image.part for image in search.images}
    if train_type == "detection" and "test" in parts and len(parts) > 1:  # measured on that part only
        return
    divisions = _divisions(search.images, train_type)
    held_out = next((found for images in divisions if len(found := may_be_held_out(images))), None)
    if held_out is None:
        advice = " If they are independent, set the parameter groups to 'none'." if has_named_groups else ""
        search.problems.append(
            f"No image can be held out to measure the model, because {_reason(search, train_type)}. Add images that are"
            f" independent of these.{advice}"
        )
    elif not parts.intersection(OWN_PARTS):
        _report_unmeasured(search, [search.images[at] for at in held_out])


def _divisions(images: Sequence[ImageFile], train_type: str) -> list[list[ImageFile]]:
    """The images with the labels by which they are divided into folds, in the order in which these are tried."""
    if train_type == "classification":
        return [[*images]]
    rarest = rarest_labels(images) if train_type == "detection" else [-1] * len(images)
    return [relabelled(images, labels) for labels in (rarest, [-1] * len(images))]


def _reason(search: Search, train_type: str) -> str:
    parts = {image.part for image in search.images}
    where = " outside of the part test" if "test" in parts and len(parts) > 1 else ""
    if {"", "train"} <= parts:
        return f"each image in no part of the split is in a {GROUP} with those of the part train, or all of its class"
    if train_type != "classification":
        return f"all images{where} are one {GROUP}"
    return f"each class has only one image or one {GROUP}{where}: {_listed(search.display)}"


def _report_unmeasured(search: Search, held_out: Sequence[ImageFile]) -> None:
    """Classes of several images, none of which may be held out."""
    measured = {label for image in held_out for label in _labels(image)}
    images_with = Counter(label for image in search.images for label in _labels(image))
    never = [label for label, count in sorted(images_with.items()) if count > 1 and label not in measured]
    if never:
        search.remarks.append(
            "These classes are never measured, because none of their images may be held out (those of the part train,"
            f" and those in a {GROUP} without which a class would have no image to learn from):"
            f" {_listed([search.display[label] for label in never])}. Add images that are independent of these."
        )


def _labels(image: ImageFile) -> set[int]:
    return {box.label for box in image.boxes} or {image.label} - {-1}


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_PATHS} more" if len(names) > MAX_PATHS else ""
    return ", ".join(map(repr, names[:MAX_PATHS])) + more
