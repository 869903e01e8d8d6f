"""Layouts of segmentation projects, and what the values and colours of masks mean. No TensorFlow is needed."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layout_projects import blocks, examined, good, palette_mask, parts, pictures
from PIL import Image
from projects import mask_project, noise
from test_examination import only

from tfserve.training.dataset import masks
from tfserve.training.dataset.dataset_index import Findings, ImageFile
from tfserve.training.dataset.layouts import polygons
from tfserve.training.dataset.layouts.polygons import BadShape


def segmented(project: Path, **parameters: object) -> Findings:
    return good(project, "segmentation", **parameters)


def mask_of(project: Path, image: ImageFile) -> np.ndarray:
    """The values that the training will read."""
    return masks.read(project / str(image.mask))


def classes(found: Findings) -> list[tuple[str, int]]:
    return list(zip(found.display, found.numbers, strict=True))


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


# --- palettes, colours, values of no class


def test_a_palette_decides_once_for_all_masks(tmp_path: Path) -> None:
    """VOC's number 7 is grey: a mask with nothing else was read as 128."""
    for n, path in enumerate(pictures(tmp_path / "p" / "images", 4)):
        palette_mask(tmp_path / "p" / "labels" / path.name, blocks(0, 7) if n < 3 else blocks(0, 1, 7))
    found = segmented(tmp_path / "p")
    assert found.numbers == [0, 1, 7]
    assert {int(value) for image in found.images for value in np.unique(mask_of(tmp_path / "p", image))} == {0, 1, 7}


def test_even_if_only_grey_colours_of_a_palette_are_used_its_numbers_count(tmp_path: Path) -> None:
    for path in pictures(tmp_path / "p" / "images", 4):
        palette_mask(tmp_path / "p" / "labels" / path.name, blocks(0, 7))
    assert segmented(tmp_path / "p").numbers == [0, 7]


def test_a_palette_that_is_a_ramp_of_grey_means_its_levels(tmp_path: Path) -> None:
    for path in pictures(tmp_path / "p" / "images", 4):
        save(tmp_path / "p" / "labels" / f"{path.stem}.gif", blocks(0, 100, 200))
    found = segmented(tmp_path / "p")
    assert found.numbers == [0, 100, 200]
    assert np.array_equal(mask_of(tmp_path / "p", found.images[0]), blocks(0, 100, 200))


def test_a_number_that_means_different_colours_is_a_problem(tmp_path: Path) -> None:
    for n, path in enumerate(pictures(tmp_path / "p" / "images", 4)):
        colour = [0, 0, 0, 255, 0, 0] if n % 2 else [0, 0, 0, 0, 0, 255]
        palette_mask(tmp_path / "p" / "labels" / path.name, blocks(0, 1), colour)
    only(examined(tmp_path / "p", "segmentation").problems, "palettes of the masks differ", "1 is #0000ff", "#ff0000")
    (tmp_path / "p" / "labels_info.txt").write_text("label,colour\nred,#ff0000\nblue,#0000ff\n")
    found = segmented(tmp_path / "p")
    assert classes(found) == [("background", 0), ("red", 1), ("blue", 2)]
    assert [int(mask_of(tmp_path / "p", image).max()) for image in found.images] == [2, 1, 2, 1]


def test_255_in_a_palette_is_no_class(tmp_path: Path) -> None:
    for path in pictures(tmp_path / "p" / "images", 4):
        palette_mask(tmp_path / "p" / "labels" / path.name, blocks(0, 1, 255))
    found = segmented(tmp_path / "p")
    assert (found.numbers, found.ignore) == ([0, 1], 255)
    only(found.remarks, "The value 255 in 4 masks is not a class")
    found = segmented(tmp_path / "p", ignore="none")
    assert (found.numbers, found.ignore) == ([0, 1, 255], None)
    found = segmented(tmp_path / "p", ignore=1)
    assert (found.numbers, found.ignore) == ([0, 255], 1)


