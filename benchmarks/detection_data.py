"""Makes a detection project: objects of known shape composed on photographs of scikit-image, with COCO annotations.

`python -m benchmarks.detection_data FOLDER [--count 300] [--seed 1] [--right]`

Discs, squares, triangles, stars and crosses of any colour, rotated, scaled, with noise and sometimes half hidden. With
`--right`, the backgrounds are crops of the right halves of the photographs, else of the left halves: so a test set
never shows a background of the training set.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SHAPES = ("disc", "square", "triangle", "star", "cross")
PHOTOGRAPHS = (
    "astronaut", "coffee", "cat", "rocket", "immunohistochemistry", "hubble_deep_field", "retina", "colorwheel"
)  # fmt: skip
OVERSAMPLING = 4
LEAST_VISIBLE = 0.5
"""An object that others cover by more than this share is not annotated, and not drawn."""


def detection(folder: Path, *, count: int = 300, side: int = 256, seed: int = 1, right: bool = False) -> None:
    """Writes `images/` and `annotations.json`."""
    random = np.random.default_rng(seed)
    photographs = backgrounds(right=right)
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for number in range(count):
        image, objects = composed(photographs[number % len(photographs)], side, random)
        name = f"{number:04d}.jpg"
        image.save(folder / "images" / name, quality=92)
        images.append({"id": number, "file_name": name, "width": side, "height": side})
        for shape, (left, top, right_end, bottom) in objects:
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "category_id": shape * 2 + 3, "iscrowd": 0,
                "bbox": [left, top, right_end - left, bottom - top], "area": (right_end - left) * (bottom - top),
            })  # fmt: skip
    categories = [{"id": shape * 2 + 3, "name": name} for shape, name in enumerate(SHAPES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "annotations.json").write_text(json.dumps(content))


def measure(server: Any, project: Path, test: Path) -> str:
    """mAP50 and mAP of the project's newest model on a test set, over the server's v1 API."""
    from tfserve.training.report.detection_metrics import Predicted, Truth, evaluate

    server.call("/create_workspace/", name="detector")
    server.call("/deploy/", name="detector", path=str(project / "models" / "latest" / "saved_model"), timeout=120)
    content = json.loads((test / "annotations.json").read_text())
    truths, predictions = [], []
    for image in content["images"]:
        file = (test / "images" / image["file_name"]).read_bytes()
        response = server.http.post(
            "/v1/models/detector:predict?min_score=0", content=file, headers={"content-type": "image/jpeg"}, timeout=60
        )
        (found,) = response.json()["predictions"]
        known = [each for each in content["annotations"] if each["image_id"] == image["id"]]
        sides = np.array([each["bbox"] for each in known], float).reshape(-1, 4)
        numbers = np.array([(each["category_id"] - 3) // 2 for each in known], int)
        truths.append(Truth(np.concatenate([sides[:, :2], sides[:, :2] + sides[:, 2:]], 1), numbers, numbers < 0))
        predictions.append(Predicted(
            np.array([each["box"] for each in found["boxes"]], float).reshape(-1, 4),
            np.array([each["score"] for each in found["boxes"]], float),
            np.array([SHAPES.index(each["label"]) for each in found["boxes"]], int),
        ))  # fmt: skip
    measured = evaluate(truths, predictions, SHAPES)
    return f"mAP50 {measured['map50']:.3f}, mAP {measured['map']:.3f}"


def composed(background: Any, side: int, random: np.random.Generator) -> tuple[Image.Image, list[Any]]:
    """An image, and for each object the number of its shape and its box: left, top, right, bottom in pixels."""
    image = Image.fromarray(crop(background, side, random))
    free = np.ones((side, side), bool)
    objects = []
    for _ in range(int(random.integers(1, 7))):
        shape = int(random.integers(len(SHAPES)))
        mask = _drawn(shape, side, random)
        visible = np.asarray(mask) > 127
        hidden = visible & ~free
        if visible.sum() < 60 or hidden.sum() > (1 - LEAST_VISIBLE) * visible.sum():
            continue
        seen = visible & free
        image.paste(_textured(image, seen, side, random), (0, 0), Image.fromarray(np.where(free, mask, 0).astype("u1")))
        free &= ~visible
        objects.append((shape, _box(visible)))
    return image.filter(ImageFilter.GaussianBlur(float(random.uniform(0, 0.8)))), objects


def _drawn(shape: int, side: int, random: np.random.Generator) -> Image.Image:
    """A mask with one shape, of a size between an eleventh and nearly half of the image."""
    radius = side * float(np.exp(random.uniform(np.log(0.045), np.log(0.22))))
    middle = random.uniform(radius * 0.6, side - radius * 0.6, size=2)
    turn = random.uniform(0, 2 * np.pi)
    mask = Image.new("L", (side * OVERSAMPLING, side * OVERSAMPLING))
    points = (_outline(shape, random) * radius) @ _rotation(turn) + middle
    ImageDraw.Draw(mask).polygon([tuple(point) for point in points * OVERSAMPLING], fill=255)
    return mask.resize((side, side), Image.Resampling.BOX)


def _outline(shape: int, random: np.random.Generator) -> Any:
    """(n, 2) corners around 0 with a radius of 1."""
    if SHAPES[shape] == "star":
        angles = np.arange(10) * np.pi / 5
        radii = np.where(np.arange(10) % 2, random.uniform(0.38, 0.48), 1.0)
        return _polar(angles, radii)
    if SHAPES[shape] == "cross":
        arm = random.uniform(0.22, 0.32)
        corners = [(arm, 1), (arm, arm), (1, arm), (1, -arm), (arm, -arm), (arm, -1)]
        return np.array(corners + [(-x, -y) for x, y in corners], float)
    count = {"disc": 48, "square": 4, "triangle": 3}[SHAPES[shape]]
    return _polar(np.arange(count) * 2 * np.pi / count, np.ones(count))


def _polar(angles: Any, radii: Any) -> Any:
    return np.stack([np.cos(angles) * radii, np.sin(angles) * radii], axis=1)


def _rotation(angle: float) -> Any:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def _textured(image: Image.Image, seen: Any, side: int, random: np.random.Generator) -> Image.Image:
    """A colour that can be told from what is behind it, with noise and a gradient."""
    behind = np.asarray(image)[seen].mean(axis=0)
    while True:
        colour = random.integers(0, 256, size=3)
        if np.abs(colour - behind).max() > 64:
            break
    gradient = np.linspace(-1, 1, side)[:, None, None] * random.uniform(-40, 40)
    noise = random.normal(0, random.uniform(0, 20), (side, side, 3))
    return Image.fromarray(np.clip(colour + gradient + noise, 0, 255).astype(np.uint8))


def _box(visible: Any) -> tuple[float, float, float, float]:
    rows, columns = np.flatnonzero(visible.any(axis=1)), np.flatnonzero(visible.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def backgrounds(*, right: bool) -> list[Any]:
    """The left or right halves of the photographs."""
    return [_half(each, right=right) for each in _photographs()]


def _photographs() -> list[Any]:
    import skimage.data

    found = []
    for name in PHOTOGRAPHS:
        try:
            image = np.asarray(getattr(skimage.data, name)())[..., :3]
        except Exception:
            continue
        found.append(image)
    return found


def _half(photograph: Any, *, right: bool) -> Any:
    middle = photograph.shape[1] // 2
    return photograph[:, middle:] if right else photograph[:, :middle]


def crop(photograph: Any, side: int, random: np.random.Generator) -> Any:
    """A square of the photograph, of any size, resized."""
    size = int(random.integers(min(photograph.shape[:2]) // 2, min(photograph.shape[:2]) + 1))
    top, left = (int(random.integers(0, length - size + 1)) for length in photograph.shape[:2])
    patch = Image.fromarray(photograph[top : top + size, left : left + size])
    patch = patch.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else patch
    return np.asarray(patch.resize((side, side), Image.Resampling.BICUBIC))


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.detection_data", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--right", action="store_true")
    options = parser.parse_args()
    detection(options.folder, count=options.count, seed=options.seed, right=options.right)


if __name__ == "__main__":
    main()
