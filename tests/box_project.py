"""A detection project that is learnt in a minute."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

SIDE = 96
LEARNT_IN = {"epochs": 40, "batch_size": 4, "mosaic": False, "zoom": 0.1, "shift": 0.05}
"""Parameters that are enough to learn it."""


def box_project(folder: Path, *, count: int = 32) -> Path:
    """Bright and dark squares of one class each on grey noise."""
    random = np.random.default_rng(1)
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for number in range(count):
        image = random.integers(100, 156, (SIDE, SIDE, 3), np.uint8)
        for category in (1, 4):
            side = int(random.integers(24, 40))
            left, top = int(random.integers(0, SIDE // 2 - side // 2)), int(random.integers(0, SIDE - side))
            left += SIDE // 2 - side // 2 if category == 4 else 0
            image[top : top + side, left : left + side] = 250 if category == 1 else 5
            annotations.append({
                "id": len(annotations), "image_id": number, "category_id": category, "bbox": [left, top, side, side],
            })  # fmt: skip
        Image.fromarray(image).save(folder / "images" / f"{number:02}.png")
        images.append({"id": number, "file_name": f"{number:02}.png", "width": SIDE, "height": SIDE})
    categories = [{"id": 1, "name": "Bright"}, {"id": 4, "name": "Dark"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder
