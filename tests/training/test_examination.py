"""What an examination finds. It needs no TensorFlow."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from projects import broken_images, digit_project, mask_project, noise
from trainer import StartTrainer

from tfserve.errors import Invalid
from tfserve.ipc.messages import Failed, ProjectExamined
from tfserve.training import atomic_files
from tfserve.training.dataset import dataset_index, labels, masks, project_folders
from tfserve.training.dataset import image_reading as images
from tfserve.training.dataset.dataset_index import Findings
from tfserve.training.dataset.examine import examine
from tfserve.training.dataset.image_reading import Bad
from tfserve.training.fit import uploaded_weights
from tfserve.training.recipes import parameters


def classification(project: Path) -> Findings:
    return examine(str(project), "classification", {})


def segmentation(project: Path) -> Findings:
    return examine(str(project), "segmentation", {})


def only(problems: list[str], *words: str) -> str:
    """The one problem with these words."""
    (found,) = [each for each in problems if all(word in each for word in words)]
    return found


# --- labels


@pytest.mark.parametrize(
    ("folder", "label"),
    [("Cup_Large", "cup large"), ("cup", "cup"), ("A--B  C", "a b c"), ("Äpfel2", " pfel2"), ("x_", "x ")],
)
def test_a_label_is_the_folder_name_in_lower_case_with_single_spaces(folder: str, label: str) -> None:
    assert labels.from_folder(folder) == label


def test_classes_are_numbered_by_name_without_labels_info(digits: Path) -> None:
    found = classification(digits)
    assert (found.labels, found.numbers, found.problems) == (["digit 0", "digit 1", "digit 2"], [0, 1, 2], [])
    assert len(found.images) == 72


def test_labels_info_gives_the_numbers_and_the_order(digits: Path) -> None:
    (digits / "labels_info.txt").write_text("label,number\r\nDigit_2,0\r\ndigit 0,5\r\ndigit 1,3\r\n")
    found = classification(digits)
    assert (found.labels, found.numbers, found.problems) == (["digit 2", "digit 1", "digit 0"], [0, 3, 5], [])
    assert {found.labels[each.label] for each in found.images if "Digit_2" in each.path} == {"digit 2"}


# --- all problems at once


def test_every_problem_of_a_classification_is_reported_at_once(digits: Path) -> None:
    images = digits / "images"
    (images / "digit 0").mkdir()
    (images / "single").mkdir()
    noise(1).save(images / "single" / "a.png")
    (images / "nothing").mkdir()
    (images / "___").mkdir()
    (images / "Digit_1" / "twin.png").write_bytes((images / "Digit_2" / "000.png").read_bytes())
    (digits / "labels_info.txt").write_text("label,number\ndigit 0,0\ndigit 0,7\nnine,1\ndigit 1,0\nrubbish\n")

    problems = classification(digits).problems

    only(problems, str(images / "digit 0"), "no usable image")
    only(problems, str(images / "single"), "only 1 usable image")
    only(problems, str(images / "nothing"), "no usable image")
    only(problems, str(images / "___"), "no usable image")
    only(problems, "twin.png", str(images / "Digit_2" / "000.png"), "two classes")
    only(problems, "line 3", "'digit 0' occurs twice")
    only(problems, "line 5", "number 0 occurs twice")
    only(problems, "line 6", "'rubbish'")
    only(problems, "lists 'nine'", "no image has this label")
    only(problems, "no number for 'digit 2'")


def test_missing_folders_are_problems(tmp_path: Path) -> None:
    assert "neither a folder nor a zip or tar file" in only(
        classification(tmp_path / "gone").problems, str(tmp_path / "gone")
    )
    (tmp_path / "images").mkdir()
    only(classification(tmp_path).problems, "was not recognised. Found: 1 folders (images/), no files")
    only(segmentation(tmp_path).problems, "was not recognised", "images/ and labels/")


def test_one_class_is_too_few(tmp_path: Path) -> None:
    only(classification(digit_project(tmp_path / "p", classes=1, per_class=5)).problems, "has 1 classes")


# --- where the result is to be put


def test_what_stands_where_the_result_is_to_be_put_is_a_problem_and_stays(digits: Path) -> None:
    models = digits / "models"
    models.write_text("mine")
    assert "Rename or remove" in only(classification(digits).problems, str(models), "is not a folder")
    models.unlink()
    (models / "latest").mkdir(parents=True)
    (models / "latest" / "mine.txt").write_text("mine")
    only(classification(digits).problems, str(models / "latest"), "is not a link")

    (models / "t1").mkdir()
    atomic_files.link_latest(models / "t1")
    assert (models / "latest" / "mine.txt").read_text() == "mine"
    shutil.rmtree(models / "latest")
    atomic_files.link_latest(models / "t1")
    assert (models / "latest").resolve() == models / "t1"
    assert classification(digits).problems == []


def test_a_project_that_cannot_be_written_to_is_a_problem() -> None:
    with tempfile.TemporaryDirectory() as name:
        project = Path(name)
        project.chmod(0o555)
        as_root = os.geteuid() == 0
        if as_root:  # who may write everywhere
            os.seteuid(65534)
        try:
            only(project_folders.problems_of_results(project), name, "is not writable for this server")
        finally:
            if as_root:
                os.seteuid(0)
            project.chmod(0o755)
        assert project_folders.problems_of_results(project) == []


# --- what the training will need


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("gone.h5", None, "does not exist"),
        ("text.h5", b"these are no weights", "not a weight file"),
        ("cut.h5", uploaded_weights.HDF5, "Is it truncated"),
    ],
)
def test_weights_that_can_not_be_used_are_a_problem_at_once(
    digits: Path, name: str, content: bytes | None, words: str
) -> None:
    if content is not None:
        (digits.parent / name).write_bytes(content)
    chosen = parameters.complete("classification", {"weights": str(digits.parent / name)})
    problems = examine(str(digits), "classification", chosen).problems
    assert problems == [only(problems, name, words)]


def test_a_backbone_whose_weights_are_not_here_is_a_problem_at_once(
    digits: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERAS_HOME", str(digits.parent / "keras"))
    for backbone, problems in (("MobileNetV2", 1), ("auto", 0), ("compact", 0)):
        chosen = parameters.complete("classification", {"backbone": backbone})
        assert len(examine(str(digits), "classification", chosen).problems) == problems, backbone


# --- what is skipped


def test_images_that_cannot_be_used_are_skipped_with_the_reason(digits: Path) -> None:
    expected = broken_images(digits / "images" / "Digit_1")
    (digits / "images" / "Digit_1" / "notes.txt").write_text("no image")
    (digits / "images" / "Digit_1" / ".DS_Store").write_text("hidden")
    (digits / "images" / "stray.png").touch()
    (digits / "images" / "Digit_0" / "again.png").write_bytes((digits / "images" / "Digit_0" / "000.png").read_bytes())

    found = classification(digits)

    reasons = {Path(each.path).name: each.reason for each in found.skipped}
    assert found.problems == []
    assert len(found.images) == 72
    assert {name: word for name, word in expected.items() if word not in reasons[name]} == {}
    assert "not an image file" in reasons["notes.txt"]
    assert "outside any class folder" in reasons["stray.png"]
    assert "same image as images/Digit_0/000.png" in reasons["000.png" if "000.png" in reasons else "again.png"]
    assert ".DS_Store" not in reasons


def test_too_many_bad_images_are_a_problem(tmp_path: Path) -> None:
    project = digit_project(tmp_path / "p", classes=2, per_class=8)
    for number in range(5):
        (project / "images" / "Digit_0" / f"bad{number}.png").touch()
    told = only(classification(project).problems, "5 of 21 images")
    assert "5 empty" in told


def test_grey_colour_palette_and_transparent_images_are_good(tmp_path: Path) -> None:
    for name, mode in {"a": "L", "b": "RGB", "c": "P", "d": "RGBA", "e": "1", "f": "LA"}.items():
        for label in ("one", "two"):
            (tmp_path / "images" / label).mkdir(parents=True, exist_ok=True)
            noise(ord(name) + len(label) * (label == "two")).convert(mode).save(
                tmp_path / "images" / label / f"{name}.png"
            )
    for suffix in ("jpg", "gif", "bmp", "webp"):
        noise(len(suffix) + ord(suffix[0])).save(tmp_path / "images" / "one" / f"x.{suffix}")
    found = classification(tmp_path)
    assert (found.problems, found.skipped, len(found.images)) == ([], [], 16)


@pytest.mark.parametrize("mode", ["P", "1", "RGB", "RGBA", "L"])
def test_a_bmp_of_every_mode_is_good(tmp_path: Path, mode: str) -> None:
    noise(1).convert(mode).save(tmp_path / "plain.bmp")
    assert images.inspect(tmp_path / "plain.bmp").width == 16


# --- segmentation


def test_masks_that_fit_are_found_with_their_values(tmp_path: Path) -> None:
    found = segmentation(mask_project(tmp_path / "p"))
    assert (found.problems, found.labels, found.numbers) == ([], ["background", "value 255"], [0, 255])
    assert found.images[3].mask == "labels/003.png"


def test_every_problem_of_a_segmentation_is_reported_at_once(tmp_path: Path) -> None:
    project = mask_project(tmp_path / "p")
    labels_folder = project / "labels"
    (labels_folder / "000.png").unlink()
    Image.new("L", (9, 9)).save(labels_folder / "lonely.png")
    Image.new("L", (9, 9)).save(labels_folder / "001.png")
    noise(1, (32, 40)).save(labels_folder / "002.png")
    (labels_folder / "003.png").write_bytes(b"")
    Image.fromarray(np.full((32, 40), 1000, np.uint16)).save(labels_folder / "004.png")
    Image.fromarray(np.arange(32 * 40).reshape(32, 40).astype(np.uint8)).save(labels_folder / "005.png")

    problems = segmentation(project).problems

    only(problems, "No mask with the same name", str(project / "images" / "000.png"))
    only(problems, "No image with the same name", "lonely.png")
    only(problems, "another size", "001.png", "9x9", "40x32")
    told = only(problems, "can't be used", "002.png", "colours")
    assert "003.png" in told
    assert "values from 1000" in told
    only(problems, "256 different values")


def test_masks_with_nothing_but_background_are_a_problem(tmp_path: Path) -> None:
    project = mask_project(tmp_path / "p")
    for mask in (project / "labels").iterdir():
        Image.new("L", (40, 32)).save(mask)
    only(segmentation(project).problems, "background only (0)")


def test_labels_info_names_the_values_of_masks(tmp_path: Path) -> None:
    project = mask_project(tmp_path / "p")
    info = project / "labels_info.txt"
    info.write_text("label,number\nBox,255\n")
    assert segmentation(project).labels == ["background", "box"]
    info.write_text("label,number\nbox,7\n")
    problems = segmentation(project).problems
    only(problems, "assigns 7 to 'box'")
    only(problems, "no name for the mask value 255")


def test_the_values_of_a_mask_are_its_levels_or_the_numbers_of_its_palette(tmp_path: Path) -> None:
    values = np.array([[0, 1], [2, 1]], np.uint8)
    coloured = Image.fromarray(values).convert("P")
    coloured.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    coloured.save(tmp_path / "voc.png")
    assert masks.read(tmp_path / "voc.png").tolist() == values.tolist()
    Image.fromarray(values * 100).save(tmp_path / "grey.png")
    assert masks.read(tmp_path / "grey.png").tolist() == (values * 100).tolist()
    Image.fromarray(values > 1).save(tmp_path / "bits.png")
    assert masks.read(tmp_path / "bits.png").tolist() == [[0, 0], [255, 0]]
    with pytest.raises(Bad, match="can't be read"):
        masks.read(tmp_path / "gone.png")


# --- in a worker


def test_a_worker_examines_without_tensorflow_and_writes_the_findings(
    digits: Path, start_trainer: StartTrainer
) -> None:
    trainer = start_trainer()
    examined = trainer.examine(digits)
    assert isinstance(examined, ProjectExamined)
    assert (examined.problems, examined.image_count, examined.classes) == ([], 72, ["digit 0", "digit 1", "digit 2"])
    assert "tensorflow" not in Path(f"/proc/{trainer.process.pid}/maps").read_text()
    found = dataset_index.read(digits.parent / "findings.json")
    assert len(found.images) == 72
    assert trainer.stop() == 0


def test_a_worker_refuses_wrong_parameters_with_all_of_them(digits: Path, start_trainer: StartTrainer) -> None:
    refused = start_trainer().examine(digits, epoch=3, seed=-1)
    assert isinstance(refused, Failed)
    assert "did you mean 'epochs'" in refused.failure.message
    assert "seed" in refused.failure.message


def test_findings_that_are_gone_are_reported(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="Check the project again"):
        dataset_index.read(tmp_path / "gone.json")


def test_images_without_a_telling_suffix_are_found_by_content(digits: Path) -> None:
    folder = digits / "images" / "Digit_1"
    for number, name in enumerate(("no_suffix", "photo.jpg_large", "photo.JPG", "download.tmp", "wrong.png")):
        noise(50 + number).save(folder / name, "JPEG")
    (folder / "README").write_text("no image")
    (folder / "raw.dng").write_bytes(b"II*\0" + bytes(100))
    os.mkfifo(folder / "pipe")
    found = examine(str(digits), "classification", {})
    paths = {image.path for image in found.images}
    for name in ("no_suffix", "photo.jpg_large", "photo.JPG", "download.tmp", "wrong.png"):
        assert f"images/Digit_1/{name}" in paths
    skipped = {each.path: each.reason for each in found.skipped}
    for name in ("README", "raw.dng", "pipe"):
        assert "not an image file" in skipped[f"images/Digit_1/{name}"]


def test_a_mask_of_another_format_is_refused_by_name(tmp_path: Path) -> None:
    for name, content, words in (
        ("a.png", b"P5\n2 2\n255\n\0\0\0\0", "got a file that is not an image"),
        ("b.png", b"%!PS-Adobe-3.0 EPSF-3.0\n", "got a file that is not an image"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(masks.Bad, match=words):
            masks.inspect(tmp_path / name)
    Image.new("L", (4, 4), 255).save(tmp_path / "c.png", "BMP")
    assert masks.inspect(tmp_path / "c.png").values == [255]


def test_reasons_for_skipped_files_are_counted_without_what_differs_from_file_to_file() -> None:
    copies = [dataset_index.Skipped(f"b/{number}.png", f"the same image as a/{number}.png") for number in range(40)]
    others = [dataset_index.Skipped(f"c/{number}.png", f"reason {number % 20}: {number}") for number in range(20)]
    text = dataset_index.reasons(copies + others)
    assert text.startswith("40 the same image as another, 1 reason 0, ")
    assert text.endswith(", 11 for other reasons")
    assert dataset_index.reasons([]) == ""
