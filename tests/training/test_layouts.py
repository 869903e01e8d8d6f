"""Layouts of classification projects as people have them, and their labels. No TensorFlow is needed."""

from __future__ import annotations

import unicodedata
import zipfile
from pathlib import Path

import pytest
from layout_projects import class_folders, counts, examined, good, parts, pictures
from projects import digit_project
from test_examination import only

from tfserve.training.dataset import labels

# --- class folders


def test_class_folders_in_images_are_the_layout_of_the_contract(tmp_path: Path) -> None:
    class_folders(tmp_path / "p" / "images", ("Cat", "Dog"))
    class_folders(tmp_path / "p", ("elsewhere",))
    found = good(tmp_path / "p")
    assert (found.layout, counts(found)) == ("images/<class>/<image>", {"Cat": 3, "Dog": 3})


def test_class_folders_at_the_top_do_not_include_the_results_of_earlier_trainings(tmp_path: Path) -> None:
    class_folders(tmp_path / "p", ("Cat", "Dog"))
    pictures(tmp_path / "p" / "models" / "t1" / "plots", 2)
    found = good(tmp_path / "p")
    assert (found.layout, counts(found), parts(found)) == ("<class>/<image>", {"Cat": 3, "Dog": 3}, {"": 6})


@pytest.mark.parametrize("base", [".", "images", "dataset", "flowers/data"])
@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "Validation"), ("train", "valid", "test")])
def test_the_users_own_split_is_kept(tmp_path: Path, base: str, names: tuple[str, ...]) -> None:
    for name in names:
        class_folders(tmp_path / "p" / base / name, ("Cat", "Dog"), 2 if name.lower().startswith("v") else 4)
    found = good(tmp_path / "p")
    expected = {"train": 8, "validation": 4} | ({"test": 8} if len(names) > 2 else {})
    assert parts(found) == expected
    assert "/<class>/<image> (train 8, validation 4" in found.layout
    assert counts(found)["Cat"] == sum(expected.values()) // 2


def test_one_part_alone_is_no_split(tmp_path: Path) -> None:
    class_folders(tmp_path / "p" / "train", ("Cat", "Dog"))
    assert parts(good(tmp_path / "p")) == {"": 6}


def test_a_class_called_train_among_others_is_a_class(tmp_path: Path) -> None:
    class_folders(tmp_path / "p" / "images", ("train", "bus", "tram"))
    assert counts(good(tmp_path / "p")) == {"bus": 3, "train": 3, "tram": 3}


@pytest.mark.parametrize("inside", ["", "dataset", "dataset/images"])
def test_other_folders_next_to_a_split_are_not_classes(tmp_path: Path, inside: str) -> None:
    base = tmp_path / "p" / inside
    for part in ("train", "valid"):
        class_folders(base / part, ("Rose", "Tulip"))
    pictures(base / "runs", 2)
    (tmp_path / "p" / "weights").mkdir()
    (tmp_path / "p" / "weights" / "best.pt").write_bytes(b"x")
    found = good(tmp_path / "p")
    assert (counts(found), parts(found)) == ({"Rose": 6, "Tulip": 6}, {"train": 6, "validation": 6})
    only(found.remarks, "Folders next to the parts of the split were ignored", "runs")


@pytest.mark.parametrize("name", ["@eaDir", "__MACOSX", "$RECYCLE.BIN"])
def test_folders_that_systems_add_are_not_classes(tmp_path: Path, name: str) -> None:
    class_folders(tmp_path / "p" / "images", ("Rose", "Tulip", name))
    pictures(tmp_path / "p" / "images" / "Rose" / name, 2)
    assert counts(good(tmp_path / "p")) == {"Rose": 3, "Tulip": 3}


def test_parts_without_classes_are_not_taken_for_classes(tmp_path: Path) -> None:
    class_folders(tmp_path / "p", ("train", "test"))
    only(examined(tmp_path / "p").problems, "was not recognised. Found: 2 folders (test/, train/), 6 files (6 .png)")


