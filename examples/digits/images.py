"""Writes scikit-learn's handwritten digits as a project of images to train on.

    .venv/bin/python examples/digits/images.py FOLDER

FOLDER/images/<class>/*.png are 20 images of each digit from zero to four, FOLDER/unseen/<class>.png one more of each.
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image
from sklearn.datasets import load_digits

WORDS = ("zero", "one", "two", "three", "four")
PER_CLASS = 20


def write(project: Path) -> None:
    digits = load_digits()
    for digit, word in enumerate(WORDS):
        images = digits.images[digits.target == digit]
        for number, image in enumerate(images[:PER_CLASS]):
            save(image, project / "images" / word / f"{number}.png")
        save(images[PER_CLASS], project / "unseen" / f"{word}.png")


def save(image, path: Path) -> None:  # type: ignore[no-untyped-def]
    """8 x 8 values from 0 to 16 as a file of 28 x 28 pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((image * 15.9).astype("uint8")).resize((28, 28), Image.Resampling.BICUBIC).save(path)


write(Path(sys.argv[1]))