@pytest.mark.parametrize(
    ("values", "numbers", "ignore"),
    [
        ((0, 255), [0, 255], None),
        ((0, 127, 255), [0, 127, 255], None),
        ((0, 51, 102, 153, 204, 255), [0, 51, 102, 153, 204, 255], None),
        ((0, 1, 255), [0, 1], 255),
        ((0, 1, 2, 18, 255), [0, 1, 2, 18], 255),
        ((0, 15, 100, 255), [0, 15, 100], 255),
    ],
)
def test_255_in_grey_masks_is_no_class_only_next_to_numbers_of_classes(
    tmp_path: Path, values: tuple[int, ...], numbers: list[int], ignore: int | None
) -> None:
    for path in pictures(tmp_path / "p" / "images", 4):
        save(tmp_path / "p" / "labels" / path.name, blocks(*values))
    found = segmented(tmp_path / "p")
    assert (found.numbers, found.ignore) == (numbers, ignore)


def test_a_name_decides_what_is_ignored(tmp_path: Path) -> None:
    for path in pictures(tmp_path / "p" / "images", 4):
        save(tmp_path / "p" / "labels" / path.name, blocks(0, 1, 7, 255))
    info = tmp_path / "p" / "labels_info.txt"
    info.write_text("label,number\nRoad,1\nCar,7\nSky,255\n")
    assert classes(segmented(tmp_path / "p")) == [("background", 0), ("Road", 1), ("Car", 7), ("Sky", 255)]
    info.write_text("label,number\nRoad,1\nvoid,7\nSky,255\n")
    found = segmented(tmp_path / "p")
    assert (classes(found), found.ignore) == ([("background", 0), ("Road", 1), ("Sky", 255)], 7)


def colour_masks(project: Path, *colours: tuple[int, int, int]) -> None:
    for path in pictures(project / "images", 4):
        table = np.array(colours, np.uint8)
        save(project / "labels" / path.name, table[blocks(*range(len(colours)))])


def test_masks_of_colours_are_converted_by_the_names_of_their_colours(tmp_path: Path) -> None:
    project = tmp_path / "p"
    colour_masks(project, (0, 0, 0), (0, 128, 0), (255, 0, 0), (255, 255, 255))
    (project / "labels_info.txt").write_text("label,colour\nBäume,#008000\nDächer,#ff0000\nvoid,#FFFFFF\n")
    found = segmented(project)
    assert (classes(found), found.ignore) == ([("background", 0), ("Bäume", 1), ("Dächer", 2)], 255)
    assert found.labels == ["background", "b ume", "d cher"]
    assert np.array_equal(mask_of(project, found.images[0]), blocks(0, 1, 2, 255))


def test_colours_without_names_are_a_problem_that_lists_them(tmp_path: Path) -> None:
    project = tmp_path / "p"
    colour_masks(project, (0, 0, 0), (0, 128, 0), (255, 0, 0))
    only(examined(project, "segmentation").problems, "4 masks have colours", "#008000", "#ff0000", "'<label>,#rrggbb'")
    (project / "labels_info.txt").write_text("label,colour\ntree,#008000\ntree,#000080\nx,#12345\n")
    problems = examined(project, "segmentation").problems
    only(problems, "colours without a name", "#ff0000 (in 4 masks)")


def test_a_photograph_is_no_mask(tmp_path: Path) -> None:
    project = mask_project(tmp_path / "p")
    noise(1, (32, 40)).save(project / "labels" / "003.png")
    only(examined(project, "segmentation").problems, "can't be used", "003.png", "different colours")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\nBaum:0,128,0::\nDach:255,0,0::\n"),
        ("label_colors.txt", "0 0 0 background\n0 128 0\t\tBaum\n255 0 0 Dach\n"),
        ("class_dict.csv", "name,r,g,b\nbackground,0,0,0\nBaum,0,128,0\nDach,255,0,0\n"),
    ],
)
def test_colours_are_named_by_the_files_of_other_programs(tmp_path: Path, name: str, content: str) -> None:
    project = tmp_path / "p"
    colour_masks(project, (0, 0, 0), (0, 128, 0), (255, 0, 0))
    (project / name).write_text(content)
    assert classes(segmented(project)) == [("background", 0), ("Baum", 1), ("Dach", 2)]