def test_classes_written_differently_in_the_parts_are_joined_and_a_missing_one_is_a_problem(tmp_path: Path) -> None:
    class_folders(tmp_path / "p" / "train", ("Cup_Large", "Dog"))
    class_folders(tmp_path / "p" / "val", ("cup large", "Dog", "Bird"))
    found = examined(tmp_path / "p")
    only(found.problems, "has no images of the classes", "Bird")
    assert "'cup large' in validation is 'Cup_Large'" in only(found.remarks, "were merged")
    assert counts(found) == {"Bird": 3, "Cup_Large": 6, "Dog": 6}


def test_images_in_folders_below_a_class_belong_to_it(tmp_path: Path) -> None:
    class_folders(tmp_path / "p" / "images", ("cat/2021", "cat/2022", "dog"))
    assert counts(good(tmp_path / "p")) == {"cat": 6, "dog": 3}


def test_links_that_lead_back_up_do_not_go_round_in_circles(tmp_path: Path) -> None:
    class_folders(tmp_path / "p" / "images", ("cat", "dog"))
    (tmp_path / "p" / "images" / "cat" / "up").symlink_to(tmp_path / "p" / "images")
    assert counts(good(tmp_path / "p")) == {"cat": 3, "dog": 3}


def test_an_unknown_layout_names_what_was_found_and_what_is_accepted(tmp_path: Path) -> None:
    pictures(tmp_path / "p" / "stuff", 3, suffix=".jpg")
    (tmp_path / "p" / "notes.pdf").touch()
    problem = only(examined(tmp_path / "p").problems, "was not recognised")
    assert "Found: 1 folders (stuff/), 4 files (3 .jpg, 1 .pdf)" in problem
    assert "Accepted: images/<class>/<image>; <class>/<image>" in problem
    assert "CSV" in problem
    assert "zip" in problem


# --- tables


HEADERS = ["file,label", "filename;Class", "image_path\tcategory", "Image Name,diagnosis", "id,breed", "", "x,y"]


@pytest.mark.parametrize("header", HEADERS)
def test_a_table_of_files_and_labels_is_read_with_any_usual_header_or_none(tmp_path: Path, header: str) -> None:
    paths = pictures(tmp_path / "p" / "photos", 6)
    separator = next((each for each in ";\t" if each in header), ",")
    lines = [f"{path.name}{separator}{'Cat' if n % 2 else 'Größe'}" for n, path in enumerate(paths)]
    (tmp_path / "p" / "labels.csv").write_text("\r\n".join(filter(None, [header, *lines])), encoding="utf-8-sig")
    found = good(tmp_path / "p")
    assert counts(found) == {"Cat": 3, "Größe": 3}
    assert found.layout.startswith("table labels.csv (column")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252"])
def test_tables_in_the_encodings_of_spreadsheets_are_read(tmp_path: Path, encoding: str) -> None:
    paths = pictures(tmp_path / "p", 4)
    text = "Datei;Größe\n" + "\n".join(
        f'"{p.name}";"{"groß; sehr" if n % 2 else "klein"}"' for n, p in enumerate(paths)
    )
    (tmp_path / "p" / "data.csv").write_bytes(text.encode(encoding))
    assert counts(good(tmp_path / "p")) == {"groß; sehr": 2, "klein": 2}


@pytest.mark.parametrize(
    "written",
    ["{0}/{1}.jpg", "./{0}/{1}.jpg", "{0}\\{1}.jpg", "/home/me/set/{0}/{1}.jpg", "{0}/{1}", "C:\\x\\{0}\\{1}.jpg"],
)
def test_files_are_found_by_the_end_of_their_paths(tmp_path: Path, written: str) -> None:
    lines = ["path,label"]
    for folder in ("a", "b"):
        for path in pictures(tmp_path / "p" / "images" / "all" / folder, 2, suffix=".jpg"):
            lines.append(f"{written.format(folder, path.stem)},class {folder}")
    (tmp_path / "p" / "images" / "all").rename(tmp_path / "p" / "pool")
    (tmp_path / "p" / "images").rmdir()
    (tmp_path / "p" / "train.csv").write_text("\n".join(lines))
    found = good(tmp_path / "p")
    assert {(image.path.split("/")[1], found.display[image.label]) for image in found.images} == {
        ("a", "class a"), ("b", "class b"),
    }  # fmt: skip


