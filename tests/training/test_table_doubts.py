"""Tables with two readings, and parts, quotes and sides as programs write them. No TensorFlow is needed."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from layout_projects import blocks, counts, examined, good, palette_mask, parts, pictures
from projects import noise
from test_box_formats import draw, objects
from test_box_formats import found as found_boxes
from test_box_formats import good as good_boxes
from test_examination import only

from tfserve.training.dataset.dataset_index import Findings
from tfserve.training.dataset.layouts import table_text

NAMES = [f"{number:03}.png" for number in range(12)]
CUP = ("cup", (10.0, 5.0, 30.0, 15.0))


def listed(project: Path, header: str, rows: Sequence[str]) -> Path:
    """A project with twelve photos or as many as there are rows."""
    pictures(project / "photos", max(12, len(rows)))
    (project / "labels.csv").write_text("\n".join([header, *rows] if header else rows))
    return project


def boxed(project: Path, header: str, rows: Sequence[str]) -> Path:
    draw(project / "images", *NAMES)
    (project / "boxes.csv").write_text("\n".join([header, *rows] if header else rows))
    return project


def labels_of(found: Findings) -> dict[str, str]:
    return {Path(image.path).name: found.display[image.label] for image in found.images}


def label(number: int) -> str:
    return ("dog", "cat")[number % 2]


# --- names of files


def test_queries_of_addresses_are_no_names(tmp_path: Path) -> None:
    rows = [f"https://a.org/{n:03}.png?d={(n + 1) % 12},{'cat' if n < 6 else 'dog'}" for n in range(12)]
    found = labels_of(good(listed(tmp_path / "p", "url,label", rows)))
    assert found == {name: "cat" if n < 6 else "dog" for n, name in enumerate(NAMES)}


def test_names_after_a_date_are_other_files(tmp_path: Path) -> None:
    rows = [f"{name},{label(n)}" for n, name in enumerate(NAMES[1:])]
    found = good(listed(tmp_path / "p", "file,label", [*rows, "20230415-000.png,dog"]))
    assert "000.png" not in labels_of(found)
    assert {each.path for each in found.skipped} == {"20230415-000.png", "photos/000.png"}


def test_prefixes_of_uploads_are_mentioned_outside_of_their_folder(tmp_path: Path) -> None:
    rows = [f"0a1b2c3d-{name},{label(n)}" for n, name in enumerate(NAMES)]
    found = good(listed(tmp_path / "p", "file,label", rows))
    assert labels_of(found) == {name: label(n) for n, name in enumerate(NAMES)}
    only(found.remarks, "12 names in labels.csv have a prefix", "0a1b2c3d-000.png (photos/000.png)")


def test_digits_in_the_folder_of_uploads_are_a_prefix(tmp_path: Path) -> None:
    rows = [f"/data/upload/7/12345678-{name},{label(n)}" for n, name in enumerate(NAMES)]
    assert len(good(listed(tmp_path / "p", "file,label", rows)).images) == 12


@pytest.mark.parametrize("header", ["id,image_id", "name,image_id"])
def test_a_column_of_images_goes_before_one_that_numbers_the_rows(tmp_path: Path, header: str) -> None:
    rows = [f"{n:03},{11 - n:03},{10 + n},5,{30 + n},15,cup" for n in range(12)]
    found = objects(good_boxes(boxed(tmp_path / "p", f"{header},xmin,ymin,xmax,ymax,class", rows)))
    assert found["images/011.png"] == [CUP]


def test_two_columns_of_different_images_are_refused(tmp_path: Path) -> None:
    rows = [f"{n:03}.png,{11 - n:03}.png,10,5,30,15,cup" for n in range(12)]
    project = boxed(tmp_path / "p", "image,file,xmin,ymin,xmax,ymax,class", rows)
    only(found_boxes(project).problems, "different images in the columns 'image' and 'file'", "called 'file'")
    rows = [f"{n:03}.png,{11 - n:03}.png,{label(n)}" for n in range(12)]
    project = listed(tmp_path / "q", "image,file,label", rows)
    only(examined(project).problems, "labels.csv names different images in the columns 'image' and 'file'")


# --- parts of a split


def test_a_category_that_is_called_train_is_a_label(tmp_path: Path) -> None:
    rows = [f"{n:03}.png,{'train' if n < 210 else 'bus'},{('red', 'blue')[n % 2]}" for n in range(420)]
    project = listed(tmp_path / "p", "file,category,colour", rows)
    assert counts(good(project)) == {"bus": 210, "train": 210}
    (project / "labels.csv").write_text("\n".join(["file,category", *(row.rpartition(",")[0] for row in rows)]))
    assert counts(good(project)) == {"bus": 210, "train": 210}


def test_a_category_with_nothing_but_parts_is_the_split_with_a_remark(tmp_path: Path) -> None:
    rows = [f"{name},{label(n)},{'training' if n < 8 else 'testing'}" for n, name in enumerate(NAMES)]
    found = good(listed(tmp_path / "p", "file,label,category", rows))
    assert parts(found) == {"test": 4, "train": 8}
    only(found.remarks, "labels.csv, column 'category', was used as the split")


@pytest.mark.parametrize(
    ("header", "row", "words"),
    [
        ("", "{part},gs://b/{name},{label}", ("TRAIN", "UNASSIGNED", "TEST")),
        ("ml_use,file,label", "{part},gs://b/{name},{label}", ("TRAIN", "UNASSIGNED", "TEST")),
        ("file,label,split", "{name},{label},{part}", ("train", "unused", "test")),
        ("file,label,category", "{name},{label},{part}", ("training", "split", "testing")),
        ("file,label,split", "{name},{label},{part}", ("train", "later", "test")),
    ],
)
def test_words_for_no_part_keep_the_split(tmp_path: Path, header: str, row: str, words: Sequence[str]) -> None:
    rows = [row.format(part=words[n % 3], name=name, label=label(n)) for n, name in enumerate(NAMES)]
    found = good(listed(tmp_path / "p", header, rows))
    assert (counts(found), parts(found)) == ({"cat": 4, "dog": 4}, {"test": 4, "train": 4})
    only(found.remarks, "4 of 12 images were left out because they are not listed with a part in labels.csv")
    if "later" in words:
        only(found.remarks, "column 'split', has words other than train", "later")


def test_images_outside_of_the_folders_of_a_split_are_left_out_for_this_reason(tmp_path: Path) -> None:
    rows = []
    for at, name in enumerate(("train", "val", "more")):
        paths = pictures(tmp_path / "p" / name, 4, first=10 * at)
        rows += [f"{name}/{path.name},{label(n)}" for n, path in enumerate(paths)]
    (tmp_path / "p" / "labels.csv").write_text("\n".join(["file,label", *rows]))
    found = good(tmp_path / "p")
    assert parts(found) == {"train": 4, "validation": 4}
    only(found.remarks, "4 of 12 images", "in no folder or table of a part")


def test_boxes_and_masks_without_a_part_are_left_out(tmp_path: Path) -> None:
    words = ("train",) * 6 + ("val",) * 3 + ("",) * 3
    rows = [f"{name},10,5,30,15,cup,{part}" for name, part in zip(NAMES, words, strict=True)]
    found = good_boxes(boxed(tmp_path / "p", "image,xmin,ymin,xmax,ymax,class,split", rows))
    assert parts(found) == {"train": 6, "validation": 3}
    only(found.remarks, "3 of 12 images were left out because they are not listed with a part in boxes.csv")
    project = masked(
        tmp_path / "q", "image,mask,split", [f"photos/{n}.png,drawn/z{n}.png,{words[n + 3]}" for n in range(8)]
    )
    found = good(project, "segmentation")
    assert parts(found) == {"train": 3, "validation": 3}
    only(found.remarks, "2 of 8 images were left out because they are not listed with a part in pairs.csv")


def test_classes_called_train_and_none_are_classes(tmp_path: Path) -> None:
    rows = [f"{name},{('train', 'none')[n % 2]}" for n, name in enumerate(NAMES)]
    assert counts(good(listed(tmp_path / "p", "", rows))) == {"none": 6, "train": 6}


# --- masks


def masked(project: Path, header: str, rows: Sequence[str]) -> Path:
    for number in range(8):
        (project / "photos").mkdir(parents=True, exist_ok=True)
        noise(500 + number).save(project / "photos" / f"{number}.png")
        palette_mask(project / "drawn" / f"z{number}.png", blocks(0, 1, 2))
    (project / "pairs.csv").write_text("\n".join([header, *rows]))
    return project


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("id,image,mask", "{back},photos/{n}.png,drawn/z{n}.png"),
        ("id,image,mask", "10{n},photos/{n}.png,drawn/z{n}.png"),
        ("image,label,mask", "photos/{n}.png,crack,drawn/z{n}.png"),
        ("image,label,mask", "photos/{n}.png,photos/{n}.png,drawn/z{n}.png"),
    ],
)
def test_columns_of_images_and_masks_are_those_that_name_them(tmp_path: Path, header: str, row: str) -> None:
    rows = [row.format(n=n, back=7 - n) for n in range(8)]
    found = good(masked(tmp_path / "p", header, rows), "segmentation")
    pairs = {Path(image.path).name: Path(image.mask).name for image in found.images if image.mask}
    assert pairs == {f"{n}.png": f"z{n}.png" for n in range(8)}


def test_masks_most_of_which_are_missing_are_still_those_of_the_table(tmp_path: Path) -> None:
    rows = [f"photos/{n}.png,drawn/{'z' if n < 3 else 'gone'}{n}.png" for n in range(8)]
    found = examined(masked(tmp_path / "p", "image,mask", rows), "segmentation")
    assert found.layout == "a table of images and masks: pairs.csv"
    assert len([each for each in found.skipped if each.reason.startswith("missing: named in pairs.csv")]) == 5


def test_a_table_goes_before_many_texts(tmp_path: Path) -> None:
    rows = [f"photos/{n}.png,drawn/z{n}.png" for n in range(8)]
    project = masked(tmp_path / "p", "Our masks,\nimage,mask", [*rows, "gone.png,drawn/z1.png"])
    (project / "notes").mkdir()
    for number in range(60):
        (project / "notes" / f"{number}.txt").write_text("hello")
    found = good(project, "segmentation")
    assert len(found.images) == 8
    assert "missing: named in pairs.csv, line 11" in [each.reason for each in found.skipped]


# --- boxes


def test_each_table_has_pixels_or_shares(tmp_path: Path) -> None:
    project = boxed(tmp_path / "p", "image,xmin,ymin,xmax,ymax,class", [f"{name},10,5,30,15,cup" for name in NAMES[:6]])
    box = {"x": 100 / 6, "y": 12.5, "width": 100 / 3, "height": 25, "rectanglelabels": ["cup"]}
    tasks = [{"image": f"/data/upload/1/ab12cd34-{name}", "label": [box]} for name in NAMES[6:]]
    (project / "export.json").write_text(json.dumps(tasks))
    assert list(objects(good_boxes(project)).values()) == [[CUP]] * 12


def test_shares_may_exceed_one_by_a_little(tmp_path: Path) -> None:
    rows = [f"{name},0.1,0.1,{0.5 if n else 1.02},0.5,cup" for n, name in enumerate(NAMES)]
    found = objects(good_boxes(boxed(tmp_path / "p", "image,xmin,ymin,width,height,class", rows)))
    assert (found["images/000.png"], found["images/001.png"]) == (
        [("cup", (6.0, 4.0, 60.0, 24.0))], [("cup", (6.0, 4.0, 36.0, 24.0))],
    )  # fmt: skip


def test_boxes_of_less_than_a_pixel_are_refused(tmp_path: Path) -> None:
    rows = [f"{name},{10 if n < 4 else 0.1},5,{30 if n < 4 else 0.5},15,cup" for n, name in enumerate(NAMES)]
    project = boxed(tmp_path / "p", "image,xmin,ymin,xmax,ymax,class", rows)
    only(found_boxes(project).problems, "8 of 12 annotations can't be used", "8 narrower or lower than a pixel")


@pytest.mark.parametrize(
    "row",
    [
        "{name},10,5,30,15,0.9{digit},cup", "{name},10,5,30,15,0.9{digit}", "{name},60,40,10,5,20,10,cup",
        "TRAIN,{name},cup,0.1,0.1,0.5,0.5", "cup,10,5,20,10,{name},60",
    ],
)  # fmt: skip
def test_rows_without_a_header_have_exactly_the_columns_of_a_known_form(tmp_path: Path, row: str) -> None:
    rows = [row.format(name=name, digit=n % 5) for n, name in enumerate(NAMES)]
    problems = found_boxes(boxed(tmp_path / "p", "", rows)).problems
    only(problems, "No boxes found", "boxes.csv has no header, and its columns are not those of a known form: add one.")


# --- delimiters and quotes


def test_commas_in_notes_are_no_delimiters(tmp_path: Path) -> None:
    rows = [f"{name};{label(n)};red, small, old{', wet' if n % 3 else ''}, tired" for n, name in enumerate(NAMES)]
    assert counts(good(listed(tmp_path / "p", "file;label;note", rows))) == {"cat": 6, "dog": 6}
    assert counts(good(listed(tmp_path / "q", "", rows))) == {"cat": 6, "dog": 6}


def test_an_open_quote_spoils_only_its_line(tmp_path: Path) -> None:
    rows = [f'{name},{label(n)},"a, b"' for n, name in enumerate(NAMES)]
    rows[4] = '004.png,"dog,"a, b"'
    found = good(listed(tmp_path / "p", "file,label,note", rows))
    assert counts(found) == {"cat": 6, "dog": 6}
    only(found.remarks, "a quote that does not match another", "labels.csv, line 6")


def test_large_tables_are_read_at_once(tmp_path: Path) -> None:
    header = ",".join(["file", "label", *(f"c{n}" for n in range(20))])
    lines = [f"{n}.jpg,cat,{','.join(['1.25'] * 20)}" for n in range(50_000)]
    lines[7] = lines[7].replace("cat", '"cat')
    for text, open_quotes in (("\n".join([header, *lines]), (9,)), ("\n".join([header, *lines[8:]]), ())):
        (tmp_path / "t.csv").write_text(text)
        begun = time.process_time()
        table = table_text.read(tmp_path / "t.csv")
        assert time.process_time() - begun < 10
        assert (len(table.rows), table.rows[8][1], table.open_quotes) == (text.count("\n") + 1, "cat", open_quotes)
