"""Images that come back with their correct labels, and the next examination of their project."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from layout_projects import class_folders, counts, good, pictures
from projects import noise

from tfserve.errors import Invalid, Unsupported
from tfserve.training.dataset import feedback
from tfserve.training.dataset.dataset_index import Findings
from tfserve.training.dataset.project_folders import results_folder

HOME = "models/feedback"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    class_folders(tmp_path / "p" / "images", ("Größe", "Dog"))
    return tmp_path / "p"


def new_image(folder: Path, seed: int = 7) -> bytes:
    noise(seed).save(folder / "new.png")
    return (folder / "new.png").read_bytes()


def test_the_next_examination_has_the_image_in_its_class(project: Path, tmp_path: Path) -> None:
    kept = feedback.keep(project, good(project), "dog", new_image(tmp_path))
    assert (kept.label, kept.images, Path(kept.file).parent.as_posix()) == ("dog", 1, f"{HOME}/dog")
    found = good(project)
    assert counts(found) == {"Dog": 4, "Größe": 3}
    assert "1 images from feedback" in " ".join(found.remarks)


@pytest.mark.parametrize("label", ["gr e", "Größe", "Gro\u0308ße"])
def test_a_label_or_its_display_name_in_any_unicode_form_is_understood(
    project: Path, tmp_path: Path, label: str
) -> None:
    assert feedback.keep(project, good(project), label, new_image(tmp_path)).label == "gr e"


def test_feedback_about_an_image_of_the_project_corrects_its_label(project: Path) -> None:
    wrong = next((project / "images" / "Dog").iterdir())
    feedback.keep(project, good(project), "Größe", wrong.read_bytes())
    found = good(project)
    assert counts(found) == {"Dog": 2, "Größe": 4}
    (skipped,) = found.skipped
    assert skipped.path == f"images/Dog/{wrong.name}"
    assert "corrected by feedback" in skipped.reason


def test_the_newest_label_of_an_image_counts(project: Path, tmp_path: Path) -> None:
    image, found = new_image(tmp_path), good(project)
    for label in ("dog", "gr e", "gr e"):
        kept = feedback.keep(project, found, label, image)
    assert (kept.label, kept.images) == ("gr e", 1)
    assert counts(good(project)) == {"Dog": 3, "Größe": 4}


def test_feedback_joins_the_training_part_of_the_users_own_split(tmp_path: Path) -> None:
    for part in ("train", "test"):
        class_folders(tmp_path / "p" / part, ("Cat", "Dog"))
    feedback.keep(tmp_path / "p", good(tmp_path / "p"), "cat", new_image(tmp_path))
    image = next(each for each in good(tmp_path / "p").images if each.path.startswith(HOME))
    assert image.part == "train"


def test_feedback_for_a_class_that_has_gone_is_left_out_and_listed(project: Path, tmp_path: Path) -> None:
    found = good(project)
    feedback.keep(project, found, "dog", new_image(tmp_path))
    (project / "images" / "Dog").rename(project / "images" / "Cat")
    found = good(project)
    assert counts(found) == {"Cat": 3, "Größe": 3}
    assert "no longer has" in found.skipped[0].reason


@pytest.mark.parametrize("label", ["cat", "", "../dog", "Dög"])
def test_an_unknown_label_is_refused_with_those_that_there_are(project: Path, tmp_path: Path, label: str) -> None:
    with pytest.raises(Invalid, match="expected one of dog, gr e"):
        feedback.keep(project, good(project), label, new_image(tmp_path))
    assert not (project / HOME).exists()


@pytest.mark.parametrize("data", [b"", b"no image", b"%PDF-1.7"])
def test_what_is_no_image_is_refused(project: Path, data: bytes) -> None:
    with pytest.raises(Invalid, match="an image file"):
        feedback.keep(project, good(project), "dog", data)


def test_masks_have_no_feedback(project: Path) -> None:
    found = Findings(
        train_type="segmentation", project_dir=str(project), labels=["a"], numbers=[0], images=[], skipped=[],
        problems=[],
    )  # fmt: skip
    with pytest.raises(Unsupported, match="not available for a segmentation"):
        feedback.keep(project, found, "a", b"\x89PNG")


def test_a_damaged_image_of_feedback_is_left_out(project: Path) -> None:
    pictures(project / "images" / "Dog", 12)
    feedback.keep(project, good(project), "dog", b"\x89PNG and then garbage")
    assert counts(good(project))["Dog"] == 12


def test_feedback_corrects_the_label_of_an_image_in_an_archive(project: Path) -> None:
    wrong = next((project / "images" / "Dog").iterdir())
    archive = Path(shutil.make_archive(str(project.parent / "flowers"), "zip", project))
    found = good(archive)
    feedback.keep(results_folder(archive), found, "Größe", wrong.read_bytes())
    found = good(archive)
    assert counts(found) == {"Dog": 2, "Größe": 4}
    assert "corrected by feedback" in found.skipped[0].reason