def test_a_file_of_the_same_name_in_another_folder_of_the_project_is_not_taken(tmp_path: Path) -> None:
    for n, folder in enumerate(("a", "b", "train", "val")):
        pictures(tmp_path / "p" / folder, 4, first=4 * n)
    rows = [f"{folder}/{n:03d}.png,{'xy'[n % 2]}" for n, folder in enumerate(["a"] * 4 + ["b"] * 4 + ["train"] * 4)]
    wrong = ["b/000.png,y", "train/012.png,x", "test/013.png,x"]
    (tmp_path / "p" / "labels.csv").write_text("\n".join(["file,label", *rows, *wrong]))
    found = examined(tmp_path / "p")
    assert sorted(each.path for each in found.skipped if "missing" in each.reason) == [
        "b/000.png", "test/013.png", "train/012.png",
    ]  # fmt: skip
    assert counts(found) == {"x": 6, "y": 6}


def test_columns_for_split_and_group_are_followed(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "p", 8)
    rows = [
        f"{p.name},{'ab'[n % 2]},{('train', 'train', 'val', 'test')[n // 2]},s{n // 4}" for n, p in enumerate(paths)
    ]
    (tmp_path / "p" / "labels.csv").write_text("\n".join(["file,label,split,group", *rows]))
    found = good(tmp_path / "p")
    assert parts(found) == {"test": 2, "train": 4, "validation": 2}
    assert sorted(image.group for image in found.images) == ["s0"] * 4 + ["s1"] * 4
    assert "2 groups" in only(found.remarks, "kept on one side")


def test_one_table_for_each_part_is_the_split(tmp_path: Path) -> None:
    """As Roboflow writes it: a 1 in the column of each image's class."""
    for part, count in (("train", 4), ("valid", 2)):
        paths = pictures(tmp_path / "p" / part, count)
        rows = [f"{p.name}, {n % 2}, {1 - n % 2}" for n, p in enumerate(paths)]
        (tmp_path / "p" / part / "_classes.csv").write_text("\n".join(["filename, Bus, Car", *rows]))
    found = good(tmp_path / "p")
    assert (counts(found), parts(found)) == ({"Bus": 3, "Car": 3}, {"train": 4, "validation": 2})


def test_a_table_separated_by_blanks_and_without_a_header_says_which_column_it_takes(tmp_path: Path) -> None:
    """That of the solar cells in the package elpv-dataset."""
    paths = pictures(tmp_path / "p" / "images", 6)
    lines = [f"images/{p.name}  {('0.0', '0.3333333333333333', '1.0')[n % 3]}    mono" for n, p in enumerate(paths)]
    (tmp_path / "p" / "labels.csv").write_text("\n".join(lines))
    found = good(tmp_path / "p")
    assert counts(found) == {"0.0": 2, "0.3333333333333333": 2, "1.0": 2}
    only(found.remarks, "column 2 was used as the label, and columns 3 were ignored")


def test_a_table_without_a_column_for_labels_is_named_in_the_error(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "p" / "images", 6)
    rows = [f"{p.name},{n},{n % 2}" for n, p in enumerate(paths)]
    (tmp_path / "p" / "a.csv").write_text("\n".join(["file,width,mood", *rows]))
    only(
        examined(tmp_path / "p").problems, "which of its columns (width, mood) has the label. Name that column 'label'"
    )


def test_class_numbers_are_named_by_a_list_of_names(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "p" / "images", 4)
    (tmp_path / "p" / "train.txt").write_text("\n".join(f"{p.name} {n % 2}" for n, p in enumerate(paths)))
    (tmp_path / "p" / "synsets.txt").write_text("tench\ngoldfish\n")
    assert counts(good(tmp_path / "p")) == {"goldfish": 2, "tench": 2}