# --- files of images and masks


LAYOUTS = {
    "masks": ("images/{}.jpg", "masks/{}.png"),
    "annotations in parts": ("images/training/{}.jpg", "annotations/training/{}.png"),
    "parts first": ("train/images/{}.jpg", "train/masks/{}.png"),
    "voc": ("VOC2012/JPEGImages/{}.jpg", "VOC2012/SegmentationClass/{}.png"),
    "camvid": ("train/{}.png", "trainannot/{}.png"),
    "camvid labels": ("train/{}.png", "train_labels/{}_L.png"),
    "cityscapes": ("leftImg8bit/train/bonn/{}_leftImg8bit.png", "gtFine/train/bonn/{}_gtFine_labelIds.png"),
    "one folder": ("train/{}.jpg", "train/{}_mask.png"),
    "isic": ("Images/{}.jpg", "Masks/{}_segmentation.png"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_masks_are_found_by_the_names_of_folders_and_files(tmp_path: Path, name: str) -> None:
    project, (image, mask) = tmp_path / "p", LAYOUTS[name]
    for n in range(5):
        path = project / image.format(f"pic_{n}")
        path.parent.mkdir(parents=True, exist_ok=True)
        noise(n).save(path)
        save(project / mask.format(f"pic_{n}"), blocks(0, 1))
    if name == "cityscapes":
        save(project / mask.format("pic_1").replace("labelIds", "labelTrainIds"), blocks(0, 9))
        save(project / mask.format("pic_1").replace("labelIds", "color"), blocks(0, 9))
    if name == "voc":
        save(project / "VOC2012" / "SegmentationObject" / "pic_1.png", blocks(3, 4))
    found = segmented(project)
    assert (len(found.images), found.numbers) == (5, [0, 1])
    assert found.layout.startswith("masks with the same names: ")
    assert all(Path(i.path).stem.startswith(Path(str(i.mask)).stem[:5]) for i in found.images)


def test_a_mask_of_another_part_is_not_taken(tmp_path: Path) -> None:
    project = tmp_path / "p"
    for part, numbers in {"train": range(6), "val": range(6, 9)}.items():
        for n in numbers:
            save(project / "masks" / ("val" if n == 5 else part) / f"{n}.png", blocks(0, 1))
            (project / "images" / part).mkdir(parents=True, exist_ok=True)
            noise(n).save(project / "images" / part / f"{n}.jpg")
    problems = examined(project, "segmentation").problems
    assert len(problems) == 2
    only(problems, "No mask with the same name", "images/train/5.jpg")
    only(problems, "No image with the same name", "masks/val/5.png")


def test_image_sets_of_voc_are_the_split_and_images_without_masks_are_left_out(tmp_path: Path) -> None:
    project = tmp_path / "p"
    for n, path in enumerate(pictures(project / "JPEGImages", 9, suffix=".jpg")):
        if n < 6:
            palette_mask(project / "SegmentationClass" / f"{path.stem}.png", blocks(0, 15, 255))
    sets = project / "ImageSets" / "Segmentation"
    sets.mkdir(parents=True)
    for name, numbers in {"train": range(4), "val": range(4, 6), "trainval": range(6)}.items():
        (sets / f"{name}.txt").write_text("".join(f"{n:03d}\n" for n in numbers))
    found = segmented(project)
    assert (parts(found), found.numbers, found.ignore) == ({"train": 4, "validation": 2}, [0, 15], 255)
    assert len(found.skipped) == 3


def test_names_match_in_both_normal_forms_and_the_contract_comes_first(tmp_path: Path) -> None:
    project = mask_project(tmp_path / "p")
    (project / "images" / "000.png").rename(project / "images" / "Gru\u0308n.png")
    (project / "labels" / "000.png").rename(project / "labels" / "Gr\u00fcn.png")
    pictures(project / "masks", 3)
    found = segmented(project)
    assert (len(found.images), found.layout) == (12, "masks with the same names: images/ with labels/")


def test_a_zip_file_of_a_segmentation_is_unpacked(tmp_path: Path) -> None:
    project = mask_project(tmp_path / "set")
    (tmp_path / "p").mkdir()
    with zipfile.ZipFile(tmp_path / "p" / "set.zip", "w") as archive:
        for path in sorted(project.rglob("*.png")):
            archive.write(path, path.relative_to(project.parent).as_posix())
    assert len(segmented(tmp_path / "p").images) == 12


# --- orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("drawn_upright", [True, False])
def test_masks_over_the_upright_and_over_the_stored_image_come_out_upright(
    tmp_path: Path, orientation: int, drawn_upright: bool
) -> None:
    project = tmp_path / "p"
    rng = np.random.default_rng(1)
    for n in range(5):  # the last one has orientation 6, which shows what the masks were drawn over
        tag = 6 if n == 4 else orientation
        stored = rng.integers(0, 255, (20, 30, 3), np.uint8)
        mask = np.zeros((20, 30), np.uint8)
        mask[2:8, 3:25] = 200
        exif = Image.Exif()
        exif[0x0112] = tag
        image = Image.fromarray(stored)
        (project / "images").mkdir(parents=True, exist_ok=True)
        image.save(project / "images" / f"{n}.jpg", exif=exif)
        save(project / "labels" / f"{n}.png", _upright(mask, tag) if drawn_upright else mask)
        expected = _upright(mask, orientation) if n == 0 else None
        if expected is not None:
            first = expected
    found = examined(project, "segmentation")
    assert [problem for problem in found.problems if "another size" in problem] == []
    assert np.array_equal(mask_of(project, found.images[0]), first)


def _upright(mask: np.ndarray, orientation: int) -> np.ndarray:
    """As Pillow turns it."""
    from PIL import ImageOps

    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(mask).save(file, "PNG", exif=exif)
    return np.asarray(ImageOps.exif_transpose(Image.open(file)))


# --- labelme and COCO


def labelme_project(project: Path, **fields: Any) -> Path:
    for n, path in enumerate(pictures(project, 4, suffix=".jpg")):
        shapes = [
            {"label": "Größe", "points": [[1, 1], [8, 1], [8, 8], [1, 8]], "shape_type": "polygon"},
            {"label": "__ignore__", "points": [[10, 10], [14, 14]], "shape_type": "rectangle"},
            {"label": "C++", "points": [[4, 12], [4, 14]], "shape_type": "circle"},
        ][: 3 if n else 2]
        content = {"version": "5", "flags": {}, "shapes": shapes, "imagePath": path.name, "imageData": None}
        size = {"imageHeight": 16, "imageWidth": 16}
        path.with_suffix(".json").write_text(json.dumps(content | size | fields), encoding="utf-8")
    return project


def test_outlines_of_labelme_are_drawn(tmp_path: Path) -> None:
    project = labelme_project(tmp_path / "p")
    found = segmented(project)
    assert (classes(found), found.ignore) == ([("background", 0), ("C++", 1), ("Größe", 2)], 255)
    assert found.layout == "labelme: 4 images with a JSON file of outlines each"
    mask = mask_of(project, found.images[1])
    assert (mask[4, 4], mask[12, 12], mask[12, 4], mask[0, 15]) == (2, 255, 1, 0)
    assert not list(project.rglob("*.png")), "nothing is written into the project"
    (project / "labels_info.txt").write_text("label,number\nGröße,7\nC++,3\n", encoding="utf-8")
    assert classes(segmented(project)) == [("background", 0), ("C++", 3), ("Größe", 7)]


@pytest.mark.parametrize(
    "fields",
    [
        {"imageWidth": 99}, {"imageWidth": None}, {"imageHeight": -1}, {"imageHeight": 10**9}, {"imageWidth": 1.5},
        {"shapes": [{"label": "a", "points": [[1]]}]}, {"shapes": [{"label": "", "points": []}]},
        {"shapes": [{"label": "a", "points": [[1, 1], [2, "x"], [3, 3]]}]},
        {"shapes": [{"label": "a", "points": [[1, 1], [1e300, 2], [3, 3]]}]},
        {"shapes": [{"label": "a", "points": [[1, 1], [2, 2]], "shape_type": "mask", "mask": "!"}]},
        {"imagePath": "../gone.jpg", "shapes": [{"points": []}]}, {"shapes": []},
    ],
)  # fmt: skip
def test_bad_outlines_are_problems_and_never_a_crash(tmp_path: Path, fields: dict[str, Any]) -> None:
    found = examined(labelme_project(tmp_path / "p", **fields), "segmentation")
    assert found.problems != []


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_files_of_labelme_are_read_in_the_encodings_of_windows(tmp_path: Path, encoding: str) -> None:
    project = labelme_project(tmp_path / "p")
    for path in project.glob("*.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(content, ensure_ascii=False), encoding=encoding)
    assert classes(segmented(project)) == [("background", 0), ("C++", 1), ("Größe", 2)]


def test_the_image_in_a_file_of_labelme_is_used_if_its_own_file_is_missing(tmp_path: Path) -> None:
    project = labelme_project(tmp_path / "p")
    for path in project.glob("*.jpg"):
        file = path.with_suffix(".json")
        embedded = {"imageData": base64.b64encode(path.read_bytes()).decode(), "imagePath": "..\\raw\\gone.jpg"}
        file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | embedded), encoding="utf-8")
        path.unlink()
    found = segmented(project)
    assert len(found.images) == 4
    assert mask_of(project, found.images[1])[4, 4] == 2
    assert not list(project.rglob("*.image")), "nothing is written into the project"


@pytest.mark.parametrize("data", ["!", "AAAA", 7])
def test_an_image_in_a_file_of_labelme_that_is_none_is_a_problem(tmp_path: Path, data: object) -> None:
    project = labelme_project(tmp_path / "p", imageData=data)
    for path in project.glob("*.jpg"):
        path.unlink()
    assert examined(project, "segmentation").problems


def coco_project(project: Path, annotations: list[dict[str, Any]], **image: Any) -> Path:
    files = pictures(project / "images", 4, suffix=".jpg")
    size = {"width": 16, "height": 16}
    content = {
        "info": {}, "licenses": [],
        "categories": [{"id": 3, "name": "Große Katze", "supercategory": "x"}, {"id": 90, "name": "Dog"}],
        "images": [{"id": n, "file_name": path.name, **size, **image} for n, path in enumerate(files)],
        "annotations": [{"id": n, "image_id": n % 4, "iscrowd": 0, **each} for n, each in enumerate(annotations * 4)],
    }  # fmt: skip
    (project / "annotations").mkdir()
    (project / "annotations" / "instances_default.json").write_text(json.dumps(content))
    return project


SQUARE = {"category_id": 3, "segmentation": [[0, 0, 9, 0, 9, 9, 0, 9]], "area": 81, "bbox": [0, 0, 9, 9]}


def test_outlines_and_run_lengths_of_coco_are_drawn_the_largest_first(tmp_path: Path) -> None:
    counts = [16 * 2 + 3, 4, 256 - 39]  # column 2, rows 3 to 6
    runs = {"category_id": 90, "segmentation": {"counts": counts, "size": [16, 16]}, "area": 4, "iscrowd": 1}
    project = coco_project(tmp_path / "p", [runs])
    content = json.loads((project / "annotations" / "instances_default.json").read_text())
    content["annotations"] += [{"id": 9 + n, "image_id": n, **SQUARE} for n in range(4)]
    (project / "annotations" / "instances_default.json").write_text(json.dumps(content))
    found = segmented(project)
    assert classes(found) == [("background", 0), ("Große Katze", 3), ("Dog", 90)]
    mask = mask_of(project, found.images[0])
    assert (mask[4, 2], mask[4, 3], mask[2, 2], mask[15, 15]) == (90, 3, 3, 0)
    assert int((mask == 90).sum()) == 4
    assert found.layout == "COCO: annotations/instances_default.json, 4 images with outlines"


def test_the_place_of_an_object_of_coco_without_an_outline_is_ignored(tmp_path: Path) -> None:
    project = coco_project(tmp_path / "p", [SQUARE, SQUARE])
    file = project / "annotations" / "instances_default.json"
    content = json.loads(file.read_text())
    boxes = ([10, 10, 4, 4], [2, 2, 0, 5])
    content["annotations"] += [
        {"id": 50 + n, "image_id": 0, "category_id": 3, "bbox": box, "segmentation": []} for n, box in enumerate(boxes)
    ]
    file.write_text(json.dumps(content))
    found = segmented(project)
    mask = mask_of(project, found.images[0])
    assert (mask[12, 12], mask[4, 4], mask[15, 15]) == (255, 3, 0)
    assert any("annotation 50" in remark and "ignored" in remark for remark in found.remarks)


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        ({"category_id": 3, "bbox": [0, 0, 4, 4]}, "have a box but no outline"),
        ({"category_id": 77, "segmentation": [[0, 0, 1, 1, 2, 2]]}, "bad annotations"),
        ({"category_id": 3, "segmentation": [[0, 0, 1]]}, "bad annotations"),
        ({"category_id": 3, "segmentation": "x"}, "bad annotations"),
        ({"category_id": 3, "segmentation": {"counts": [1, 2], "size": [16, 16]}}, "bad annotations"),
        ({"category_id": 3, "segmentation": {"counts": "zzzz", "size": [16, 16]}}, "bad annotations"),
    ],
)
def test_bad_annotations_of_coco_are_problems(tmp_path: Path, annotation: dict[str, Any], words: str) -> None:
    problems = examined(coco_project(tmp_path / "p", [annotation]), "segmentation").problems
    assert any(words in problem for problem in problems), problems


