"""Trainings that are cancelled, killed, or that run into trouble; and that go on afterwards."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from projects import digit_project, mask_project
from trainer import StartTrainer, Trainer, error_of

from tests.box_project import box_project
from tfserve.ipc.messages import Interrupt, JobState, ProjectExamined, TrainingEnded

QUICK = {"exports": "saved_model", "seed": 2, "backbone": "compact", "effort": "fast"}


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainer]:
    """One for all tests that it survives."""
    started = Trainer(tmp_path_factory.mktemp("trainer"))
    yield started
    started.end()


@pytest.fixture(autouse=True)
def told_anew(trainer: Trainer) -> None:
    trainer.told.clear()


@pytest.mark.slow
def test_kill_9_in_an_epoch_and_the_next_attempt_continues_from_the_checkpoint(
    digits: Path, start_trainer: StartTrainer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary files of the machine"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    first = start_trainer()
    assert isinstance(first.examine(digits, epochs=8, **QUICK), ProjectExamined)
    first.start_training(digits, epochs=8, **QUICK)
    reached = first.wait_until_told(lambda told: "epoch 4 of 8" in told.message)
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()
    assert list((digits.parent / "work" / "temporary").iterdir()), "TensorFlow's own, for one"
    (digits / "models" / ".t1.writing" / "half").write_text("left behind")

    second = start_trainer()
    ended = second.wait(second.start_training(digits, epochs=8, **QUICK), TrainingEnded)

    assert ended.state is JobState.SUCCEEDED
    assert second.epochs_told()[0] >= 4
    epochs = list(range(1, 9))
    assert first.epochs_told() + second.epochs_told() == [*epochs, *epochs], "on a fold, then on all images"
    assert second.told[0].progress >= first.told[-1].progress - 10  # within the epoch that was cut short
    assert reached.progress <= second.told[-1].progress
    assert any(re.search("Continues after epoch [34] of 8", each.message) for each in second.told)
    assert not (digits / "models" / "t1" / "half").exists()
    assert not list((digits.parent / "work").rglob("temporary/*"))
    assert not list(temporary.iterdir())
    assert ended.metrics is not None
    assert ended.metrics["epochs"] == 8

    # And once more, as if the end had not been heard: nothing is trained again.
    seen = len(second.told)
    again = second.wait(second.start_training(digits, epochs=8, **QUICK), TrainingEnded)
    assert (again.state, again.model_path, again.metrics) == (JobState.SUCCEEDED, ended.model_path, ended.metrics)
    assert len(second.told) == seen


@pytest.mark.slow
def test_cancel_ends_within_seconds_keeps_the_best_and_a_damaged_checkpoint_is_passed_over(
    digits: Path, trainer: Trainer
) -> None:
    trainer.examine(digits, epochs=300, patience=300, **QUICK)
    question = trainer.start_training(digits, epochs=300, patience=300, **QUICK)
    trainer.wait_until_told(lambda told: "epoch 4 of 300" in told.message)
    began = time.monotonic()
    trainer.send(Interrupt(job=1, workspace=""), request_id=0)
    ended = trainer.wait(question, TrainingEnded)

    assert time.monotonic() - began < 3
    assert ended.state is JobState.CANCELLED
    assert error_of(ended)["code"] == "cancelled"
    work = digits.parent / "work"
    assert list(work.rglob("best-*.npz"))
    assert not list((digits / "models").iterdir())

    newest = max(work.rglob("checkpoint-*.npz"))
    newest.write_bytes(newest.read_bytes()[:1000])
    question = trainer.start_training(digits, epochs=300, patience=300, **QUICK)
    told = trainer.wait_until_told(lambda told: "is damaged" in told.message)
    assert newest.name in told.message
    assert "Continues after epoch" in told.message
    trainer.send(Interrupt(job=1, workspace=""), request_id=0)
    assert trainer.wait(question, TrainingEnded).state is JobState.CANCELLED


def test_an_interrupt_before_the_training_has_begun_cancels_it(digits: Path, start_trainer: StartTrainer) -> None:
    trainer = start_trainer()
    trainer.examine(digits, **QUICK)
    question = trainer.start_training(digits, **QUICK)
    trainer.wait_until_told(lambda told: "TensorFlow" in told.message)
    trainer.send(Interrupt(job=1, workspace=""), request_id=0)
    assert trainer.wait(question, TrainingEnded).state is JobState.CANCELLED


@pytest.mark.slow
def test_a_full_disk_is_reported_and_the_training_can_be_resumed(digits: Path, trainer: Trainer) -> None:
    trainer.examine(digits, epochs=4, **QUICK)
    # The limit is met by the first checkpoint, as a full disk would be.
    psutil.Process(trainer.process.pid).rlimit(psutil.RLIMIT_FSIZE, (50_000, psutil.RLIM_INFINITY))
    ended = trainer.wait(trainer.start_training(digits, epochs=4, **QUICK), TrainingEnded)
    assert ended.state is JobState.FAILED
    told = error_of(ended)
    assert told["code"] == "out_of_space"
    assert "resume" in told["message"]
    assert not list((digits / "models").iterdir())

    psutil.Process(trainer.process.pid).rlimit(psutil.RLIMIT_FSIZE, (psutil.RLIM_INFINITY, psutil.RLIM_INFINITY))
    ended = trainer.wait(trainer.start_training(digits, epochs=4, **QUICK), TrainingEnded)
    assert ended.state is JobState.SUCCEEDED


@pytest.mark.slow
def test_a_loss_that_becomes_nan_ends_the_run_with_the_cause_and_keeps_the_best(digits: Path, trainer: Trainer) -> None:
    trainer.examine(digits, epochs=300, patience=300, **QUICK)
    question = trainer.start_training(digits, epochs=300, patience=300, **QUICK)
    trainer.wait_until_told(lambda told: "epoch 2 of 300: acc" in told.message)
    trainer.send(Interrupt(job=1, workspace=""), request_id=0)
    trainer.wait(question, TrainingEnded)
    work = digits.parent / "work"
    for file in work.rglob("checkpoint-*.npz"):  # a number that got lost, as after an overflow
        with np.load(file) as content:
            arrays = {name: content[name] for name in content.files}
        arrays["model_0"] = np.full_like(arrays["model_0"], np.nan)
        np.savez(file, **arrays)
    before = {each.name for each in work.rglob("*.npz")}

    ended = trainer.wait(trainer.start_training(digits, epochs=300, patience=300, **QUICK), TrainingEnded)

    assert ended.state is JobState.FAILED
    told = error_of(ended)
    assert told["code"] == "invalid"
    assert re.search(r"The loss became nan in epoch \d+ of 300.*is kept.*learning_rate", told["message"])
    assert {each.name for each in work.rglob("*.npz")} == before, (
        "the best checkpoint is kept, and no worse one is made"
    )
    assert not list((digits / "models").iterdir())


def test_an_image_that_has_gone_since_the_examination_is_reported(digits: Path, trainer: Trainer) -> None:
    trainer.examine(digits, **QUICK)
    (digits / "images" / "Digit_1" / "003.png").unlink()
    ended = trainer.wait(trainer.start_training(digits, **QUICK), TrainingEnded)
    assert ended.state is JobState.FAILED
    assert "Digit_1/003.png" in error_of(ended)["message"]


QUICK_OF = {
    "classification": {"exports": "saved_model", "effort": "fast"},
    "segmentation": {"exports": "saved_model", "epochs": 2, "backbone": "unet", "effort": "fast"},
    "detection": {"exports": "saved_model", "epochs": 1, "image_size": 64, "mosaic": False},
}


def project_of(kind: str, folder: Path) -> Path:
    if kind == "detection":
        return box_project(folder)
    return mask_project(folder) if kind == "segmentation" else digit_project(folder, classes=2, per_class=12)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "kind", ["classification", *(pytest.param(kind, marks=pytest.mark.long) for kind in ("segmentation", "detection"))]
)
def test_what_is_deleted_after_it_was_read_and_plots_that_fail_cost_no_model(
    kind: str, tmp_path: Path, start_trainer: StartTrainer
) -> None:
    project, trainer = project_of(kind, tmp_path / "project"), start_trainer()
    assert isinstance(trainer.examine(project, kind, **QUICK_OF[kind]), ProjectExamined)
    question = trainer.start_training(project, kind, **QUICK_OF[kind])
    trainer.wait_until_told(lambda told: "Exporting the" in told.message or "epoch" in told.message)
    for folder in (each for each in project.iterdir() if each.is_dir() and each.name != "models"):
        for number, file in enumerate(sorted(path for path in folder.rglob("*") if path.is_file())):
            if number % 2:
                file.unlink()
            else:
                file.write_bytes(b"changed")
    (project / "models" / ".t1.writing" / "plots").touch()  # where there has to be a folder, so that no plot is drawn
    ended = trainer.wait(question, TrainingEnded)
    assert ended.state is JobState.SUCCEEDED, trainer.stderr()
    result = project / "models" / "t1"
    assert (result / "saved_model" / "saved_model.pb").is_file()
    metrics = json.loads((result / "metrics.json").read_text())
    assert [each["name"] for each in metrics["exports"] if each.get("agrees")] == [
        "SavedModel", "SavedModel from files", "Keras",
    ]  # fmt: skip
    notes = "\n".join(metrics["notes"])
    assert "was deleted or changed after it was read" in notes
    assert "could not be made" in notes


def test_weights_that_are_not_here_are_reported_at_once(digits: Path, trainer: Trainer) -> None:
    trainer.examine(digits)
    ended = trainer.wait(trainer.start_training(digits, weights="/nowhere.h5"), TrainingEnded)
    assert error_of(ended)["code"] == "invalid"
    assert error_of(ended)["message"] == "weights: /nowhere.h5 does not exist."