def test_everything_wrong_with_a_table_is_reported_at_once(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "p", 30)
    rows = [f"{p.name},{'ab'[n % 2]}" for n, p in enumerate(paths[:-1])]
    rows += ["000.png,b", "gone.png,a", "003.png,", ",", "../../../etc/passwd,a"]
    (tmp_path / "p" / "labels.csv").write_text("\n".join(["file,label", *rows]))
    found = examined(tmp_path / "p")
    only(found.problems, "These have several: 000.png (a, b)")
    reasons = {each.path: each.reason for each in found.skipped}
    assert "named in labels.csv, line 32" in reasons["gone.png"]
    assert "no label" in reasons["003.png"]
    assert "not listed in labels.csv" in reasons["029.png"]
    assert any("missing" in reason for path, reason in reasons.items() if "passwd" in path)


def test_a_table_of_images_that_are_not_there_is_not_a_data_set(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "labels.csv").write_text("file,label\na.png,x\nb.png,y\n")
    only(examined(tmp_path / "p").problems, "2 of 2 images", "missing")


def test_several_labels_for_an_image_are_a_problem_of_each_line(tmp_path: Path) -> None:
    paths = pictures(tmp_path / "p", 4)
    rows = [f"{p.name},{int(n < 3)},{n % 2}" for n, p in enumerate(paths)]
    (tmp_path / "p" / "_classes.csv").write_text("\n".join(["filename,Sun,Rain", *rows]))
    only(examined(tmp_path / "p").problems, "line 3", "001.png has 2 labels (Sun, Rain)")


@pytest.mark.parametrize("content", [b"\0" * 100, b"a,b\n", b'"', b",,,\n,,,\n", b"x" * 200_000 + b",1\n", b"\xff\xfe"])
def test_other_tables_and_garbage_do_not_matter(tmp_path: Path, content: bytes) -> None:
    class_folders(tmp_path / "p", ("Cat", "Dog"))
    for name in ("notes.csv", "notes.txt", "notes.tsv"):
        (tmp_path / "p" / name).write_bytes(content)
    assert counts(good(tmp_path / "p")) == {"Cat": 3, "Dog": 3}


def test_a_table_next_to_class_folders_gives_split_and_groups_and_its_labels_are_not_used(tmp_path: Path) -> None:
    class_folders(tmp_path / "p" / "images", ("Cat", "Dog"), 3)
    split = "train", "test", "train"
    rows = [f"{c}/00{n}.png,other,{split[n]},scene {n}" for c in ("Cat", "Dog") for n in range(3)]
    (tmp_path / "p" / "meta.csv").write_text("\n".join(["file,label,set,scene", *rows]))
    found = good(tmp_path / "p")
    assert (counts(found), parts(found)) == ({"Cat": 3, "Dog": 3}, {"test": 2, "train": 4})
    assert {image.group for image in found.images} == {"scene 0", "scene 1", "scene 2"}
    only(found.remarks, "labels in meta.csv were ignored")


# --- groups


def test_a_pattern_of_names_makes_groups(tmp_path: Path) -> None:
    class_folders(tmp_path / "p" / "images", ("scene_1_a", "scene_2_b"), 3)
    found = good(tmp_path / "p", groups=r"00(\d)\.png")
    assert [image.group for image in found.images] == ["0", "1", "2"] * 2
    found = examined(tmp_path / "p", groups=r"scene_(\d)")
    assert [image.group for image in found.images] == ["1"] * 3 + ["2"] * 3
    only(
        found.problems, "each class has only one image or one group of images", "'scene_1_a', 'scene_2_b'", "to 'none'"
    )
    assert {image.group for image in good(tmp_path / "p", groups="none").images} == {""}


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("(", "regular expression"),
        ("abc", "with a group in parentheses"),
        ("x" * 900, "at most 500"),
        ("(zzz)", "no image"),
    ],
)
def test_a_pattern_that_can_not_be_used_is_a_problem(tmp_path: Path, pattern: str, words: str) -> None:
    class_folders(tmp_path / "p" / "images", ("cat", "dog"))
    only(examined(tmp_path / "p", groups=pattern).problems, "groups:", words)


