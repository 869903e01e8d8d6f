"""Makes detection projects from images of other people: their cut-outs on photographs of scikit-image.

`python -m benchmarks.detection_sets stamps|letters FOLDER [--count 200] [--side 160]`

    stamps    photographs of animals and plants from a paint program: Debian package tuxpaint-stamps-default
    letters   ten capitals in the fonts that this machine has

Writes `FOLDER/train` and `FOLDER/test`. No stamp, font or background of the test part is in the training part.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks import detection_data, training_sets

LETTERS = "ABEGKMRSTX"
STAMP_CLASSES = ("birds", "fish", "flowers", "fruit", "vegetables")
TEST_SHARE = 0.3
SIDES = 0.18, 0.5
"""The longer side of an object, as a share of the image's."""
LEAST_VISIBLE = 0.6

CutOut = Callable[[np.random.Generator], Image.Image]
"""Draws an object of some size: RGBA, where alpha is its shape."""


def stamps(*, testing: bool) -> Mapping[str, CutOut]:
    every = {name: _transparent(training_sets.stamp_files()[name]) for name in STAMP_CLASSES}
    return {name: _any_of(_part(files, testing=testing)) for name, files in every.items()}


def letters(*, testing: bool) -> Mapping[str, CutOut]:
    fonts = _part(training_sets.font_files(), testing=testing)
    return {letter: _letter(letter, fonts) for letter in LETTERS}


SETS = {each.__name__: each for each in (stamps, letters)}


def make(name: str, folder: Path, *, count: int = 200, side: int = 160, seed: int = 1) -> None:
    """Writes both parts, each with `annotations.json`."""
    for part, images in (("train", count), ("test", count // 2)):
        testing = part == "test"
        _write(folder / part, SETS[name](testing=testing), images, side, seed + testing, right=testing)


def _write(folder: Path, classes: Mapping[str, CutOut], count: int, side: int, seed: int, *, right: bool) -> None:
    random = np.random.default_rng(seed)
    backgrounds = detection_data.backgrounds(right=right)
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for number in range(count):
        image = Image.fromarray(detection_data.crop(backgrounds[number % len(backgrounds)], side, random))
        for category, box in _compose(image, classes, random):
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": category + 1, "bbox": box}
            )
        image.save(folder / "images" / f"{number:04d}.jpg", quality=92)
        images.append({"id": number, "file_name": f"{number:04d}.jpg", "width": side, "height": side})
    categories = [{"id": number, "name": name} for number, name in enumerate(classes, start=1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content))


def _compose(
    image: Image.Image, classes: Mapping[str, CutOut], random: np.random.Generator
) -> Iterator[tuple[int, list[int]]]:
    """Draws objects on the image; the class number and COCO's box of each."""
    free = np.ones((image.height, image.width), bool)
    for _ in range(int(random.integers(1, 5))):
        category = int(random.integers(len(classes)))
        drawn = list(classes.values())[category](random)
        drawn = drawn.rotate(random.uniform(-15, 15), Image.Resampling.BICUBIC, expand=True)
        longer = image.width * random.uniform(*SIDES)
        drawn.thumbnail((longer, longer))
        if random.random() < 0.5 and len(classes) == len(STAMP_CLASSES):
            drawn = drawn.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        corner = [int(random.integers(0, max(1, full - own))) for full, own in zip(image.size, drawn.size, strict=True)]
        layer = Image.new("RGBA", image.size)
        layer.paste(drawn, (corner[0], corner[1]))
        visible = np.asarray(layer)[..., 3] > 127
        if visible.sum() < 40 or (visible & free).sum() < visible.sum():
            continue
        free &= ~visible
        image.paste(layer, (0, 0), layer)
        rows, columns = np.flatnonzero(visible.any(axis=1)), np.flatnonzero(visible.any(axis=0))
        yield category, [int(columns[0]), int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1]


def _part(files: list[Any], *, testing: bool) -> list[Any]:
    shuffled = np.random.default_rng(3).permutation(np.array(files, object)).tolist()
    tested = round(len(shuffled) * TEST_SHARE)
    return list(shuffled[:tested] if testing else shuffled[tested:])


def _transparent(files: list[Path]) -> list[Path]:
    """Those that are cut out."""
    found = []
    for file in files:
        with Image.open(file) as image:
            if image.has_transparency_data and np.asarray(image.convert("RGBA"))[..., 3].min() < 10:
                found.append(file)
    return found


def _any_of(files: list[Path]) -> CutOut:
    def draw(random: np.random.Generator) -> Image.Image:
        image = Image.open(files[int(random.integers(len(files)))]).convert("RGBA")
        return image.crop(image.getchannel("A").point(lambda value: 255 * (value > 127)).getbbox())

    return draw


def _letter(letter: str, fonts: list[str]) -> CutOut:
    def draw(random: np.random.Generator) -> Image.Image:
        font = ImageFont.truetype(fonts[int(random.integers(len(fonts)))], 96)
        image = Image.new("RGBA", (192, 192))
        ink = tuple(int(value) for value in random.integers(0, 256, 3))
        ImageDraw.Draw(image).text((96, 96), letter, font=font, fill=(*ink, 255), anchor="mm")
        box = image.getbbox()
        return image.crop(box) if box else image

    return draw


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.detection_sets", description=__doc__)
    parser.add_argument("name", choices=SETS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--side", type=int, default=160)
    options = parser.parse_args()
    make(options.name, options.folder, count=options.count, side=options.side)


if __name__ == "__main__":
    main()
