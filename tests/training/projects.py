"""Little projects: real digits in class folders, squares with masks, and every kind of broken image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data
from sklearn.datasets import load_digits


def digit_project(folder: Path, *, classes: int, per_class: int, side: int = 16) -> Path:
    known = load_digits()
    for label in range(classes):
        place = folder / "images" / f"Digit_{label}"
        place.mkdir(parents=True)
        pictures = known.images[known.target == label][:per_class]
        for number, picture in enumerate(pictures):
            image = Image.fromarray((picture * 255 / 16).astype(np.uint8))
            image.resize((side, side), Image.Resampling.BICUBIC).save(place / f"{number:03d}.png")
    return folder


def mask_project(folder: Path, *, count: int = 12, size: tuple[int, int] = (32, 40)) -> Path:
    """Bright rectangles on dark noise; their masks are 0 and 255. `size` is height and width."""
    random = np.random.default_rng(1)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        image = random.integers(0, 80, (*size, 3), np.uint8)
        mask = np.zeros(size, np.uint8)
        top, left = random.integers(2, 12, size=2)
        mask[top : top + 14, left : left + 18] = 255
        image[mask > 0] += 150
        Image.fromarray(image).save(folder / "images" / f"{number:03d}.png")
        Image.fromarray(mask).save(folder / "labels" / f"{number:03d}.png")
    return folder


def photograph_project(folder: Path, *, count: int = 16, kinds: int = 2) -> Path:
    """Discs (1) and a few squares (2, the other kind) of textures on parts of a photograph.

    Each mask has a stripe of 255.
    """
    random = np.random.default_rng(1)
    ground, textures = data.coffee(), (data.grass(), data.brick())
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    rows, columns = np.mgrid[:96, :96]
    for number in range(count):
        top, left = random.integers(0, 250, size=2)
        image = ground[top : top + 96, left : left + 96].copy()
        mask = np.zeros((96, 96), np.uint8)
        for value in (1, 1, 2) if kinds > 1 and number % 3 == 0 else (1, 1):
            y, x = random.integers(20, 76, size=2)
            distance = np.hypot(rows - y, columns - x) if value == 1 else np.maximum(abs(rows - y), abs(columns - x))
            inside = distance < random.integers(10, 18)
            texture = textures[value - 1][top : top + 96, left : left + 96]
            image[inside] = texture[inside][:, np.newaxis]
            mask[inside] = value
        mask[:4] = 255
        Image.fromarray(image).save(folder / "images" / f"{number:03d}.png")
        Image.fromarray(mask).save(folder / "labels" / f"{number:03d}.png")
    return folder


def noise(seed: int, size: tuple[int, int] = (16, 16)) -> Image.Image:
    """A picture like no other."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8))


def broken_images(folder: Path) -> dict[str, str]:
    """Puts one of each kind into a folder. File name → a word of the reason."""
    (folder / "empty.png").touch()
    (folder / "text.jpg").write_text("this is no image")
    noise(1, (64, 64)).save(folder / "whole.jpg")
    (folder / "cut.jpg").write_bytes((folder / "whole.jpg").read_bytes()[:-700])
    (folder / "whole.jpg").unlink()
    Image.fromarray(np.arange(256, dtype=np.float32).reshape(16, 16)).save(folder / "measured.tif")
    Image.new("1", (11_000, 10_000)).save(folder / "huge.png")
    return {
        "empty.png": "empty", "text.jpg": "not an image", "cut.jpg": "corrupt", "measured.tif": "32 bits",
        "huge.png": "huge",
    }  # fmt: skip
