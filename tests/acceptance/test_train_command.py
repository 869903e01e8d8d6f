"""`tfserve train` as a person sees it in a terminal."""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import REPOSITORY
from tests.acceptance.training_calls import digit_project
from tfserve.commands.kept_training import KeptTraining

QUICK = ("--set", "exports=saved_model", "--set", "backbone=compact", "--set", "effort=fast")
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A command in a terminal of its own."""

    def __init__(self, *words: str) -> None:
        self.shown = ""
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tfserve.cli", *words], cwd=REPOSITORY, stdin=theirs, stdout=theirs, stderr=theirs,
            env={**os.environ, "COLUMNS": "200", "TERM": "xterm"},
        )  # fmt: skip
        os.close(theirs)

    def read_until(self, text: str) -> None:
        """Returns when the terminal has shown the text."""
        while text not in self.shown:
            assert self._read(), f"{text!r} was never shown:\n{self.shown}"

    def end(self) -> int:
        """The exit code, when everything that is to be shown was read."""
        while self._read():
            pass
        return self.process.wait(30)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._ours)

    def _read(self) -> bool:
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # how Linux says that nobody has the other end any more
            return False
        self.shown += ESCAPES.sub("", data.decode(errors="replace"))
        return bool(data)


@pytest.fixture
def terminal() -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def open_one(*words: str) -> Terminal:
        opened.append(Terminal(*words))
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return digit_project(tmp_path / "project", per_class=12)


@pytest.mark.slow
def test_progress_the_result_and_the_paths_are_shown(terminal: Callable[..., Terminal], project: Path) -> None:
    (project / "images" / "Digit_3" / "broken.png").write_text("no picture")
    shown = terminal("train", str(project), "--type", "Classification", "--set", "epochs=3", *QUICK)
    assert shown.end() == 0, shown.shown
    assert "left out" in shown.shown
    assert "broken.png" in shown.shown
    assert "120 images, 10 classes" in shown.shown
    assert re.search(r"epoch [123] of 3: .*loss", shown.shown), "the progress bar says what it is doing"
    assert "100%" in shown.shown
    assert re.search(r"accuracy\W+[01]\.\d", shown.shown)
    (result,) = (project / "models").glob("[!l]*")
    for name in ("saved_model", "labels.txt", "metrics.json", "README.md"):
        assert f"{result / name}" in shown.shown
        assert (result / name).exists()
    assert (project / "models" / "latest").resolve() == result


@pytest.mark.slow
def test_control_c_cancels_and_the_training_goes_on_from_the_checkpoint_that_is_kept(
    terminal: Callable[..., Terminal], project: Path
) -> None:
    shown = terminal("train", str(project), "--set", "epochs=5", *QUICK)
    shown.read_until("epoch 2 of 5: acc")
    shown.process.send_signal(signal.SIGINT)
    assert shown.end() == 130
    assert "cancelled" in shown.shown
    assert "Traceback" not in shown.shown
    (work,) = (project / "models").iterdir()
    task = work.name[1:].partition(".")[0]
    assert str(work) in shown.shown
    assert list(work.rglob("best-*.npz"))
    assert f"tfserve train {project} --resume {task}" in shown.shown

    again = terminal("train", str(project), "--resume", task)
    assert again.end() == 0, again.shown
    assert "Goes on after epoch" in again.shown
    assert (project / "models" / "latest").resolve() == project / "models" / task
    assert not work.exists()


def test_what_a_killed_training_has_left_is_told_and_its_half_result_removed(
    terminal: Callable[..., Terminal], project: Path
) -> None:
    killed, running = KeptTraining(project, "k1"), KeptTraining(project, "r1")
    for each in (killed, running):
        (each.folder.parent / f".{each.task_id}.writing").mkdir(parents=True)
        each.folder.mkdir()
        (each.folder / "checkpoint-000007.npz").touch()
    shutil.rmtree(project / "images")  # so that this one ends at once
    with running.held():
        shown = terminal("train", str(project))
        assert shown.end() == 1
    assert "--resume k1" in shown.shown
    assert "7 epochs" in shown.shown
    assert "r1" not in shown.shown
    assert {each.name for each in (project / "models").iterdir()} == {".k1.work", ".r1.work", ".r1.writing"}


def test_a_training_that_is_not_kept_is_told(terminal: Callable[..., Terminal], project: Path) -> None:
    shown = terminal("train", str(project), "--resume", "nobody")
    assert shown.end() == 1
    assert "No training 'nobody' is kept" in shown.shown


def test_a_folder_that_can_not_be_trained_on_is_told_with_every_problem(
    terminal: Callable[..., Terminal], project: Path
) -> None:
    for picture in (project / "images" / "Digit_1").iterdir():
        picture.unlink()
    for picture in list((project / "images" / "Digit_2").iterdir())[1:]:
        picture.unlink()
    shown = terminal("train", str(project))
    assert shown.end() == 1
    told = " ".join(shown.shown.split())
    assert "no good image" in told
    assert "only 1 good image" in told
    assert not (project / "models").exists()


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--type", "regression"], 1, "classification or segmentation or detection"),
        (["--set", "epoch=3"], 1, "epochs"),
        (["--set", "epochs"], 2, "name=value"),
    ],
)
def test_wrong_words_are_told(
    terminal: Callable[..., Terminal], project: Path, words: list[str], code: int, told: str
) -> None:
    shown = terminal("train", str(project), *words)
    assert shown.end() == code
    assert told in shown.shown


def test_a_folder_that_is_not_there_is_told(terminal: Callable[..., Terminal], tmp_path: Path) -> None:
    shown = terminal("train", str(tmp_path / "nowhere"))
    assert shown.end() == 2
    assert "does not exist" in shown.shown
