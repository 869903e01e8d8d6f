"""What a run does when files go after they were read, and when the disk is full at its end."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from projects import digit_project

from tfserve.training import atomic_files
from tfserve.training.dataset import image_reading
from tfserve.training.dataset.examine import examine
from tfserve.training.fit.timing import Clock
from tfserve.training.progress import Reporter
from tfserve.training.recipes.run import RecipeRun
from tfserve.training.report import report


@pytest.fixture
def run(tmp_path: Path) -> RecipeRun:
    project = digit_project(tmp_path / "project", classes=2, per_class=4)
    found = examine(str(project), "classification", {"threads": 2})
    reporter = Reporter(1, lambda _: None)
    aside = tmp_path / "aside"
    aside.mkdir()
    return RecipeRun(
        "t1",
        project,
        found,
        {"background": "white"},
        tmp_path,
        aside,
        tmp_path / "result",
        reporter,
        Clock(reporter),
        "",
    )


def keep(run: RecipeRun, size: tuple[int, int]) -> None:
    """As a recipe does: reads all images."""
    kept = np.stack([run.pixels(index, size) for index in range(len(run.findings.images))])
    run.keep(lambda indices: kept[indices])


def test_a_deleted_or_changed_image_is_replaced_by_what_was_read(run: RecipeRun) -> None:
    keep(run, (16, 16))
    before = [run.pixels(index) for index in range(3)]
    run.file(0).unlink()
    Image.new("RGB", (16, 16), "red").save(run.file(1))
    run.file(2).write_bytes(b"")
    assert all((run.pixels(index) == before[index]).all() for index in range(3))
    assert image_reading.decoded(run.data(0), (255, 255, 255)).shape == (16, 16, 3)
    assert len([note for note in run.notes if "was deleted or changed after it was read" in note]) == 3, "each once"


def test_what_was_read_smaller_is_given_in_the_size_of_the_image(run: RecipeRun) -> None:
    keep(run, (8, 8))
    run.file(0).unlink()
    assert run.pixels(0).shape == (16, 16, 3)
    assert run.pixels(0, (4, 6)).shape == (4, 6, 3)


def test_before_anything_was_read_the_missing_file_is_named(run: RecipeRun) -> None:
    run.file(0).unlink()
    with pytest.raises(OSError, match=r"Digit_0/000\.png was deleted or changed"):
        run.pixels(0)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True
    ).returncode:
        pytest.skip("only root can mount a disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_metrics_take_the_space_of_what_is_less_important(run: RecipeRun, small_disk: Path) -> None:
    run.aside = small_disk
    (small_disk / "plots").mkdir()
    with pytest.raises(OSError), (small_disk / "plots" / "large.png").open("wb") as plot:
        plot.write(bytes(2**20))
    report._write(run, "metrics.json", lambda: "[" + "1," * 50_000 + "1]")
    assert (small_disk / "metrics.json").stat().st_size == 100_003
    assert not (small_disk / "plots").exists()
    assert run.notes == ["plots/ was removed because the disk is full."]


def test_an_error_that_is_no_full_disk_removes_nothing(run: RecipeRun) -> None:
    (run.aside / "plots").mkdir()
    (run.aside / "metrics.json").mkdir()
    with pytest.raises(OSError) as raised:
        report._write(run, "metrics.json", lambda: "{}")
    assert raised.value.errno != errno.ENOSPC
    assert (run.aside / "plots").exists()


def test_a_result_is_published_even_if_latest_can_not_be_changed(tmp_path: Path) -> None:
    aside = tmp_path / "models" / ".t1.writing"
    aside.mkdir(parents=True)
    (aside / "metrics.json").write_text("{}")
    (tmp_path / "models" / f".latest.{'t1'}").mkdir()  # where the new link would be made
    atomic_files.publish(aside, tmp_path / "models" / "t1")
    assert (tmp_path / "models" / "t1" / "metrics.json").is_file()
