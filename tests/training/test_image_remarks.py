"""Near-duplicates, transparency and animations are reported before the training."""

from __future__ import annotations

import io
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from odd_images import encoded, picture
from PIL import Image, ImageDraw, ImageEnhance
from projects import digit_project

from tfserve.training.dataset import near_duplicates
from tfserve.training.dataset.dataset_index import Findings, ImageFile
from tfserve.training.dataset.examine import examine
from tfserve.training.dataset.image_reading import ImageProperties, inspect


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


def test_an_image_that_looks_the_same_in_two_classes_is_reported_with_both(tmp_path: Path) -> None:
    same, other = encoded(photograph(2), "JPEG"), encoded(photograph(2), "WEBP")
    found = project(tmp_path, one={"same.jpg": same}, two={"copy.webp": other})
    assert found.problems == []
    conflicts, alike = remark(found, "in two classes"), remark(found, "Near-duplicates")
    assert "images/one/2.png ('one') and images/two/copy.webp ('two')" in conflicts
    assert "same.jpg" not in conflicts
    assert "images/one/2.png and images/one/same.jpg" in alike
    assert "copy.webp" not in alike


def changed(image: Image.Image, how: str) -> Image.Image:
    width, height = image.size
    match how:
        case "JPEG of quality 40":
            file = io.BytesIO()
            image.save(file, "JPEG", quality=40)
            return Image.open(file)
        case "half as large":
            return image.resize((width // 2, height // 2))
        case "another shape":
            return image.resize((width, width))
        case "darker":
            return ImageEnhance.Brightness(image).enhance(0.8)
        case "less contrast":
            return ImageEnhance.Contrast(image).enhance(0.7)
        case _:
            return image.crop((1, 1, width - 1, height - 1))


@pytest.mark.parametrize(
    "how", ["JPEG of quality 40", "half as large", "another shape", "darker", "less contrast", "cut off at the edges"]
)
def test_a_changed_copy_is_a_near_duplicate(how: str) -> None:
    images = [photograph(seed) for seed in range(20)]
    assert grouped(images + [changed(each, how) for each in images]) == [[n, n + 20] for n in range(20)]


def cell(seed: int, contrast: float) -> Image.Image:
    """What all have in common, a bright middle and two dark lines, and a little that is its own."""
    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    common = 150 - 40 * (x**2 + y**2) - 50 * ((np.abs(x - 0.4) < 0.05) | (np.abs(x + 0.4) < 0.05))
    own = np.asarray(photograph(seed).convert("L").resize((96, 96))).astype(float)
    return Image.fromarray((common + contrast * (own - own.mean())).clip(0, 255).astype(np.uint8)).convert("RGB")


def test_images_that_have_nearly_all_in_common_are_no_near_duplicates_but_their_copies_are() -> None:
    cells = [cell(seed, 0.08) for seed in range(30)]
    assert grouped(cells) == []
    assert grouped([*cells, *(changed(each, "JPEG of quality 40") for each in cells)]) == [
        [n, n + 30] for n in range(30)
    ]


def test_the_same_shape_in_another_colour_is_another_image() -> None:
    shapes = [Image.new("RGB", (64, 64), "white") for _ in range(2)]
    for shape, colour in zip(shapes, ((200, 40, 40), (40, 134, 40)), strict=True):
        ImageDraw.Draw(shape).ellipse((10, 14, 50, 40), fill=colour)
    assert grouped(shapes) == []


def grouped(images: list[Image.Image]) -> list[list[int]]:
    """The groups of near-duplicates among images."""
    with tempfile.TemporaryDirectory() as folder:
        properties = {}
        for n, image in enumerate(images):
            path = Path(folder, f"{n}.png")
            image.save(path)
            properties[str(n)] = inspect(path)
    return near_duplicates.find([ImageFile(each, 1, 1, False, each) for each in properties], properties)


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
    assert any("blank on the background" in each for each in examine(str(tmp_path), "classification", {}).problems)
    assert examine(str(tmp_path), "classification", {"background": "black"}).problems == []


def test_a_class_that_is_meant_to_be_empty_is_learnt(tmp_path: Path) -> None:
    (tmp_path / "images" / "empty").mkdir(parents=True)
    for number in range(6):
        image = Image.new("RGBA", (24, 24 + number), (255, 255, 255, 0))
        (tmp_path / "images" / "empty" / f"{number}.png").write_bytes(encoded(image, "PNG"))
    found = project(tmp_path)
    assert found.problems == []
    assert len(found.labels) == 3
    assert "images/empty/0.png" in remark(found, "show nothing")


@pytest.mark.parametrize(("suffix", "format_"), [("png", "PNG"), ("tif", "TIFF")])
def test_images_with_16_bits_of_which_few_are_used_are_reported_and_refused_if_most_are_black(
    tmp_path: Path, suffix: str, format_: str
) -> None:
    def scan(seed: int, largest: int) -> bytes:
        values = np.random.default_rng(seed).integers(0, largest + 1, (24, 24))
        values[0, 0] = largest
        return encoded(Image.fromarray(values.astype(np.uint16)), format_)

    found = project(tmp_path, one={f"faint.{suffix}": scan(1, 4095), f"good.{suffix}": scan(2, 60000)})
    assert remark(found, "Largest values").endswith(f"images/one/faint.{suffix} (4095 of 65535).")
    for number in range(20):
        (tmp_path / "images" / "two" / f"black{number}.{suffix}").write_bytes(scan(number + 3, 235))
    assert any("(235 of 65535)" in each for each in examine(str(tmp_path), "classification", {}).problems)


@pytest.mark.parametrize(("values", "is_shape"), [((7, 40_000), True), ((7, 30_000, 40_000), False)])
def test_transparency_of_16_bits_is_inspected_in_8(tmp_path: Path, values: tuple[int, ...], is_shape: bool) -> None:
    """One colour next to a transparent one is a shape; two colours are a picture."""
    stripes = np.repeat(np.array(values, np.uint16), 16)[np.newaxis].repeat(32, axis=0)
    (tmp_path / "a.png").write_bytes(encoded(Image.fromarray(stripes), "PNG", transparency=7))
    assert inspect(tmp_path / "a.png").shape_in_alpha is is_shape


def test_an_animation_is_reported(tmp_path: Path) -> None:
    film = encoded(picture(), "GIF", save_all=True, append_images=[picture(seed=1)])
    assert "film.gif" in remark(project(tmp_path, one={"film.gif": film}), "these multi-image files")


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
    values: Any = random.integers(0, 256, (10_000, 768 + 1024), np.uint8)
    hashes = random.integers(0, 2**63, 10_000).tolist()
    hashes[9_000], values[9_000] = hashes[70] ^ 5, values[70]
    properties = {
        p: ImageProperties(
            1, 1, False, p, hash=hashes[n], thumbnail=values[n, :768].tobytes(), detail=values[n, 768:].tobytes()
        )
        for n, p in enumerate(paths)
    }
    began = time.process_time()
    groups = near_duplicates.find([ImageFile(p, 1, 1, False, p) for p in paths], properties)
    assert groups == [[70, 9_000]]
    assert time.process_time() - began < 10


def test_one_class_of_white_icons_is_a_problem_on_white_and_none_on_black(tmp_path: Path) -> None:
    for name, value in (("dark", 20), ("white", 255)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(6):
            shape = np.full((24, 24, 4), value, np.uint8)
            shape[..., 3] = np.random.default_rng(number).integers(0, 256, (24, 24))
            Image.fromarray(shape).save(tmp_path / "images" / name / f"{number}.png")
    (problem,) = examine(str(tmp_path), "classification", {}).problems
    assert "blank on the background" in problem
    assert "white/0.png" in problem
    assert "dark/" not in problem
    assert examine(str(tmp_path), "classification", {"background": "grey"}).problems == []
