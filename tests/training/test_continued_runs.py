"""Which of the steps that an earlier attempt has kept a run uses again."""

from __future__ import annotations

from pathlib import Path

import pytest
from projects import digit_project

from tfserve.ipc.messages import Train
from tfserve.training.dataset.examine import examine
from tfserve.training.recipes import run


@pytest.fixture
def message(tmp_path: Path) -> Train:
    project, findings = digit_project(tmp_path / "project", classes=2, per_class=4), tmp_path / "findings.json"
    examine(str(project), "classification", {"threads": 2}).write(findings)
    return Train(
        job=1, task_id="t1", project_dir=str(project), train_type="classification", parameters={},
        findings=str(findings), folder=str(project / "models" / "t1"), work_folder=str(tmp_path / "work"),
    )  # fmt: skip


def kept_by_an_attempt(message: Train) -> Path:
    run.begin(message, lambda _: None)
    kept = Path(message.work_folder) / "outcome-of-a-fold.npz"
    kept.write_bytes(b"")
    return kept


def test_steps_of_the_same_release_are_used_again(message: Train) -> None:
    kept = kept_by_an_attempt(message)
    run.begin(message, lambda _: None)
    assert kept.exists()


def test_steps_of_a_release_with_another_method_are_not_used(message: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = kept_by_an_attempt(message)
    monkeypatch.setattr(run, "METHOD", run.METHOD + 1)
    run.begin(message, lambda _: None)
    assert not kept.exists()