@pytest.mark.slow
def test_a_pattern_without_end_is_stopped(tmp_path: Path) -> None:
    class_folders(tmp_path / "p" / "images", ("a" * 60, "dog"))
    only(examined(tmp_path / "p", groups=r"(a+)+$").problems, "takes too long")


def test_copies_that_roboflow_made_of_one_image_are_a_group(tmp_path: Path) -> None:
    class_folders(tmp_path / "p" / "images", ("cat", "dog"), 2)
    for n, path in enumerate(sorted((tmp_path / "p" / "images" / "cat").iterdir())):
        path.rename(path.with_name(f"IMG_1_jpg.rf.{n}0123456789abcdef.png"))
    groups = [image.group for image in good(tmp_path / "p").images]
    assert len(set(groups[:2])) == 1
    assert groups[0] != ""
    assert groups[2:] == ["", ""]


@pytest.mark.parametrize(
    "names",
    [
        ("16x16/open.png", "48x48/open.png", "256x256/open.png"), ("open.png", "open@2x.png", "open@3x.png"),
        ("open_007-150x150.png", "open_007-1024x576.png", "open_007.png"),
        ("16px open.png", "32px open.png", "open.png"),
    ],
)  # fmt: skip
def test_versions_of_an_image_in_several_sizes_are_a_group(tmp_path: Path, names: tuple[str, ...]) -> None:
    others = ("close/1.png", "close/2.png", "open2.png", "open 3.png", "open4x4.png")
    for file, made in zip((*names, *others), pictures(tmp_path / "made", len(names) + len(others)), strict=True):
        (tmp_path / "p/images/cat" / file).parent.mkdir(parents=True, exist_ok=True)
        made.rename(tmp_path / "p/images/cat" / file)
    class_folders(tmp_path / "p" / "images", ("dog",), 2)
    found = good(tmp_path / "p")
    group = {image.path.removeprefix("images/cat/"): image.group for image in found.images}
    assert len({group[name] for name in names}) == 1
    assert "" not in {group[name] for name in names}
    assert {each for name, each in group.items() if name not in names} == {""}
    only(found.remarks, "differ only in a size")


@pytest.mark.parametrize(
    "names",
    [
        ("1.png", "1.jpg"), ("A1.png", "a1.png"), ("640x480.png", "1024x768.png"), ("1_48x48_2.png", "12.png"),
    ],
)  # fmt: skip
def test_names_that_differ_in_more_or_less_than_a_size_are_no_versions(tmp_path: Path, names: tuple[str, ...]) -> None:
    class_folders(tmp_path / "p" / "images", ("dog",), 2)
    for file, made in zip(names, pictures(tmp_path / "made", len(names)), strict=True):
        (tmp_path / "p/images/cat").mkdir(exist_ok=True)
        made.rename(tmp_path / "p/images/cat" / file)
    assert {image.group for image in good(tmp_path / "p").images} == {""}


@pytest.mark.parametrize(
    "names",
    [
        ("cup.png", "cup_rot90.png", "cup_flip_2.jpg", "Cup - Copy (2).png", "cup_hflip_rot-15.png"),
        (
            "img 1.png", "output/cat_original_img 1.png_9ee54bdc-980c-4605-af15-739ca7c67a85.png",
            "output/cat_original_img 1.png_70101c92-5580-4cfc-a55f-e39a56e12122.png",
        ),
    ],
)  # fmt: skip
def test_copies_that_an_augmentation_made_are_a_group(tmp_path: Path, names: tuple[str, ...]) -> None:
    others = ("cups.png", "plate_rot90.png", "plate_rot45.png", "img 2.png", "flip.png")
    for file, made in zip((*names, *others), pictures(tmp_path / "made", len(names) + len(others)), strict=True):
        (tmp_path / "p/images/cat" / file).parent.mkdir(parents=True, exist_ok=True)
        made.rename(tmp_path / "p/images/cat" / file)
    class_folders(tmp_path / "p" / "images", ("dog",), 2)
    found = good(tmp_path / "p")
    group = {image.path.removeprefix("images/cat/"): image.group for image in found.images}
    assert {group[name] for name in names} == {f"images/cat/{names[0]}"}
    assert {each for name, each in group.items() if name not in names} == {""}
    only(found.remarks, "add only what was changed")


