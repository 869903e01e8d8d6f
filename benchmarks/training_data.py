"""Makes project folders from real images that come with scikit-learn and scikit-image.

`python -m benchmarks.training_data digits|photographs|segmentation FOLDER`
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

PHOTOGRAPHS = ("astronaut", "coffee", "cat", "rocket", "immunohistochemistry", "hubble_deep_field")


def digits(folder: Path, *, per_class: int | None = None, side: int = 28) -> None:
    """The 1797 handwritten digits, 8x8 enlarged to 28x28, in ten class folders."""
    pictures, labels = _digits()
    seen = dict.fromkeys(range(10), 0)
    for number, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        if per_class is not None and seen[label] >= per_class:
            continue
        seen[label] += 1
        place = folder / "images" / f"Digit_{label}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC).save(place / f"{number:04d}.png")


def photographs(folder: Path, *, per_class: int = 200, side: int = 64, seed: int = 1) -> None:
    """Patches of photographs; which photograph is the class."""
    random = np.random.default_rng(seed)
    for name, photograph in _photographs().items():
        place = folder / "images" / name
        place.mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            patch = _patch(photograph, side, random)
            Image.fromarray(patch).save(place / f"{number:04d}.jpg", quality=90)


def segmentation(folder: Path, *, count: int = 400, side: int = 128, seed: int = 1) -> None:
    """Digits in random colours and sizes on patches of the two photographs of scikit-learn; masks are 0 and 255."""
    from sklearn.datasets import load_sample_images

    random = np.random.default_rng(seed)
    pictures, _ = _digits()
    backgrounds = load_sample_images().images
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image = _patch(backgrounds[number % 2], side, random).astype(float)
        mask = np.zeros((side, side), np.uint8)
        for _ in range(random.integers(1, 4)):
            _compose(image, mask, pictures[random.integers(len(pictures))], random)
        Image.fromarray(image.astype(np.uint8)).save(folder / "images" / f"{number:04d}.png")
        Image.fromarray(mask).save(folder / "labels" / f"{number:04d}.png")


def _compose(image: Any, mask: Any, digit: Any, random: np.random.Generator) -> None:
    side = int(random.integers(32, 65))
    top, left = random.integers(0, image.shape[0] - side, size=2)
    drawn = np.asarray(Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)) > 127
    inside = (slice(top, top + side), slice(left, left + side))
    image[inside][drawn] = _visible_colour(image[inside].mean(axis=(0, 1)), random)
    mask[inside][drawn] = 255


def _visible_colour(background: Any, random: np.random.Generator) -> Any:
    """A random colour that a person would tell from the background."""
    while True:
        colour = random.integers(0, 256, size=3)
        if np.abs(colour - background).max() > 96:
            return colour


def _digits() -> tuple[Any, Any]:
    from sklearn.datasets import load_digits

    known = load_digits()
    return (known.images * 255 / 16).astype(np.uint8), known.target.tolist()


def _photographs() -> dict[str, Any]:
    import skimage.data
    from sklearn.datasets import load_sample_images

    known = {name: getattr(skimage.data, name)() for name in PHOTOGRAPHS}
    china, flower = load_sample_images().images
    return known | {"china": china, "flower": flower}


def _patch(photograph: Any, side: int, random: np.random.Generator) -> Any:
    top = random.integers(0, photograph.shape[0] - side)
    left = random.integers(0, photograph.shape[1] - side)
    return photograph[top : top + side, left : left + side]


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.training_data", description=__doc__)
    kinds = {"digits": digits, "photographs": photographs, "segmentation": segmentation}
    parser.add_argument("kind", choices=kinds)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    kinds[options.kind](options.folder)


if __name__ == "__main__":
    main()
