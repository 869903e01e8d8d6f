"""Image sets made by other people, from installed packages, each with a test set that training never sees.

    stamps    a paint program's photographs of animals and plants: Debian package tuxpaint-stamps-default
    pairs     two classes of twelve of them
    letters   letters and digits in the fonts that this machine has, 40 classes, the largest 20 times the smallest
    cells     photographs of solar cells, sound or defective: PyPI package elpv-dataset
    digits    handwritten digits that come with scikit-learn

`python -m benchmarks.training_sets stamps FOLDER` writes FOLDER/images/<class>/ and FOLDER/test/<class>/.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import string
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

STAMPS = Path("/usr/share/tuxpaint/stamps")
STAMP_CLASSES = {
    "birds": "animals/birds", "fish": "animals/fish", "flowers": "plants/flowers", "fruit": "food/fruit",
    "insects": "animals/insects", "mammals": "animals/mammals", "vegetables": "food/vegetables",
}  # fmt: skip
PAIRS = (("birds", "flowers"), ("fruit", "vegetables"), ("birds", "fruit"), ("flowers", "vegetables"))
LETTERS = string.digits + string.ascii_uppercase + "abde"
LETTER_SIDE = 48
TEST_SHARE = 0.3

Samples = dict[str, list[Path]]


class Missing(Exception):
    """The package that a set is made from is not installed."""


def stamps(folder: Path, *, seed: int = 1) -> None:
    """134 photographs in 7 classes; 30 % of each are for testing."""
    _divide(stamp_files(), folder, seed, lambda count: count - round(count * TEST_SHARE))


def pairs(folder: Path, *, seed: int = 1) -> None:
    """Twelve photographs of each of two classes, which follow from the seed; the rest of both for testing."""
    names = PAIRS[seed % len(PAIRS)]
    _divide({name: files for name, files in stamp_files().items() if name in names}, folder, seed, lambda _: 12)


def cells(folder: Path, *, seed: int = 1, count: int = 440) -> None:
    """Sound cells and surely defective ones, as many of each, and as many again for testing."""
    found = importlib.util.find_spec("elpv_dataset")
    if found is None or not found.submodule_search_locations:
        raise Missing("pip install elpv-dataset")
    data = Path(found.submodule_search_locations[0]) / "data"
    rows = [line.split() for line in (data / "labels.csv").read_text().splitlines()]
    known = {"sound": 0.0, "defective": 1.0}
    files = {name: [data / row[0] for row in rows if float(row[1]) == value] for name, value in known.items()}
    random = np.random.default_rng(seed)
    some = {name: [paths[at] for at in random.permutation(len(paths))[:count]] for name, paths in files.items()}
    _divide(some, folder, seed, lambda _: count // 2)


def letters(folder: Path, *, seed: int = 1) -> None:
    """1424 images: from 4 to 80 of a class, moved and turned a little; of other fonts for testing, 8 of each class."""
    random = np.random.default_rng(seed)
    fonts = random.permutation(np.array(font_files(), object)).tolist()
    learnt, unseen = fonts[: -len(fonts) // 4], fonts[-len(fonts) // 4 :]
    counts = np.round(np.geomspace(4, 80, len(LETTERS))).astype(int)
    counts = np.round(4 + (counts - 4) * (1424 - 4 * len(LETTERS)) / (counts.sum() - 4 * len(LETTERS))).astype(int)
    counts = np.minimum(counts, 80)
    while counts.sum() < 1424:
        counts[np.flatnonzero(counts < 80)[-1]] += 1
    for letter, count in zip(random.permutation(list(LETTERS)), counts, strict=True):
        name = f"small {letter}" if letter.islower() else letter
        for part, number, those in (("images", count, learnt), ("test", 8, unseen)):
            place = folder / part / name
            place.mkdir(parents=True)
            for each in range(number):
                _letter(letter, those[random.integers(len(those))], random).save(place / f"{each:03d}.png")


def digits(folder: Path, *, seed: int = 1) -> None:
    """1797 images of 8x8 pixels, enlarged to 28x28; 30 % for testing."""
    from sklearn.datasets import load_digits

    known = load_digits()
    random = np.random.default_rng(seed)
    for label in range(10):
        places = random.permutation(np.flatnonzero(known.target == label))
        tested = round(len(places) * TEST_SHARE)
        for number, place in enumerate(places):
            to = folder / ("test" if number < tested else "images") / f"Digit_{label}"
            to.mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray((known.images[place] * 255 / 16).astype(np.uint8))
            picture.resize((28, 28), Image.Resampling.BICUBIC).save(to / f"{number:04d}.png")


SETS: dict[str, Callable[..., None]] = {each.__name__: each for each in (pairs, stamps, cells, letters, digits)}


def stamp_files() -> Samples:
    if not STAMPS.is_dir():
        raise Missing("apt-get install tuxpaint-stamps-default")
    return {name: sorted(_images(STAMPS / path)) for name, path in STAMP_CLASSES.items()}


def _images(folder: Path) -> Iterator[Path]:
    return (file for file in folder.iterdir() if file.suffix in (".png", ".jpg"))


def _divide(files: Samples, folder: Path, seed: int, learnt: Callable[[int], int]) -> None:
    """Copies a random part of each class to `images`, the rest to `test`."""
    random = np.random.default_rng(seed)
    for name, paths in files.items():
        for number, place in enumerate(random.permutation(len(paths))):
            to = folder / ("images" if number < learnt(len(paths)) else "test") / name
            to.mkdir(parents=True, exist_ok=True)
            shutil.copy(paths[place], to / f"{number:04d}{paths[place].suffix}")


def font_files() -> list[str]:
    """Font files that have Latin letters, one for each family and style."""
    listed = subprocess.run(
        ["fc-list", ":lang=en:scalable=true", "file"], capture_output=True, text=True, check=True
    ).stdout
    files = sorted(line.rstrip(": ") for line in listed.splitlines())
    return [file for file in files if file.endswith((".ttf", ".otf")) and "Symbol" not in file]


def _letter(letter: str, font: str, random: np.random.Generator) -> Image.Image:
    side = LETTER_SIDE
    paper, ink = int(random.integers(170, 256)), int(random.integers(0, 90))
    image = Image.new("L", (side, side), paper)
    drawn = ImageFont.truetype(font, int(side * random.uniform(0.55, 0.8)))
    at = (side / 2 + random.uniform(-3, 3), side / 2 + random.uniform(-3, 3))
    ImageDraw.Draw(image).text(at, letter, font=drawn, fill=ink, anchor="mm")
    image = image.rotate(random.uniform(-10, 10), Image.Resampling.BICUBIC, fillcolor=paper)
    noise = random.normal(0, 6, (side, side))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.training_sets", description=__doc__)
    parser.add_argument("set", choices=SETS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    SETS[options.set](options.folder, seed=options.seed)


if __name__ == "__main__":
    main()