def test_positions_in_names_are_no_sizes(tmp_path: Path) -> None:
    class_folders(tmp_path / "p" / "images", ("cat", "dog"), 20)
    for number, path in enumerate(sorted((tmp_path / "p" / "images" / "cat").iterdir())):
        path.rename(path.with_name(f"tile_{10 + number // 5}x{10 + number % 5}.png"))
    assert {image.group for image in good(tmp_path / "p").images} == {""}


# --- labels in any script


def test_labels_follow_the_contract_and_the_names_are_kept_next_to_them(tmp_path: Path) -> None:
    names = ("猫", "Größe", "C++", "C#", "C", "Кошка", "Cup_Large", "class 1")
    class_folders(tmp_path / "p" / "images", names, 2)
    found = good(tmp_path / "p")
    label_of = dict(zip(found.display, found.labels, strict=True))
    assert set(label_of) == set(names)
    assert len(set(found.labels)) == len(names)
    assert {name: label_of[name] for name in ("Größe", "C", "C#", "C++", "Cup_Large", "class 1")} == {
        "Größe": "gr e", "C": "c", "C#": "c ", "C++": "c 2", "Cup_Large": "cup large", "class 1": "class 1",
    }  # fmt: skip
    assert {label_of["猫"], label_of["Кошка"]} == {"class 2", "class 3"}
    assert "its label is 'c 2' and its display name 'C++'" in only(found.remarks, "'C++' has the same label")


def test_a_class_folder_in_two_normal_forms_is_one_class(tmp_path: Path) -> None:
    class_folders(tmp_path / "p" / "train", (unicodedata.normalize("NFC", "Größe"), "klein"), 2)
    class_folders(tmp_path / "p" / "val", (unicodedata.normalize("NFD", "Größe"), "klein"), 2)
    assert counts(good(tmp_path / "p")) == {"Größe": 4, "klein": 4}


def test_line_breaks_in_names_of_classes_are_blanks(tmp_path: Path) -> None:
    """`display_names.txt` has a name on each line."""
    files = pictures(tmp_path / "p" / "photos", 9)
    names = ('"Granny\nSmith"', '"Pink\r\nLady"', "Red Delicious")
    rows = "".join(f"{file.name},{names[number % 3]}\n" for number, file in enumerate(files))
    (tmp_path / "p" / "labels.csv").write_text(f"file,label\n{rows}", encoding="utf-8")
    class_folders(tmp_path / "q", ("Granny\nSmith", "Pink\r\nLady", "Red\x85Delicious"))
    for project in ("p", "q"):
        assert good(tmp_path / project).display == ["Granny Smith", "Pink Lady", "Red Delicious"]


def test_labels_info_may_use_the_names_as_they_are_written(tmp_path: Path) -> None:
    class_folders(tmp_path / "p" / "images", ("猫", "C++", "C#", "Hund"), 2)
    info = tmp_path / "p" / "labels_info.txt"
    info.write_text("label,number\nC++,3\nC#,2\n猫,1\nhund,0\n", encoding="utf-8")
    found = good(tmp_path / "p")
    assert (found.display, found.numbers) == (["Hund", "猫", "C#", "C++"], [0, 1, 2, 3])
    info.write_text("label,number\nC++,3\nC#,2\n犬,1\nhund,0\n", encoding="utf-8")
    problems = examined(tmp_path / "p").problems
    only(problems, "lists '犬', but no image has this label")
    only(problems, "has no number for 'class 1'")


def test_numbers_as_labels_are_in_their_order(tmp_path: Path) -> None:
    class_folders(tmp_path / "p" / "images", ("10", "9", "1"), 2)
    assert good(tmp_path / "p").labels == ["1", "9", "10"]


