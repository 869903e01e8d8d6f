"""Checks the project of a segmentation: its masks, the meaning of their values, and whether they match their images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tfserve.tensors.specs import Array
from tfserve.training.dataset import instance_masks, labels, mask_values, masks
from tfserve.training.dataset.dataset_index import ImageFile
from tfserve.training.dataset.image_reading import Bad
from tfserve.training.dataset.labels import LabelsInfo
from tfserve.training.dataset.layouts import class_names, groups, polygons, recognise, upright
from tfserve.training.dataset.layouts.class_names import ClassNames
from tfserve.training.dataset.layouts.recognise import Segmented
from tfserve.training.dataset.mask_values import Meaning
from tfserve.training.dataset.masks import MaskProperties
from tfserve.training.dataset.search import Search, in_threads, sentence

BACKGROUND = "background"
MIN_IMAGES = 4
MIN_VALUES = 2
MAX_VALUES = 32
"""Classes without names. More values are the mark of masks that were blurred or saved as JPEG."""


def examine(search: Search, parameters: Mapping[str, Any]) -> None:
    """Fills `search` with the images, masks, labels and problems of a segmentation."""
    found = recognise.segmentation(search)
    if found is None:
        return
    kept = search.examine(found.files, [-1] * len(found.files))
    chosen = parameters.get("ignore", "auto")
    reader = _Drawn(search, found) if found.annotated else _Files(search, found, chosen)
    reader.read({search.project / image.path: image for _, image in kept})
    _check_count(search)
    groups.apply(search, str(parameters.get("groups", "auto")), [])


def _check_count(search: Search) -> None:
    if len(search.images) < MIN_IMAGES:
        search.problems.append(
            f"{search.root} has {len(search.images)} usable images with masks, but at least {MIN_IMAGES} are needed."
        )


def _save(values: Array, folder: Path, number: int) -> Path:
    from PIL import Image

    path = folder / f"{number:06d}.png"
    Image.fromarray(values).save(path)
    return path


def _set_masks(search: Search, mask_of: Mapping[str, Path]) -> None:
    """The good images with their masks; those without a good one are left out."""
    search.images[:] = [
        msgspec.structs.replace(image, mask=search.relative(mask_of[image.path]))
        for image in search.images
        if image.path in mask_of
    ]


# --- masks in files


class _Files:
    """Masks in separate files, converted if they have colours or another orientation than their images."""

    def __init__(self, search: Search, found: Segmented, ignore: Any) -> None:
        self._search = search
        self._found = found
        self._chosen = ignore

    def read(self, images: Mapping[Path, ImageFile]) -> None:
        search = self._search
        image_of = {self._found.masks[path]: image for path, image in images.items()}
        properties = self._properties(image_of)
        names = class_names.find(search) if properties else None
        meaning = mask_values.meaning(properties, names.colours if names else {})
        search.problems += meaning.problems
        if not meaning.problems:
            orientations = self._orientations(image_of, properties)
            mask_of, images_with = self._converted(image_of, properties, meaning, orientations)
            _set_masks(search, mask_of)
            self._name(images_with, names, meaning, properties)
            if names is None and meaning.convert is None:
                self._check_instances(properties)

    def _properties(self, image_of: Mapping[Path, ImageFile]) -> dict[Path, MaskProperties]:
        properties, wrong = {}, []
        for path, found in in_threads(_inspect, image_of, self._search.threads):
            if isinstance(found, Bad):
                wrong.append(f"{path} ({found})")
            else:
                properties[path] = found
        self._search.problems += sentence("These masks can't be used", wrong)
        return properties

    def _orientations(
        self, image_of: Mapping[Path, ImageFile], properties: Mapping[Path, MaskProperties]
    ) -> dict[Path, int]:
        """The orientation to apply to each mask; masks of other sizes are a problem."""
        sizes = {path: (mask.width, mask.height) for path, mask in properties.items()}
        files = {path: _file_and_size(self._search, image_of[path]) for path in properties}
        orientations, wrong = upright.orientations(sizes, files)
        self._search.problems += sentence(
            "These masks have another size than their images",
            [f"{path} ({size[0]}x{size[1]}, the image {image_of[path].width}x{image_of[path].height})"
             for path, size in sizes.items() if path in wrong],
        )  # fmt: skip
        return orientations

    def _converted(
        self,
        image_of: Mapping[Path, ImageFile],
        properties: Mapping[Path, MaskProperties],
        meaning: Meaning,
        orientations: Mapping[Path, int],
    ) -> tuple[dict[str, Path], Counter[int]]:  # fmt: skip
        """Image → mask, and the number of masks with each value."""
        images_with: Counter[int] = Counter()
        mask_of: dict[str, Path] = {}
        numbered = {path: number for number, path in enumerate(properties)}

        def convert(path: Path) -> tuple[Path, list[int]]:
            if meaning.convert is None and path not in orientations:
                return path, properties[path].values
            values = meaning.convert(path) if meaning.convert else masks.read(path)
            values = upright.rotated(values, orientations.get(path, 1))
            return _save(values, self._search.work("masks"), numbered[path]), np.unique(values).tolist()

        for path, (mask, values) in in_threads(convert, properties, self._search.threads):
            mask_of[image_of[path].path] = mask
            images_with.update(values)
        return mask_of, images_with

    def _name(
        self,
        images_with: Counter[int],
        names: ClassNames | None,
        meaning: Meaning,
        properties: Mapping[Path, MaskProperties],
    ) -> None:
        search = self._search
        given = meaning.numbers or (names.numbers if names else {})
        name_of = {number: label for label, number in given.items()}
        display = names.display if names else {}
        shown = {value: display.get(label, label) for value, label in name_of.items()}
        has_palette = any(mask.has_palette and not mask.is_ramp for mask in properties.values())
        search.ignore = mask_values.ignored_value(
            sorted(images_with), shown, self._chosen, has_palette=has_palette and meaning.convert is None
        )
        values = sorted({0, *images_with} - {search.ignore})
        if names is not None:
            self._check_names(values, names, name_of)
        self._check_values(values, len(properties), names)
        search.problems += self._same_everywhere(images_with)
        search.numbers = values
        if name_of.get(0, "").strip() == BACKGROUND:
            del name_of[0]
        search.labels = [name_of.get(value, _default_name(value)) for value in values]
        search.display = [display.get(label, label) for label in search.labels]
        if search.ignore is not None and images_with[search.ignore]:
            search.remarks.append(
                f"The value {search.ignore} in {images_with[search.ignore]} masks is not a class: its pixels are used"
                " neither for training nor for measuring. If it is a class, set the parameter ignore to 'none'."
            )

    def _same_everywhere(self, images_with: Mapping[int, int]) -> list[str]:
        """The problem with masks that all have one value other than 0."""
        values, where = {*images_with} - {self._search.ignore}, self._search.root
        if len(values) != 1 or 0 in values:
            return []
        return [f"All masks in {where} have the value {min(values)} everywhere, so there is nothing to learn."]

    def _check_instances(self, properties: Mapping[Path, MaskProperties]) -> None:
        if instance_masks.suspected({path: mask.values for path, mask in properties.items()}):
            self._search.remarks.append(instance_masks.REMARK)

    def _check_names(self, values: list[int], names: ClassNames, name_of: Mapping[int, str]) -> None:
        search = self._search
        search.problems += names.problems
        if not names.is_ours or names.problems:
            return
        unused = {number: label for label, number in names.numbers.items() if number not in values}
        search.problems += [
            f"{names.path} assigns {number} to {names.display.get(label, label)!r}, but no mask has this value."
            for number, label in unused.items()
            if number not in (0, search.ignore)
        ]
        search.problems += [
            f"{names.path} has no name for the mask value {value}. Add a line '<label>,{value}'."
            for value in values
            if value and value not in name_of
        ]

    def _check_values(self, values: list[int], mask_count: int, names: ClassNames | None) -> None:
        search = self._search
        if mask_count and len(values) < MIN_VALUES:
            search.problems.append(
                f"All masks in {search.root} are background only (0). Annotate at least one other class."
            )
        if len(values) > MAX_VALUES and names is None:
            search.problems.append(
                f"The masks in {search.root} have {len(values)} different values ({', '.join(map(str, values[:8]))},"
                f" …), at most {MAX_VALUES} are expected without names in labels_info.txt: one for each class. If each"
                " object has its own number, give all objects of a class the same one. If the masks were saved with"
                " loss or smoothed, save them as PNG with the original values."
            )


def _file_and_size(search: Search, image: ImageFile) -> tuple[Path, tuple[int, int]]:
    return search.project / image.path, (image.width, image.height)


def _inspect(path: Path) -> MaskProperties | Bad:
    try:
        return masks.inspect(path)
    except Bad as bad:
        return bad


def _default_name(value: int) -> str:
    return BACKGROUND if value == 0 else f"value {value}"


# --- masks drawn from annotations


class _Drawn:
    """Masks drawn from outlines."""

    def __init__(self, search: Search, found: Segmented) -> None:
        self._search = search
        self._found = found

    def read(self, images: Mapping[Path, ImageFile]) -> None:
        search = self._search
        used = sorted({shape.name for path in images for shape in self._found.annotated[path].shapes})
        values = self._values(used)
        sizes = {path: (each.width, each.height) for path, each in self._found.annotated.items() if path in images}
        orientations, wrong = upright.orientations(
            sizes, {path: _file_and_size(search, images[path]) for path in sizes}
        )
        search.problems += sentence(
            "These images have another size than their annotations say",
            [f"{path} ({images[path].width}x{images[path].height}, annotated {sizes[path]})" for path in sorted(wrong)],
        )
        if len(search.labels) < MIN_VALUES:
            search.problems.append(f"No image in {search.root} has an outline. Annotate at least one object.")
        if not search.problems:
            _set_masks(search, self._draw(images, values, orientations))

    def _values(self, used: list[str]) -> dict[str, int]:
        """Name → value in the masks; sets the labels."""
        search = self._search
        ignored = [name for name in used if mask_values.is_ignored(name)]
        background = [name for name in used if name.strip("_").lower() == BACKGROUND]
        classes = [name for name in used if name not in ignored and name not in background]
        label_of, remarks = labels.distinct(classes)
        search.remarks += remarks
        info = LabelsInfo.find(search.project, label_of) or LabelsInfo.find(search.root, label_of)
        numbers = self._numbers(classes, label_of, info)
        search.ignore = mask_values.IGNORE if ignored else None
        ordered = sorted(classes, key=lambda name: numbers[name])
        search.numbers = [0, *(numbers[name] for name in ordered)]
        search.labels = [BACKGROUND, *(label_of[name] for name in ordered)]
        search.display = [BACKGROUND, *ordered]
        return numbers | dict.fromkeys(ignored, mask_values.IGNORE) | dict.fromkeys(background, 0)

    def _numbers(self, classes: list[str], label_of: Mapping[str, str], info: LabelsInfo | None) -> dict[str, int]:
        """By labels_info.txt, else the annotations' own where they fit into a mask, else 1, 2, 3, … by name."""
        search = self._search
        if info is not None:
            search.problems += info.problems
            missing = [name for name in classes if not 0 < info.numbers.get(label_of[name], 0) < mask_values.IGNORE]
            search.problems += sentence(f"{info.path} has no number from 1 to 254 for", missing)
            return {name: info.numbers.get(label_of[name], 0) for name in classes}
        own = {name: self._found.numbers.get(name, 0) for name in classes}
        if all(0 < number < mask_values.IGNORE for number in own.values()) and len(set(own.values())) == len(own):
            return own
        return {name: number for number, name in enumerate(classes, start=1)}

    def _draw(
        self, images: Mapping[Path, ImageFile], values: dict[str, int], orientations: Mapping[Path, int]
    ) -> dict[str, Path]:
        folder = self._search.work("masks")
        numbered = {path: number for number, path in enumerate(images)}

        def draw(path: Path) -> Path:
            mask = polygons.draw(self._found.annotated[path], values)
            return _save(upright.rotated(mask, orientations.get(path, 1)), folder, numbered[path])

        return {images[path].path: mask for path, mask in in_threads(draw, images, self._search.threads)}
