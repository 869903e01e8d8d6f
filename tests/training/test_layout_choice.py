"""Projects in which several layouts are found, or one that is only partly usable. No TensorFlow is needed."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from layout_projects import class_folders, counts, examined, good, parts, pictures
from projects import mask_project
from test_box_formats import coco_file, coco_project, draw, found, objects
from test_examination import only

# --- segmentation


def test_a_coco_file_of_other_images_does_not_win_over_masks(tmp_path: Path) -> None:
    project = mask_project(tmp_path / "p")
    square = {"category_id": 1, "segmentation": [[0, 0, 9, 0, 9, 9, 0, 9]]}
    content = {
        "categories": [{"id": 1, "name": "Cup"}],
        "images": [{"id": n, "file_name": f"gone{n}.jpg", "width": 16, "height": 16} for n in range(5)],
        "annotations": [{"id": n, "image_id": n, **square} for n in range(5)],
    }
    (project / "instances.json").write_text(json.dumps(content))
    result = good(project, "segmentation")
    assert (result.layout, len(result.images)) == ("masks with the same names: images/ with labels/", 12)
    assert not [each for each in result.skipped if "gone" in each.path]
    only(result.remarks, "Also found, but not used: COCO: instances.json", "(0 of 5 images can be used)")


@pytest.mark.parametrize(("readable", "layout"), [(3, "masks"), (9, "labelme")])
def test_labelme_wins_over_masks_if_most_of_it_is_usable(tmp_path: Path, readable: int, layout: str) -> None:
    project = mask_project(tmp_path / "p")
    for number in range(12):
        points = [[1, 1], [8, 1], [8, 8]] if number < readable else [[1, 1]]
        content = {"imagePath": f"{number:03d}.png", "imageWidth": 16, "imageHeight": 16}
        content |= {"shapes": [{"label": "cup", "points": points}]}
        (project / "images" / f"{number:03d}.json").write_text(json.dumps(content))
    result = examined(project, "segmentation")
    assert result.layout.startswith(layout)
    assert [remark for remark in result.remarks if "not used" in remark]


# --- detection


CAPTIONS = "a photograph of a cup on a table, soft light"


def captioned(project: Path) -> Path:
    """Six images with captions next to them, as for training diffusion models."""
    draw(project / "images", *(f"{number}.png" for number in range(6)))
    for number in range(6):
        (project / "images" / f"{number}.txt").write_text(CAPTIONS)
    return project


def test_captions_next_to_images_do_not_win_over_boxes(tmp_path: Path) -> None:
    project = captioned(tmp_path / "p")
    rows = [f"{number}.png,10,5,30,15,Cup" for number in range(6)]
    (project / "boxes.csv").write_text("\n".join(["filename,xmin,ymin,xmax,ymax,class", *rows]))
    result = found(project)
    assert (result.problems, result.display, len(objects(result))) == ([], ["Cup"], 6)
    only(result.remarks, "YOLO text files have no usable boxes", "a table of boxes: boxes.csv were used")


def test_captions_alone_are_refused_with_an_example(tmp_path: Path) -> None:
    only(found(captioned(tmp_path / "p")).problems, "6 lines that are not 'class x y width height'", "a photograph")


def test_a_broken_coco_file_does_not_hide_good_boxes(tmp_path: Path) -> None:
    project = coco_project(tmp_path / "p")
    (project / "annotations.json").write_text('{"images": [')
    for number in range(6):
        (project / "images" / f"{number}.txt").write_text("0 0.5 0.5 0.25 0.25\n")
    (project / "classes.txt").write_text("Cup\n")
    result = found(project)
    assert (result.problems, result.display) == ([], ["Cup"])
    only(result.remarks, "COCO annotations in annotations.json have no usable boxes", "not valid JSON")


def test_of_two_formats_the_one_with_far_more_images_is_used(tmp_path: Path) -> None:
    project = coco_project(tmp_path / "p")
    coco_file(project / "annotations.json", ["0.png"])
    rows = [f"{number}.png,10,5,30,15,Mug" for number in range(6)]
    (project / "boxes.csv").write_text("\n".join(["filename,xmin,ymin,xmax,ymax,class", *rows]))
    result = found(project)
    assert (result.problems, result.display) == ([], ["Mug"])
    only(result.remarks, "Boxes in COCO annotations in annotations.json were ignored in favour of a table of boxes")


# --- classification


def test_a_table_of_other_images_does_not_win_over_class_folders(tmp_path: Path) -> None:
    class_folders(tmp_path / "p", ("Cat", "Dog"))
    (tmp_path / "p" / "old.csv").write_text("file,label\n" + "".join(f"gone{n}.png,{n % 2}\n" for n in range(9)))
    result = good(tmp_path / "p")
    assert (counts(result), result.layout) == ({"Cat": 3, "Dog": 3}, "<class>/<image>")
    only(result.remarks, "Also found, but not used: table old.csv", "(0 of 9 images can be used)")


def test_a_table_for_images_in_parts_of_a_split_is_used(tmp_path: Path) -> None:
    for part in ("train", "test"):
        pictures(tmp_path / "p" / "images" / part, 4)
    rows = [f"{part}/{n:03d}.png,{('Cat', 'Dog')[n % 2]}" for part in ("train", "test") for n in range(4)]
    (tmp_path / "p" / "labels.csv").write_text("\n".join(["file,label", *rows]))
    result = good(tmp_path / "p")
    assert (counts(result), parts(result)) == ({"Cat": 4, "Dog": 4}, {"test": 4, "train": 4})


def test_a_table_that_lacks_some_images_is_not_replaced_by_folders_of_batches(tmp_path: Path) -> None:
    paths = [*pictures(tmp_path / "p" / "batch1", 4), *pictures(tmp_path / "p" / "batch2", 4, first=4)]
    rows = [f"{path.name},{'ab'[n % 2]}" for n, path in enumerate(paths[:4])] + [f"gone{n}.png,a" for n in range(9)]
    (tmp_path / "p" / "labels.csv").write_text("\n".join(["file,label", *rows]))
    result = examined(tmp_path / "p")
    assert result.display == ["a", "b"]
    only(result.problems, "9 of 13 images", "missing")


# --- tests without labels, as Kaggle has them


def test_a_test_folder_without_labels_is_left_out(tmp_path: Path) -> None:
    project = class_folders(tmp_path / "p" / "train", ("Cat", "Dog")).parent
    pictures(project / "test", 20)
    pictures(project / "sample", 2)
    result = good(project)
    assert counts(result) == {"Cat": 3, "Dog": 3}
    only(result.remarks, "20 images in test have no labels")


def test_a_single_folder_in_the_test_part_is_no_class(tmp_path: Path) -> None:
    class_folders(tmp_path / "p" / "train", ("Cat", "Dog"))
    pictures(tmp_path / "p" / "test" / "unknown", 20)
    assert counts(good(tmp_path / "p")) == {"Cat": 3, "Dog": 3}


def test_the_tables_of_a_competition_are_understood(tmp_path: Path) -> None:
    project = tmp_path / "p"
    train, test = pictures(project / "train_images", 6), pictures(project / "test_images", 20, first=50)
    rows = [f"{path.stem},{n % 2}" for n, path in enumerate(train)]
    (project / "train.csv").write_text("\n".join(["image_id,label", *rows]))
    (project / "test.csv").write_text("\n".join(["image_id,height", *(f"{path.stem},16" for path in test)]))
    (project / "sample_submission.csv").write_text("\n".join(["image_id,label", *(f"{path.stem},0" for path in test)]))
    (project / "label_num_to_disease_map.json").write_text('{"0": "Blight (CBB)", "1": "Healthy"}')
    result = good(project)
    assert counts(result) == {"Blight (CBB)": 3, "Healthy": 3}
    only(result.remarks, "labels in sample_submission.csv are placeholders")
    only(result.remarks, "20 images of a test set have no labels")


def test_a_table_next_to_an_archive_labels_its_images(tmp_path: Path) -> None:
    project = tmp_path / "p"
    paths = pictures(tmp_path / "elsewhere", 6)
    project.mkdir()
    with zipfile.ZipFile(project / "photos.zip", "w") as archive:
        for path in paths:
            archive.write(path, f"photos/{path.name}")
    rows = [f"{path.name},{('Cat', 'Dog')[n % 2]}" for n, path in enumerate(paths)]
    (project / "labels.csv").write_text("\n".join(["file,label", *rows]))
    result = good(project)
    assert counts(result) == {"Cat": 3, "Dog": 3}
    assert result.layout == "table labels.csv (columns 'file' and 'label'), unpacked from a zip file"
    assert sorted(each.name for each in project.iterdir()) == ["labels.csv", "photos.zip"]


def test_annotations_next_to_an_archive_describe_its_images(tmp_path: Path) -> None:
    source = coco_project(tmp_path / "source")
    project = tmp_path / "p"
    project.mkdir()
    with zipfile.ZipFile(project / "images.zip", "w") as archive:
        for path in sorted((source / "images").iterdir()):
            archive.write(path, path.name)
    (project / "annotations.json").write_bytes((source / "annotations.json").read_bytes())
    result = good(project, "detection")
    assert (len(result.images), result.display) == (6, ["Cup"])


# --- files that are not read


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("train.npz", b"PK\3\4", "1 files (train.npz) hold arrays or records, which are not read: write each image"),
        ("train-images-idx3-ubyte.gz", b"\x1f\x8b", "hold arrays or records"),
        ("data.parquet", b"PAR1", "hold arrays or records"),
        ("a.jxl", b"\xff\x0a", "in a format that is not read: convert them"),
        ("clip.mp4", b"\0\0\0\x18ftypisom", "are videos, which are not read: save some of their frames"),
        ("scan.pdf", b"%PDF-1.7", "are documents, which are not read"),
        ("all.7z", b"7z", "are archives that are not read"),
    ],
)
@pytest.mark.parametrize("kind", ["classification", "segmentation", "detection"])
def test_what_to_do_with_files_of_other_programs_is_said(
    tmp_path: Path, kind: str, name: str, content: bytes, words: str
) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / name).write_bytes(content)
    only(examined(tmp_path / "p", kind).problems, words)


KITTI = "Car 0.00 0 -1.58 587.01 173.33 614.12 200.12 1.65 1.67 3.64 -0.65 1.71 46.70 -1.59\n"
CVAT = '<?xml version="1.0"?>\n<annotations>\n<version>1.1</version>\n<image id="0" name="a.jpg"></image></annotations>'


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("annotations.xml", CVAT, "CVAT's own format, which is not read: export the task as COCO 1.0"),
        ("export.json", '[{"annotations": [{"result": [{"from_name": "label"}]}]}]', "Label Studio's own format"),
        ("ann/0.png.json", '{"objects": [{"classTitle": "cup"}]}', "Supervisely's own format"),
        ("label_2/0.txt", KITTI, "in the format of KITTI, which is not read: convert it to YOLO"),
    ],
)
def test_annotations_of_programs_that_are_not_read_are_named(
    tmp_path: Path, name: str, content: str, words: str
) -> None:
    draw(tmp_path / "p" / "image_2", *(f"{number}.png" for number in range(6)))
    (tmp_path / "p" / name).parent.mkdir(exist_ok=True)
    (tmp_path / "p" / name).write_text(content)
    only(found(tmp_path / "p").problems, words)


def test_masks_that_were_saved_with_loss_are_named(tmp_path: Path) -> None:
    pictures(tmp_path / "p" / "images", 6, suffix=".jpg")
    pictures(tmp_path / "p" / "masks", 6, suffix=".jpg", first=50)
    only(
        examined(tmp_path / "p", "segmentation").problems,
        "6 files, such as masks/050.jpg, seem to be masks, but files of the type .jpg don't keep their values exactly",
    )


def test_many_classes_with_one_image_are_counted(tmp_path: Path) -> None:
    class_folders(tmp_path / "p" / "images", (f"c{number}" for number in range(40)), 1)
    problems = examined(tmp_path / "p").problems
    assert len(problems) == 11
    assert problems[-1] == "30 more classes have fewer than 2 usable images."


@pytest.mark.parametrize("names", [("label_0", "label_1"), ("target1", "target2"), ("seg_A", "seg_B")])
def test_numbered_classes_are_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    class_folders(tmp_path / "p", names)
    assert counts(good(tmp_path / "p")) == dict.fromkeys(names, 3)


def test_a_note_next_to_an_archive_does_not_hide_its_layout(tmp_path: Path) -> None:
    project = tmp_path / "p"
    project.mkdir()
    class_folders(tmp_path / "inside" / "images", ("Cat", "Dog"))
    with zipfile.ZipFile(project / "pets.zip", "w") as archive:
        for path in sorted((tmp_path / "inside").rglob("*.png")):
            archive.write(path, path.relative_to(tmp_path / "inside"))
    (project / "dataset-metadata.json").write_text('{"title": "pets"}')
    result = good(project)
    assert counts(result) == {"Cat": 3, "Dog": 3}
    assert result.layout.startswith("images/<class>/")


def test_a_folder_that_repeats_the_others_is_found_by_their_names(tmp_path: Path) -> None:
    class_folders(tmp_path / "p", ("a", "b", "c"))
    class_folders(tmp_path / "p" / "again", ("a", "b", "c"))
    result = good(tmp_path / "p")
    assert counts(result) == {"a": 3, "b": 3, "c": 3}
    only(result.remarks, "again/ has folders for the same classes again")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("images", "masks"), "seem to be images and their masks or labels: use trainType segmentation"),
        (("JPEGImages", "SegmentationClass"), "use trainType segmentation"),
        (("images", "labels"), "use trainType segmentation"),
        (("train_images", "test_images"), "seem to be parts of the data, not classes: labels are missing"),
        (("trainA", "trainB", "testA"), "labels are missing"),
        (("train1", "train2"), "labels are missing"),
        (("train2017", "val2017"), "labels are missing"),
    ],
)
def test_folders_that_are_no_classes_are_not_learnt(tmp_path: Path, names: tuple[str, ...], words: str) -> None:
    class_folders(tmp_path / "p", names)
    only(examined(tmp_path / "p").problems, words)


@pytest.mark.parametrize(
    "names", [("x", "y"), ("test", "images", "cat"), ("Train", "Bus"), ("mask", "no mask"), ("A", "B")]
)
def test_classes_with_such_names_among_others_are_learnt(tmp_path: Path, names: tuple[str, ...]) -> None:
    class_folders(tmp_path / "p", names)
    assert counts(good(tmp_path / "p")) == dict.fromkeys(names, 3)