def test_labels_that_are_taken_are_not_given_again() -> None:
    found, remarks = labels.distinct(["a", "A", "a 2", "!", "?", "class 1"])
    assert len(set(found.values())) == 6
    assert (found["a"], found["a 2"], found["class 1"]) == ("a", "a 2", "class 1")
    assert len(remarks) == 3


# --- archives


def zipped(archive: Path, folder: Path, **extra: bytes) -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                file.write(path, path.relative_to(folder).as_posix())
        for name, content in extra.items():
            file.writestr(name, content)
    return archive


def test_a_zip_file_in_the_project_is_unpacked_outside_of_it(tmp_path: Path) -> None:
    class_folders(tmp_path / "set" / "flowers" / "train", ("Rose", "猫"))
    class_folders(tmp_path / "set" / "flowers" / "val", ("Rose", "猫"), 2)
    (tmp_path / "p").mkdir()
    zipped(
        tmp_path / "p" / "data.zip", tmp_path / "set", **{"__MACOSX/flowers/._x.png": b"x", "flowers/.DS_Store": b"x"}
    )
    found = good(tmp_path / "p")
    assert (counts(found), parts(found)) == ({"Rose": 5, "猫": 5}, {"train": 6, "validation": 4})
    assert found.layout.endswith("unpacked from a zip file")
    assert [each.name for each in (tmp_path / "p").iterdir()] == ["data.zip"]
    assert all((tmp_path / "p" / image.path).is_file() for image in found.images)


def test_a_zip_file_may_be_the_project(tmp_path: Path) -> None:
    class_folders(tmp_path / "set", ("Rose", "Tulip"))
    assert counts(good(zipped(tmp_path / "flowers.ZIP", tmp_path / "set"))) == {"Rose": 3, "Tulip": 3}


