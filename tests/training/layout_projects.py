"""Project folders in the layouts that people have, with pictures like no others."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from zlib import crc32

import numpy as np
from PIL import Image
from projects import noise

from tfserve.training.dataset.dataset_index import Findings
from tfserve.training.dataset.examine import examine


def pictures(folder: Path, count: int, *, suffix: str = ".png", first: int = 0) -> list[Path]:
    """Different images: a hash of the path is the seed."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:03d}{suffix}" for number in range(first, first + count)]
    for path in paths:
        noise(crc32(str(path).encode())).save(path)
    return paths


def class_folders(base: Path, classes: Iterable[str], count: int = 3) -> Path:
    for name in classes:
        pictures(base / name, count)
    return base


def examined(project: Path, kind: str = "classification", **parameters: object) -> Findings:
    """What is found when only the folder of the project may be used."""
    return examine(
        str(project), kind, dict(parameters), [str(project.parent.resolve())], work=project.parent / "derived"
    )


def good(project: Path, kind: str = "classification", **parameters: object) -> Findings:
    found = examined(project, kind, **parameters)
    assert found.problems == []
    return found


def counts(found: Findings) -> dict[str, int]:
    """Images by class, as the user writes it."""
    return {name: sum(image.label == n for image in found.images) for n, name in enumerate(found.display)}


def parts(found: Findings) -> dict[str, int]:
    names = [image.part for image in found.images]
    return {name: names.count(name) for name in sorted(set(names))}


VOC_PALETTE = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 128, 128, 0, 128, 0, 128, 128, 128, 128, 128, 64, 0, 0]
"""The first nine colours: number 7 is grey."""


def palette_mask(path: Path, values: np.ndarray, palette: list[int] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values.astype(np.uint8)).convert("P")
    image.putdata(values.ravel().tolist())
    known = VOC_PALETTE if palette is None else palette
    image.putpalette([*known, *[224, 224, 192] * (256 - len(known) // 3)])
    image.save(path)


def blocks(*values: int, size: tuple[int, int] = (16, 16)) -> np.ndarray:
    """A mask of stripes with these values."""
    return np.asarray(values, np.uint8)[np.arange(size[1]) * len(values) // size[1]][np.newaxis].repeat(size[0], axis=0)
