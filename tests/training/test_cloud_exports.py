"""Labels and boxes as labelling tools of cloud services and other programs export them. No TensorFlow is needed."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from layout_projects import blocks, class_folders, counts, examined, good, palette_mask, parts, pictures
from test_box_formats import draw, objects
from test_box_formats import found as found_boxes
from test_box_formats import good as good_boxes
from test_examination import only

LABELS = ("cat", "cow")
NAMES = [f"{number:03}.png" for number in range(12)]


def _lines(rows: Sequence[Any]) -> str:
    return "\n".join(map(json.dumps, rows))


def _label(number: int) -> str:
    return LABELS[number % 2]


def _of_each(make: Callable[[int, str], Any]) -> list[Any]:
    return [make(number, name) for number, name in enumerate(NAMES)]


DAY = "2026-11-18T22:18:13.527Z"


def _azure(number: int, name: str) -> dict[str, Any]:
    """The fields of each image."""
    return {
        "id": f"5f3c-{number}", "created": DAY, "width": 60, "height": 40, "resizedImageUri": f"https://x/r/{name}",
        "thumbnailUri": f"https://x/t/{name}", "originalImageUri": f"https://x/{name}", "tags": [], "regions": None,
    }  # fmt: skip


def _datumaro(annotations: Callable[[int], list[dict[str, Any]]]) -> str:
    items = _of_each(
        lambda n, name: {
            "id": Path(name).stem, "annotations": annotations(n), "attr": {"frame": n},
            "image": {"path": name, "size": [40, 60]},
        }
    )  # fmt: skip
    names = [{"name": name, "parent": "", "attributes": []} for name in LABELS]
    categories = {"label": {"labels": names, "attributes": ["occluded"]}, "points": {"items": []}}
    return json.dumps({"info": {}, "categories": categories, "items": items})


def _drawn(number: int, what: str, **fields: Any) -> dict[str, Any]:
    """An annotation of Datumaro."""
    own = {"id": number, "type": what, "attributes": {"occluded": False}, "group": 0, "label_id": number % 2}
    return own | {"z_order": 0} | fields


SAGEMAKER_CLASSES = "groundtruth/image-classification"
SAGEMAKER = _lines(
    _of_each(
        lambda n, name: {
            "source-ref": f"s3://b/{name}", "job": n % 2,
            "job-metadata": {
                "confidence": 0.9 + n / 1000, "job-name": "labeling-job/job", "class-name": _label(n),
                "human-annotated": "yes", "creation-date": f"2026-11-18T22:18:{n:02}.5", "type": SAGEMAKER_CLASSES,
            },
        }
    )
)  # fmt: skip
EDGE_IMPULSE = json.dumps(
    {"version": 1, "files": _of_each(lambda n, name: {
        "path": f"photos/{name}", "name": Path(name).stem, "category": "training" if n < 8 else "testing",
        "label": {"type": "label", "label": _label(n)}, "enabled": True, "metadata": {"source": f"camera {n}"},
    })}
)  # fmt: skip
AZURE = json.dumps(
    _of_each(lambda n, name: _azure(n, name) | {"tags": [{"tagId": f"t{n % 2}", "tagName": _label(n), "created": DAY}]})
)
DATUMARO = _datumaro(lambda n: [_drawn(n, "label")])
FIFTYONE = json.dumps({"classes": LABELS, "labels": {Path(name).stem: n % 2 for n, name in enumerate(NAMES)}})
LABEL_STUDIO = json.dumps(
    _of_each(
        lambda n, name: {
            "id": 11 - n,  # also the number of another image
            "annotations": [
                {
                    "id": n + 50,
                    "completed_by": 1,
                    "was_cancelled": False,
                    "ground_truth": False,
                    "created_at": DAY,
                    "result": [
                        {
                            "value": {"choices": [_label(n)]},
                            "id": f"k{n}",
                            "from_name": "choice",
                            "to_name": "image",
                            "type": "choices",
                            "origin": "manual",
                        }
                    ],
                }
            ],
            "file_upload": f"ab12cd34-{name}",
            "drafts": [],
            "predictions": [],
            "meta": {},
            "project": 1,
            "data": {"image": f"/data/upload/1/ab12cd34-{name}"},
        }
    )
)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("output.manifest", SAGEMAKER), ("info.labels", EDGE_IMPULSE), ("images.json", AZURE),
        ("annotations/default.json", DATUMARO), ("labels.json", FIFTYONE), ("export.json", LABEL_STUDIO),
    ],
)  # fmt: skip
def test_labels_of_other_programs_are_read_with_their_names(tmp_path: Path, file: str, text: str) -> None:
    paths = pictures(tmp_path / "p" / "photos", 12)
    (tmp_path / "p" / file).parent.mkdir(exist_ok=True)
    (tmp_path / "p" / file).write_text(text)
    result = good(tmp_path / "p")
    assert counts(result) == {"cat": 6, "cow": 6}
    cats = {Path(image.path).name for image in result.images if image.label == 0}
    assert cats == {path.name for path in paths[::2]}
    if file == "info.labels":
        assert parts(result) == {"test": 4, "train": 8}


IN_PIXELS = {"left": 10, "top": 5, "width": 20, "height": 10}
BOX = [10, 5, 20, 10]
SHARES = {"xMin": 10 / 60, "yMin": 5 / 40, "xMax": 0.5, "yMax": 15 / 40}
EXPORTS = {
    "output.manifest": _lines(
        _of_each(
            lambda n, name: {
                "source-ref": f"s3://b/{name}",
                "b": {
                    "image_size": [{"width": 60, "height": 40, "depth": 3}],
                    "annotations": [IN_PIXELS | {"class_id": n % 2}],
                },
                "b-metadata": {
                    "objects": [{"confidence": 0.9}], "class-map": {"0": "cat", "1": "cow"}, "human-annotated": "yes",
                    "type": "groundtruth/object-detection", "creation-date": DAY, "job-name": "labeling-job/b",
                },
            }
        )
    ),
    "import.jsonl": _lines(
        _of_each(
            lambda n, name: {
                "imageGcsUri": f"gs://b/{name}",
                "boundingBoxAnnotations": [
                    SHARES | {"displayName": _label(n), "annotationResourceLabels": {"review": "done"}}
                ],
                "dataItemResourceLabels": {"aiplatform.googleapis.com/ml_use": "training"},
            }
        )
    ),
    "automl.csv": "\n".join(
        _of_each(lambda n, name: f"TRAIN,gs://b/{name},{_label(n)},{10 / 60},{5 / 40},,,0.5,{15 / 40},,")
    ),
    "bounding_boxes.labels": json.dumps(
        {"version": 1, "type": "bounding-box-labels", "boundingBoxes": {
            name: [{"label": _label(n), "x": 10, "y": 5, "width": 20, "height": 10}] for n, name in enumerate(NAMES)
        }}
    ),
    "makesense.csv": "\n".join(_of_each(lambda n, name: f"{_label(n)},10,5,20,10,{name},60,40")),
    "_annotations.json": json.dumps(
        {"version": "1.0", "labels": LABELS, "annotations": {
            name: [{"x": 10 / 60, "y": 5 / 40, "x2": 0.5, "y2": 15 / 40, "label": _label(n)}]
            for n, name in enumerate(NAMES)
        }}
    ),
    "images.json": json.dumps(
        _of_each(
            lambda n, name: {
                **_azure(n, name), "tags": [{"tagId": f"t{n % 2}", "tagName": _label(n), "created": DAY}],
                "regions": [
                    {"regionId": f"r{n}", "tagName": _label(n), "created": DAY, "tagId": f"t{n % 2}",
                     "left": 10 / 60, "top": 5 / 40, "width": 1 / 3, "height": 1 / 4}
                ],
            }
        )
    ),
    "default.json": _datumaro(lambda n: [_drawn(n, "bbox", bbox=BOX)]),
    "polygons.json": _datumaro(lambda n: [_drawn(n, "polygon", points=[10, 5, 30, 5, 30, 15])]),
    "groups.json": _datumaro(
        lambda n: [
            _drawn(n, "polygon", points=[10, 5, 20, 5, 20, 15], group=1), _drawn(n, "caption", caption="two pieces"),
            _drawn(n, "polygon", points=[20, 5, 30, 5, 30, 15], group=1),
        ]
    ),
    "masks.json": _datumaro(
        lambda n: [_drawn(n, "mask", rle={"size": [40, 60], "counts": [405, *[10, 30] * 19, 10, 1225]})]
    ),
    "labels.json": json.dumps(
        {"classes": LABELS, "labels": {
            name: [{"label": n % 2, "bounding_box": [10 / 60, 5 / 40, 1 / 3, 1 / 4]}] for n, name in enumerate(NAMES)
        }}
    ),
}  # fmt: skip


@pytest.mark.parametrize("file", EXPORTS)
def test_boxes_of_other_programs_are_read_with_their_names(tmp_path: Path, file: str) -> None:
    draw(tmp_path / "p" / "photos", *NAMES)
    (tmp_path / "p" / file).write_text(EXPORTS[file])
    result = objects(good_boxes(tmp_path / "p"))
    assert len(result) == 12
    for number, name in enumerate(NAMES):
        ((label, sides),) = result[f"photos/{name}"]
        assert (label, [round(side, 3) for side in sides]) == (_label(number), [10, 5, 30, 15])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (
            {"categories": {"label": {"labels": 7}}, "items": [{"annotations": [{"type": "bbox"}, 3]}, 4]},
            "No boxes found",
        ),
        (
            {"categories": {"label": []}, "items": [{"id": "000.png", "annotations": [{"type": "bbox", "bbox": "x"}]}]},
            "No boxes found",
        ),
        (
            {"classes": ["cat"], "labels": {"000.png": [{"label": 9, "bounding_box": [1, 1, 2, 3]}, {}]}},
            "rows with a box and no class",
        ),
        (
            {"source-ref": "000.png", "b": {"annotations": [1, {"left": "x"}]}, "b-metadata": {"class-map": {}}},
            "No boxes found",
        ),
    ],
)
def test_strange_values_in_exports_are_problems_and_never_a_crash(
    tmp_path: Path, content: dict[str, Any], problem: str
) -> None:
    draw(tmp_path / "p" / "photos", *NAMES)
    (tmp_path / "p" / "labels.json").write_text(json.dumps(content))
    only(found_boxes(tmp_path / "p").problems, problem)


def test_annotations_that_are_no_boxes_are_refused(tmp_path: Path) -> None:
    draw(tmp_path / "p" / "photos", *NAMES)
    text = _datumaro(lambda n: [_drawn(n, "bbox", bbox=BOX) if n % 2 else _drawn(n, "polyline", points=[1, 1, 9, 9])])
    (tmp_path / "p" / "default.json").write_text(text)
    only(found_boxes(tmp_path / "p").problems, "6 rows without four finite numbers", "polyline instead of a box")


def test_numbers_of_classes_that_have_no_name_are_problems(tmp_path: Path) -> None:
    draw(tmp_path / "p" / "photos", *NAMES)
    (tmp_path / "p" / "d.json").write_text(_datumaro(lambda n: [_drawn(n, "bbox", bbox=BOX, label_id=n // 6 * 7)]))
    only(found_boxes(tmp_path / "p").problems, "rows with a box and no class")


@pytest.mark.parametrize(
    "label",
    [lambda n: {"label": LABELS[n % 2]}, lambda n: [LABELS[n % 2]], _label, lambda n: str(n % 2), lambda n: n % 2 / 1],
    ids=["fields", "list", "names", "numbers as text", "numbers with a point"],
)
def test_json_with_classes_and_labels_need_not_be_fiftyones(tmp_path: Path, label: Callable[[int], Any]) -> None:
    pictures(tmp_path / "p" / "photos", 12)
    content = {"classes": LABELS, "labels": {name: label(n) for n, name in enumerate(NAMES)}}
    (tmp_path / "p" / "labels.json").write_text(json.dumps(content))
    assert counts(good(tmp_path / "p")) == {"cat": 6, "cow": 6}


def test_images_of_azure_without_regions_have_no_objects(tmp_path: Path) -> None:
    draw(tmp_path / "p" / "photos", *NAMES)
    records = json.loads(EXPORTS["images.json"])
    for number, regions in ((0, None), (1, [])):
        records[number] |= {"tags": [], "regions": regions}
    (tmp_path / "p" / "images.json").write_text(json.dumps(records))
    found = good_boxes(tmp_path / "p")
    assert [len(image.boxes) for image in found.images] == [0, 0, *[1] * 10]


def test_images_with_two_tags_are_named_with_both(tmp_path: Path) -> None:
    pictures(tmp_path / "p" / "photos", 12)
    records = json.loads(AZURE)
    records[3]["tags"].append({"tagId": "t9", "tagName": "big", "created": DAY})
    (tmp_path / "p" / "images.json").write_text(json.dumps(records))
    only(examined(tmp_path / "p").problems, "needs exactly one label", "photos/003.png (big, cow)")


@pytest.mark.parametrize("dates", [("2026-11-18", "2026-11-19"), ("2026-11-19", "2026-11-18"), ("", "")])
@pytest.mark.parametrize("has_boxes", [False, True])
def test_the_newest_job_counts(tmp_path: Path, dates: tuple[str, str], has_boxes: bool) -> None:
    """Without dates the last in the line."""
    draw(tmp_path / "p" / "photos", *NAMES)
    lines = []
    for number, name in enumerate(NAMES):
        line: dict[str, Any] = {"source-ref": f"s3://b/{name}"}
        for job, date in zip(("first", "second"), dates, strict=True):
            line[job] = {"annotations": [IN_PIXELS | {"class_id": number % 2}]} if has_boxes else number % 2
            named = {str(n): f"{job} {label}" for n, label in enumerate(LABELS)}
            line[f"{job}-metadata"] = {"creation-date": date, "type": "groundtruth/x"} | (
                {"class-map": named} if has_boxes else {"class-name": named[str(number % 2)]}
            )
        lines.append(line)
    (tmp_path / "p" / "output.manifest").write_text(_lines(lines))
    found = good_boxes(tmp_path / "p") if has_boxes else good(tmp_path / "p")
    newest = "first" if dates[0] > dates[1] else "second"
    assert found.display == [f"{newest} cat", f"{newest} cow"]
    only(found.remarks, "results of several jobs (first, second)", f"{newest} (12 images)")


def test_edge_impulse_names_images_without_a_label(tmp_path: Path) -> None:
    pictures(tmp_path / "p" / "photos", 12)
    content = json.loads(EDGE_IMPULSE)
    content["files"][0] |= {"label": {"type": "unlabeled"}, "category": "split"}
    (tmp_path / "p" / "info.labels").write_text(json.dumps(content))
    found = good(tmp_path / "p")
    assert counts(found) == {"cat": 5, "cow": 6}
    assert [each.path for each in found.skipped] == ["photos/000.png"]


def test_pickles_of_cifar_are_refused_unread(tmp_path: Path) -> None:
    project = tmp_path / "p"
    project.mkdir()
    (project / "data_batch_1").write_bytes(b"\x80\x04}\x94.")
    with tarfile.open(project / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(project / "data_batch_1", "cifar-10-batches-py/data_batch_1")
    only(examined(project).problems, "data_batch_1", "arrays or records, which are not read")
    (project / "data_batch_1").unlink()
    only(examined(project).problems, "cifar-10-python.tar.gz/cifar-10-batches-py/data_batch_1", "not read")


def test_a_class_called_logs_in_an_archive_is_a_class(tmp_path: Path) -> None:
    class_folders(tmp_path / "wood", ["logs", "planks"])
    (tmp_path / "p").mkdir()
    with tarfile.open(tmp_path / "p" / "wood.tar", "w") as archive:
        archive.add(tmp_path / "wood", "wood/train")
    assert counts(good(tmp_path / "p")) == {"logs": 3, "planks": 3}


@pytest.mark.parametrize(
    ("file", "text", "program"),
    [
        ("export.ndjson", '{"data_row": {"external_id": "a.jpg"}}', "Labelbox"),
        ("x-export.json", '{"assets": {"1": {"regions": [{"boundingBox": {}}]}}}', "VoTT"),
        ("a.json", '{"item": {"name": "a.jpg"}, "annotations": [{"bounding_box": {}}]}', "V7 Darwin"),
        ("coco_2017.json", '{"annotations": [{"caption": "a cup"}]}', "captions"),
        ("samples.json", '{"samples": [{"_cls": "Detection"}]}', "FiftyOne"),
        ("labelTxt/a.txt", "gsd:0.1\n1 1 9 1 9 9 1 9 plane 0\n", "DOTA"),
    ],
)
def test_other_formats_are_named_in_the_error(tmp_path: Path, file: str, text: str, program: str) -> None:
    draw(tmp_path / "p" / "photos", *NAMES)
    (tmp_path / "p" / file).parent.mkdir(exist_ok=True)
    (tmp_path / "p" / file).write_text(text)
    only(found_boxes(tmp_path / "p").problems, file, program)


def test_parts_inside_of_class_folders_are_a_split(tmp_path: Path) -> None:
    for name in LABELS:
        pictures(tmp_path / "p" / name / "train", 4)
        pictures(tmp_path / "p" / name / "test" / "session 2", 2, first=10)
    found = good(tmp_path / "p")
    assert parts(found) == {"test": 4, "train": 8}
    assert found.layout == "<class>/<part>/<image> (train 8, test 4)"
    pictures(tmp_path / "p" / "cat", 1, first=20)
    pictures(tmp_path / "p" / "owl", 3)
    found = good(tmp_path / "p")
    assert parts(found) == {"test": 4, "train": 12}
    only(found.remarks, "in no part of the split, so they are used for training", "cat/020.png", "owl/000.png")


def test_only_the_test_images_need_a_folder(tmp_path: Path) -> None:
    for name in LABELS:
        pictures(tmp_path / "p" / name, 4)
        pictures(tmp_path / "p" / name / "test", 2, first=10)
    assert parts(good(tmp_path / "p")) == {"test": 4, "train": 8}


def test_a_part_in_one_class_of_many_is_no_split(tmp_path: Path) -> None:
    class_folders(tmp_path / "p", ["cat", "cow", "dog", "owl"], 4)
    pictures(tmp_path / "p" / "cat" / "test", 2, first=10)
    found = good(tmp_path / "p")
    assert parts(found) == {"": 18}
    only(found.remarks, "Folders called like parts of a split", "not used as a split", "cat/test/")


@pytest.mark.parametrize(("image", "mask"), [("image", "mask"), ("file_name", "mask_file_name")])
def test_a_table_may_pair_images_with_masks(tmp_path: Path, image: str, mask: str) -> None:
    project = tmp_path / "p"
    photos = pictures(project / "photos", 8)
    lines = []
    for number, path in enumerate(photos):
        palette_mask(project / "drawn" / f"z{number}.png", blocks(0, 1, 2))
        lines.append(f"photos/{path.name},drawn/z{number}.png,{'train' if number < 6 else 'val'}")
    (project / "pairs.csv").write_text("\n".join([f"{image},{mask},split", *lines, "photos/gone.png,drawn/z1.png,val"]))
    found = good(project, "segmentation")
    assert found.layout == "a table of images and masks: pairs.csv"
    assert parts(found) == {"train": 6, "validation": 2}
    assert [each.reason for each in found.skipped] == ["missing: named in pairs.csv, line 10"]