def test_several_archives_are_folders_next_to_each_other(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    for name in ("Rose", "Tulip"):
        pictures(tmp_path / name, 3)
        zipped(tmp_path / "p" / f"{name}.zip", tmp_path / name)
    assert counts(good(tmp_path / "p")) == {"Rose": 3, "Tulip": 3}


def test_an_archive_in_an_archive_is_unpacked_too(tmp_path: Path) -> None:
    class_folders(tmp_path / "set" / "flowers" / "train", ("Rose", "Tulip"))
    (tmp_path / "p" / "data").mkdir(parents=True)
    (tmp_path / "outer" / "download").mkdir(parents=True)
    zipped(tmp_path / "outer" / "download" / "export.zip", tmp_path / "set", **{"a.exe": b"x"})
    zipped(tmp_path / "p" / "data" / "download.zip", tmp_path / "outer")
    found = good(tmp_path / "p")
    assert counts(found) == {"Rose": 3, "Tulip": 3}
    assert [each.path for each in found.skipped] == ["data/download.zip/download/export.zip/a.exe"]
    assert not list((tmp_path / "derived").rglob("*.zip"))


def test_archives_of_one_name_in_several_folders_are_the_parts_of_a_split(tmp_path: Path) -> None:
    class_folders(tmp_path / "set", ("Rose", "Tulip"))
    class_folders(tmp_path / "other", ("Rose", "Tulip"), 2)
    for part, of in (("train", "set"), ("test", "other")):
        (tmp_path / "p" / part).mkdir(parents=True)
        zipped(tmp_path / "p" / part / "images.zip", tmp_path / of)
    found = good(tmp_path / "p")
    assert (counts(found), parts(found)) == ({"Rose": 5, "Tulip": 5}, {"test": 4, "train": 6})


def test_a_folder_between_a_part_and_its_classes_is_no_class(tmp_path: Path) -> None:
    for part in ("train", "test"):
        class_folders(tmp_path / "p" / part / "images", ("Rose", "Tulip"))
    found = good(tmp_path / "p")
    assert (counts(found), parts(found)) == ({"Rose": 6, "Tulip": 6}, {"test": 6, "train": 6})


def test_an_archive_that_contains_itself_again_and_again_ends(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    inner = tmp_path / "0.zip"
    class_folders(tmp_path / "set", ("Rose", "Tulip"))
    zipped(inner, tmp_path / "set")
    for number in range(1, 9):
        folder = tmp_path / f"level{number}"
        folder.mkdir()
        inner = inner.rename(folder / inner.name)
        inner = zipped(tmp_path / f"{number}.zip", folder)
    inner.rename(tmp_path / "p" / inner.name)
    only(examined(tmp_path / "p").problems, "layout", "was not recognised")


def test_an_archive_next_to_images_stays_packed(tmp_path: Path) -> None:
    class_folders(tmp_path / "set", ("Rose", "Tulip"))
    class_folders(tmp_path / "other", ("Lily",))
    zipped(tmp_path / "set" / "more.zip", tmp_path / "other")
    (tmp_path / "p").mkdir()
    zipped(tmp_path / "p" / "a.zip", tmp_path / "set")
    assert counts(good(tmp_path / "p")) == {"Rose": 3, "Tulip": 3}


def test_an_archive_with_evil_paths_links_and_bombs_writes_nothing_outside(tmp_path: Path) -> None:
    class_folders(tmp_path / "set", ("Rose", "Tulip"), 12)
    (tmp_path / "p").mkdir()
    link = zipfile.ZipInfo("Rose/link.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(zipped(tmp_path / "p" / "a.zip", tmp_path / "set"), "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr("../../evil.png", b"x")
        file.writestr("/tmp-evil.png", b"x")
        file.writestr("..\\evil2.png", b"x")
        file.writestr(link, "/etc/passwd")
        file.writestr("Rose/bomb.png", b"\0" * 30_000_000)
        file.writestr("Rose/run.exe", b"x")
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr("Rose/000.png", b"another one of the same name")
        file.writestr("Rose/" + "x" * 300 + ".png", b"x")
    found = good(tmp_path / "p")
    assert counts(found) == {"Rose": 12, "Tulip": 12}
    reasons = {each.path.removeprefix("a.zip/"): each.reason for each in found.skipped}
    assert "leads outside" in reasons["../../evil.png"]
    assert "leads outside" in reasons["tmp-evil.png"]
    assert "a link" in reasons["Rose/link.png"]
    assert "times its size" in reasons["Rose/bomb.png"]
    assert not list(tmp_path.rglob("*evil*"))
    assert not Path("/tmp-evil.png").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06", b"no zip", b"PK\x03\x04" + b"\0" * 50])
def test_a_broken_archive_is_a_problem(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "a.zip").write_bytes(content)
    only(examined(tmp_path / "p").problems, "a.zip", "not a valid zip file")


def test_a_damaged_file_in_an_archive_is_left_out(tmp_path: Path) -> None:
    class_folders(tmp_path / "set", ("Rose", "Tulip"), 6)
    (tmp_path / "p").mkdir()
    archive = zipped(tmp_path / "p" / "a.zip", tmp_path / "set")
    content = bytearray(archive.read_bytes())
    content[200:260] = b"\xff" * 60
    archive.write_bytes(content)
    found = good(tmp_path / "p")
    assert sum(counts(found).values()) == 11
    assert "can't be unpacked" in found.skipped[0].reason


def test_an_archive_that_lists_too_many_files_is_refused_before_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    end = b"PK\x06\x06" + (44).to_bytes(8, "little") + b"\0" * 20 + (10**9).to_bytes(8, "little") + b"\0" * 40
    (tmp_path / "p" / "a.zip").write_bytes(end)
    only(examined(tmp_path / "p").problems, "a.zip", "1000000000 files")


def test_digits_of_the_contract_are_found_as_before(tmp_path: Path) -> None:
    found = good(digit_project(tmp_path / "p", classes=2, per_class=5))
    assert (found.labels, found.display, found.numbers) == (["digit 0", "digit 1"], ["Digit_0", "Digit_1"], [0, 1])