def test_packed_run_lengths_are_those_of_pycocotools() -> None:
    """`maskUtils.encode` of a 7x9 mask whose rows 2 to 4 and columns 3 to 6 are set."""
    bits = np.zeros((7, 9), bool)
    bits[2:5, 3:7] = True
    assert np.array_equal(polygons.run_lengths({"counts": PACKED, "size": [7, 9]}, (9, 7)), bits)
    with pytest.raises(BadShape):
        polygons.run_lengths({"counts": PACKED + "1", "size": [7, 9]}, (9, 7))


PACKED = "g03400000<"


def test_masks_packed_into_labelme_are_drawn(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(np.ones((3, 4), np.uint8)).save(file, "PNG")
    packed = base64.b64encode(file.getvalue()).decode()
    shape = {"label": "x", "points": [[2, 5], [5, 7]], "shape_type": "mask", "mask": packed}
    project = labelme_project(tmp_path / "p", shapes=[shape])
    mask = mask_of(project, segmented(project).images[0])
    assert int(mask.sum()) == 12
    assert mask[5:8, 2:6].all()


def test_an_unknown_layout_of_a_segmentation_names_what_is_accepted(tmp_path: Path) -> None:
    pictures(tmp_path / "p" / "images", 3)
    problem = only(examined(tmp_path / "p", "segmentation").problems, "was not recognised")
    assert "Found: 1 folders (images/), 3 files (3 .png)" in problem
    assert "labelme" in problem
    assert "COCO" in problem


def test_files_of_labelme_and_via_without_images_dont_matter_next_to_masks(tmp_path: Path) -> None:
    project = mask_project(tmp_path / "p")
    content = {"imagePath": "gone.jpg", "shapes": [], "imageWidth": 9, "imageHeight": 9}
    for number in range(12):
        (project / f"x{number}.json").write_text(json.dumps(content))
    (project / "via.json").write_text(
        json.dumps({f"{n}": {"filename": f"gone{n}.jpg", "regions": []} for n in range(12)})
    )
    found = good(project, "segmentation")
    assert (len(found.images), found.skipped) == (12, [])
