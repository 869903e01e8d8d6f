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


SAGEMAKER = _lines(
    _of_each(
        lambda n, name: {
            "source-ref": f"s3://b/{name}", "job": n % 2, "job-metadata": {"class-name": _label(n), "confidence": 0.9}
        }
    )
)  # fmt: skip
EDGE_IMPULSE = json.dumps(
    {"files": _of_each(lambda n, name: {
        "path": f"photos/{name}", "name": Path(name).stem, "category": "training" if n < 8 else "testing",
        "label": {"type": "label", "label": _label(n)},
    })}
)  # fmt: skip
AZURE = json.dumps(
    _of_each(lambda n, name: {"originalImageUri": f"https://x/{name}", "tags": [{"tagName": _label(n)}]})
)
DATUMARO = json.dumps(
    {
        "categories": {"label": {"labels": [{"name": name} for name in LABELS]}},
        "items": _of_each(
            lambda n, name: {"id": Path(name).stem, "annotations": [{"type": "label", "label_id": n % 2}]}
        ),
    }
)
FIFTYONE = json.dumps({"classes": LABELS, "labels": {Path(name).stem: n % 2 for n, name in enumerate(NAMES)}})
LABEL_STUDIO = json.dumps(
    _of_each(
        lambda n, name: {
            "id": 11 - n,  # also the number of another image
            "annotations": [{"result": [{"value": {"choices": [_label(n)]}, "type": "choices"}]}],
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
                "source-ref": f"s3://b/{name}", "b": {"annotations": [IN_PIXELS | {"class_id": n % 2}]},
                "b-metadata": {"class-map": {"0": "cat", "1": "cow"}},
            }
        )
    ),
    "import.jsonl": _lines(
        _of_each(
            lambda n, name: {
                "imageGcsUri": f"gs://b/{name}", "boundingBoxAnnotations": [SHARES | {"displayName": _label(n)}],
                "dataItemResourceLabels": {"aiplatform.googleapis.com/ml_use": "training"},
            }
        )
    ),
    "automl.csv": "\n".join(
        _of_each(lambda n, name: f"TRAIN,gs://b/{name},{_label(n)},{10 / 60},{5 / 40},,,0.5,{15 / 40},,")
    ),
    "bounding_boxes.labels": json.dumps(
        {"version": 1, "boundingBoxes": {
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
                "originalImageUri": f"https://x/{name}",
                "regions": [{"tagName": _label(n), "left": 10 / 60, "top": 5 / 40, "width": 1 / 3, "height": 1 / 4}],
            }
        )
    ),
    "default.json": json.dumps(
        {
            "categories": {"label": {"labels": [{"name": name} for name in LABELS]}},
            "items": _of_each(
                lambda n, name: {"id": name, "annotations": [{"type": "bbox", "label_id": n % 2, "bbox": BOX}] }
            ),
        }
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
    "content",
    [
        {"categories": {"label": {"labels": 7}}, "items": [{"annotations": [{"type": "bbox"}, 3]}, 4]},
        {"categories": {"label": []}, "items": [{"id": "000.png", "annotations": [{"type": "bbox", "bbox": "x"}]}]},
        {"classes": ["cat"], "labels": {"000.png": [{"label": 9, "bounding_box": [1, None, 2, 3]}, 5]}},
        {"source-ref": "000.png", "b": {"annotations": [1, {"left": "x"}]}, "b-metadata": {"class-map": {}}},
    ],
)
def test_strange_values_in_exports_are_problems_and_never_a_crash(tmp_path: Path, content: dict[str, Any]) -> None:
    draw(tmp_path / "p" / "photos", *NAMES)
    (tmp_path / "p" / "labels.json").write_text(json.dumps(content))
    assert found_boxes(tmp_path / "p").problems


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
        ("captions.json", '{"annotations": [{"caption": "a cup"}]}', "captions"),
        ("samples.json", '{"samples": [{"_cls": "Detection"}]}', "FiftyOne"),
        ("labelTxt/a.txt", "gsd:0.1\n1 1 9 1 9 9 1 9 plane 0\n", "DOTA"),
    ],
)
def test_other_formats_are_named_in_the_error(tmp_path: Path, file: str, text: str, program: str) -> None:
    draw(tmp_path / "p" / "photos", *NAMES)
    (tmp_path / "p" / file).parent.mkdir(exist_ok=True)
    (tmp_path / "p" / file).write_text(text)
    only(found_boxes(tmp_path / "p").problems, file, program)


def test_parts_inside_of_class_folders_are_a_split_if_all_images_are_in_one(tmp_path: Path) -> None:
    for name in LABELS:
        pictures(tmp_path / "p" / name / "train", 4)
        pictures(tmp_path / "p" / name / "test", 2, first=10)
    found = good(tmp_path / "p")
    assert parts(found) == {"test": 4, "train": 8}
    assert found.layout == "<class>/<part>/<image> (train 8, test 4)"
    pictures(tmp_path / "p" / "cat", 1, first=20)
    assert parts(good(tmp_path / "p")) == {"": 13}


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
