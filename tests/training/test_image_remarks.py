"""Near-duplicates, transparency and animations are reported before the training."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from odd_images import encoded, picture
from PIL import Image
from projects import digit_project

from tfserve.training import near_duplicates
from tfserve.training.examine import examine
from tfserve.training.findings import Findings, ImageFile
from tfserve.training.images import Look


def photograph(seed: int) -> Image.Image:
    """Structure of all sizes, as photographs have it."""
    random, values = np.random.default_rng(seed), np.zeros((96, 128, 3))
    for side in (3, 6, 12, 24):
        layer = Image.fromarray(random.integers(0, 256, (side, side, 3)).astype(np.uint8))
        values += np.asarray(layer.resize((128, 96), Image.Resampling.BICUBIC)) / 4
    return Image.fromarray(values.astype(np.uint8))


def project(folder: Path, **files: dict[str, bytes]) -> Findings:
    for label in ("one", "two"):
        (folder / "images" / label).mkdir(parents=True)
        for number in range(6):
            data = encoded(photograph(number + 100 * len(label) * (label == "two")), "PNG")
            (folder / "images" / label / f"{number}.png").write_bytes(data)
        for name, data in files.get(label, {}).items():
            (folder / "images" / label / name).write_bytes(data)
    return examine(str(folder), "classification", {})


def remark(found: Findings, words: str) -> str:
    (only,) = [each for each in found.remarks if words in each]
    return only


def test_near_duplicates_are_reported_and_kept_together(tmp_path: Path) -> None:
    smaller = photograph(3).resize((100, 75))
    found = project(tmp_path, one={"saved again.jpg": encoded(smaller, "JPEG")})
    assert "images/one/3.png and images/one/saved again.jpg" in remark(found, "Near-duplicates")
    groups = {image.path: image.group for image in found.images if image.group}
    assert groups == dict.fromkeys(["images/one/3.png", "images/one/saved again.jpg"], "images/one/3.png")


def test_an_image_that_looks_the_same_in_two_classes_is_reported_by_name(tmp_path: Path) -> None:
    found = project(tmp_path, two={"copy.webp": encoded(photograph(2), "WEBP")})
    assert found.problems == []
    assert "images/one/2.png and images/two/copy.webp" in remark(found, "in two classes")


def test_different_images_are_no_near_duplicates(tmp_path: Path) -> None:
    assert not [image for image in project(tmp_path).images if image.group]


def test_a_shape_in_the_transparency_and_blank_images_are_reported(tmp_path: Path) -> None:
    def icon(colour: int, left: int) -> bytes:
        image = Image.new("RGBA", (32, 32), (colour,) * 3 + (0,))
        image.paste((colour,) * 3 + (255,), (left, 8, left + 9, 20))
        return encoded(image, "PNG")

    found = project(tmp_path, one={"black.png": icon(0, 3), "white.png": icon(255, 5)})
    assert "black.png, images/one/white.png" in remark(found, "transparency")
    assert "images/one/white.png" in remark(found, "blank")
    assert "black.png" not in remark(found, "blank")
    for number in range(20):
        (tmp_path / "images" / "two" / f"white{number}.png").write_bytes(icon(254, number))
    assert any("blank over the background" in each for each in examine(str(tmp_path), "classification", {}).problems)
    assert examine(str(tmp_path), "classification", {"background": "black"}).problems == []


def test_an_animation_is_reported(tmp_path: Path) -> None:
    film = encoded(picture(), "GIF", save_all=True, append_images=[picture(seed=1)])
    assert "film.gif" in remark(project(tmp_path, one={"film.gif": film}), "several pictures")


def test_most_files_left_out_is_a_problem_and_notes_next_to_images_are_not(tmp_path: Path) -> None:
    project(tmp_path)
    for number in range(40):
        (tmp_path / "images" / "one" / f"{number}.txt").write_text("a caption")
    assert examine(str(tmp_path), "classification", {}).problems == []
    for number in range(40):
        (tmp_path / "images" / "one" / f"{number}.jxl").write_bytes(b"\xff\x0a")
    (problem,) = examine(str(tmp_path), "classification", {}).problems
    assert "40 of 52 files" in problem


def test_handwritten_digits_are_not_taken_for_each_other(tmp_path: Path) -> None:
    found = examine(str(digit_project(tmp_path / "p", classes=3, per_class=40)), "classification", {})
    assert len([image for image in found.images if image.group]) <= 0.1 * len(found.images)


def test_ten_thousand_images_are_compared_in_seconds() -> None:
    random = np.random.default_rng(1)
    paths = [f"{n}.png" for n in range(10_000)]
    values: Any = random.integers(0, 256, (10_000, 768), np.uint8)
    hashes = random.integers(0, 2**63, 10_000).tolist()
    hashes[9_000], values[9_000] = hashes[70] ^ 5, values[70]
    looks = {p: Look(1, 1, False, p, hash=hashes[n], thumbnail=values[n].tobytes()) for n, p in enumerate(paths)}
    began = time.process_time()
    groups = near_duplicates.find([ImageFile(p, 1, 1, False, p) for p in paths], looks)
    assert groups == [[70, 9_000]]
    assert time.process_time() - began < 10
