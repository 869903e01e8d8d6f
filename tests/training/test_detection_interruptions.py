"""Trainings of a detector that are killed or cancelled, in both of their phases, and that go on afterwards."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path

import pytest
from trainer import StartTrainer, error_of

from tests.box_project import box_project
from tfserve.ipc.messages import Interrupt, JobState, ProjectExamined, TrainingEnded

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1200)]

QUICK = {"exports": "saved_model", "epochs": 10, "batch_size": 8, "mosaic": False}
ALL = "learning from all images: "


def test_kill_9_in_either_phase_and_the_next_attempt_goes_on_from_the_checkpoint(
    tmp_path: Path, start_trainer: StartTrainer
) -> None:
    project = box_project(tmp_path / "project")
    first = start_trainer()
    assert isinstance(first.examine(project, "detection", **QUICK), ProjectExamined)
    first.start_training(project, "detection", **QUICK)
    first.wait_until_told(lambda told: told.message.startswith("epoch 4 of 10"))
    first.process.send_signal(signal.SIGKILL)
    first.process.wait()

    second = start_trainer()
    second.start_training(project, "detection", **QUICK)
    second.wait_until_told(lambda told: told.message.startswith(f"{ALL}epoch 2 of 2"))
    second.process.send_signal(signal.SIGKILL)
    second.process.wait()
    assert any(re.search("Goes on after epoch [34] of 10", each.message) for each in second.told)

    third = start_trainer()
    ended = third.wait(third.start_training(project, "detection", **QUICK), TrainingEnded)
    assert ended.state is JobState.SUCCEEDED, third.stdout() + third.stderr()
    assert any(f"{ALL}Goes on after epoch 1 of 2" in each.message for each in third.told)
    epochs = first.epochs_told() + second.epochs_told() + third.epochs_told()
    assert [*dict.fromkeys(epochs[:-1])] == list(range(1, 11)), "no epoch is left out"
    assert epochs[-1] == 2
    assert len(epochs) <= 13, "only the epochs that were cut short are repeated"
    assert ended.metrics is not None
    assert (ended.metrics["epochs"], ended.metrics["measured_on"]) == (10, "held-out part")


def test_cancel_ends_within_seconds_and_keeps_what_was_learnt(tmp_path: Path, start_trainer: StartTrainer) -> None:
    project = box_project(tmp_path / "project")
    trainer = start_trainer()
    trainer.examine(project, "detection", **QUICK)
    question = trainer.start_training(project, "detection", **QUICK)
    trainer.wait_until_told(lambda told: told.message.startswith("epoch 3 of 10"))
    began = time.monotonic()
    trainer.send(Interrupt(job=1, workspace=""), request_id=0)
    ended = trainer.wait(question, TrainingEnded)
    assert time.monotonic() - began < 10
    assert (ended.state, error_of(ended)["code"]) == (JobState.CANCELLED, "cancelled")
    assert not list((project / "models").iterdir())

    question = trainer.start_training(project, "detection", **QUICK)
    trainer.wait_until_told(lambda told: "Goes on after epoch" in told.message)
    trainer.send(Interrupt(job=1, workspace=""), request_id=0)
    assert trainer.wait(question, TrainingEnded).state is JobState.CANCELLED
