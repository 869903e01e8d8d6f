"""Project folders with links, names and files that are meant to lead somewhere else, or to end the examination."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec
import pytest
from PIL import Image
from projects import digit_project, mask_project, noise
from test_examination import only
from trainer import StartTrainer

from tfserve.ipc.messages import ProjectExamined
from tfserve.training import masks
from tfserve.training.examine import examine
from tfserve.training.findings import Findings
from tfserve.training.images import Bad

NOT_UTF8 = os.fsdecode(b"caf\xe9")


def examined(project: Path, kind: str = "classification") -> Findings:
    """What is found when only the folder that the project is in may be used; it can be told in JSON."""
    found = examine(str(project), kind, {}, [str(project.parent.resolve())])
    assert msgspec.json.encode(found)
    return found


def reasons(found: Findings) -> dict[str, str]:
    return {each.path: each.reason for each in found.skipped}


# --- links


@pytest.fixture
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return digit_project(tmp_path_factory.mktemp("outside"), classes=2, per_class=3)


@pytest.mark.parametrize("name", ["images", "models", "labels_info.txt", "labels"])
def test_a_link_out_of_the_allowed_folders_is_a_problem_with_its_path(digits: Path, outside: Path, name: str) -> None:
    (outside / "labels_info.txt").write_text("label,number\nsecret,1\n")
    target = outside if name == "models" else outside / name
    if name == "images":
        (digits / "images").rename(digits / "own")
    (digits / name).symlink_to(target)
    problems = examined(digits).problems
    only(problems, str(digits / name), "leads to", str(target))
    assert "secret" not in str(problems)
    assert not (outside / "latest").exists()


def test_links_to_classes_and_images_outside_are_not_followed(digits: Path, outside: Path) -> None:
    (digits / "images" / "other").symlink_to(outside / "images" / "Digit_0")
    (digits / "images" / "Digit_1" / "x.png").symlink_to(outside / "images" / "Digit_0" / "000.png")
    found = examined(digits)
    only(found.problems, str(digits / "images" / "other"), "leads to")
    assert "leads outside" in reasons(found)["images/Digit_1/x.png"]


def test_links_that_stay_inside_are_followed(digits: Path) -> None:
    (digits / "images").rename(digits.parent / "pictures")
    (digits / "images").symlink_to(digits.parent / "pictures")
    assert examined(digits).problems == []


def test_links_that_lead_to_themselves_are_skipped(digits: Path) -> None:
    for place in ("Digit_1/loop.png", "loop"):
        (digits / "images" / place).symlink_to(digits / "images" / place)
    found = examined(digits)
    assert found.problems == []
    assert "can't be read" in reasons(found)["images/Digit_1/loop.png"]
    assert "outside of any class folder" in reasons(found)["images/loop"]


def test_what_only_looks_like_a_file_is_skipped(digits: Path) -> None:
    os.mkfifo(digits / "images" / "Digit_1" / "pipe.png")
    assert "not a regular file" in reasons(examined(digits))["images/Digit_1/pipe.png"]
    os.mkfifo(digits / "labels_info.txt")
    only(examined(digits).problems, "labels_info.txt", "no file")


# --- names


def test_names_that_are_not_utf8_are_told_in_a_readable_way(digits: Path) -> None:
    noise(1).save(digits / "images" / "Digit_1" / f"{NOT_UTF8}.png")
    (digits / "images" / NOT_UTF8).mkdir()
    found = examined(digits)
    assert "not UTF-8" in reasons(found)[r"images/Digit_1/caf\xe9.png"]
    only(found.problems, r"images/caf\xe9", "not UTF-8")


def test_a_worker_survives_them(digits: Path, start_trainer: StartTrainer) -> None:
    noise(1).save(digits / "images" / "Digit_1" / f"{NOT_UTF8}.png")
    (digits / "images" / "Digit_1" / "loop.png").symlink_to("loop.png")
    (digits / "labels_info.txt").write_text("label,number\ndigit 0," + "9" * 5000 + "\n")
    answer = start_trainer().examine(digits)
    assert isinstance(answer, ProjectExamined), answer
    assert answer.skipped_count == 2
    assert not (digits.parent / "findings.json").exists(), "there is nothing to go on from"


# --- labels_info.txt


def test_a_number_of_5000_digits_is_a_problem_of_its_line(digits: Path) -> None:
    (digits / "labels_info.txt").write_text("label,number\ndigit 0," + "9" * 5000 + "\n")
    told = only(examined(digits).problems, "line 2", "expected label,number")
    assert len(told) < 500


def test_a_missing_header_line_is_told_and_no_label_is_lost_silently(digits: Path) -> None:
    (digits / "labels_info.txt").write_text("digit 0,0\ndigit 1,1\ndigit 2,2\n")
    only(examined(digits).problems, "line 1", "a header line was expected", "'digit 0,0'")


def test_a_label_that_ends_in_a_blank_can_be_named_as_it_is_advised(digits: Path) -> None:
    (digits / "images" / "Digit_1").rename(digits / "images" / "Digit_1_")
    info = digits / "labels_info.txt"
    info.write_text("label,number\ndigit 0 ,0\n digit 2, 2\n")
    told = only(examined(digits).problems, "gives no number to 'digit 1 '")
    advised = told.partition("Add a line '")[2].partition("<number>")[0]
    info.write_text(info.read_text() + f"{advised}1\n")
    found = examined(digits)
    assert (found.problems, found.labels) == ([], ["digit 0", "digit 1 ", "digit 2"])


# --- files


def test_the_sentence_about_bad_images_counts_only_them(tmp_path: Path) -> None:
    project = digit_project(tmp_path / "p", classes=2, per_class=8)
    twin = project / "images" / "Digit_0" / "000.png"
    for number in range(6):
        (project / "images" / "Digit_0" / f"bad{number}.png").touch()
        shutil.copy(twin, project / "images" / "Digit_0" / f"twin{number}.png")
        (project / "images" / f"stray{number}.txt").touch()
    told = only(examined(project).problems, "can't be used")
    assert "6 of 22 images" in told
    assert "(6 empty)" in told


def test_an_animated_mask_is_refused(tmp_path: Path) -> None:
    frames = [Image.new("L", (8, 8), value) for value in (1, 2)]
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(Bad, match="animated: 2 pictures"):
        masks.read(tmp_path / "film.gif")
    project = mask_project(tmp_path / "p")
    (project / "labels" / "001.png").unlink()
    shutil.copy(tmp_path / "film.gif", project / "labels" / "001.gif")
    only(examined(project, "segmentation").problems, "001.gif", "animated")
