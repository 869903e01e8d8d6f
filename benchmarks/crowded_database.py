"""Fills the data folder of a server that is not running with the largest trainings, workspaces and lists of tokens.

Run `TFSERVE_DATA_DIR=FOLDER python -m benchmarks.crowded_database`. Their pages must be as small as any other page.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import django

WORKSPACE = "crowded"
LONG = 'ein sehr langer Name mit "Anführungszeichen" & <Klammern> 图像 صورة 🌻 '
TASKS = {"many": 1000, "confused": 17, "wide": 30}
"""Id of each finished training, and its number of classes."""
RUNNING, EPOCHS, IMAGES, TOKENS = "running", 1000, 2000, 300
FAILED_JOB = 1
"""The number of a job with long texts."""


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tfserve.django_settings")
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    folder = Path(os.environ["TFSERVE_DATA_DIR"])
    for number, (task_id, classes) in enumerate(TASKS.items()):
        _training(folder / "projects" / f"project {number}", task_id, classes, number)
    _running_training(folder, len(TASKS))
    _workspace(folder)


def named(prefix: str, number: int, size: int = 300) -> str:
    """A long name of its own."""
    return (f"{prefix} {number} " + LONG * (size // len(LONG) + 1))[:size].strip()


def _training(project: Path, task_id: str, classes: int, number: int) -> None:
    result = project / "models" / task_id
    (result / "plots").mkdir(parents=True)
    labels = [named("Klasse", each, 60) for each in range(classes)]
    metrics = _metrics(labels, is_confused=task_id == "confused")
    (result / "metrics.json").write_text(json.dumps(metrics))
    (result / "README.md").write_text("# A model\n\n" + "| a | b |\n|---|---|\n" + '| 1 | "2" |\n' * 5000)
    with (result / "predictions.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "true", "predicted", "score"])
        for image in range(IMAGES):
            true, predicted = labels[image % classes], labels[(image + image % 3) % classes]
            writer.writerow([f"images/{named('Bild', image, 120)}.jpg", true, predicted, 0.9])
    dataset = {
        "images": IMAGES, "layout": "a folder for each class", "skipped": IMAGES,
        "classes": [{"display": label, "images": 2} for label in labels],
        "remarks": [named("Hinweis", each) for each in range(100)],
    }  # fmt: skip
    _task(task_id, project, number, state="succeeded", dataset=dataset, progress=100.0,
          skipped=[{"path": named("Datei", each, 100), "reason": "it is damaged: " + LONG} for each in range(IMAGES)],
          parameters={"exports": LONG * 20, "epochs": 5}, model_path=str(result),
          metrics={**{name: metrics[name] for name in ("accuracy", "verdict")}, "epochs": EPOCHS})  # fmt: skip


def _metrics(labels: Sequence[str], *, is_confused: bool) -> dict[str, Any]:
    count = len(labels)
    matrix = [[9 if true == said else int(is_confused or said in (true + 1, true + 7)) for said in range(count)]
              for true in range(count)]  # fmt: skip
    row = {"precision": 0.123, "recall": 0.456, "f1": 0.789, "images": 2}
    curve = [1 / (1 + epoch) for epoch in range(EPOCHS)]
    return {
        "labels": list(labels), "display": list(labels), "accuracy": 0.5, "verdict": "poor: " + LONG,
        "per_class": [{"label": label, **row} for label in labels], "confusion_matrix": matrix,
        "calibration": {
            "expected_calibration_error": 0.1,
            "bins": [{"from": each / 10, "to": each / 10 + 0.1, "accuracy": 0.5, "images": 7} for each in range(10)],
        },
        "epochs": {"history": dict.fromkeys(("loss", "val_loss", "accuracy", "val_accuracy", "auc", "val_auc"), curve)},
        "exports": [
            {"name": name, "path": f"{name}.bin", "size_bytes": 10**7, "latency_ms": 1.5, "agrees": False,
             "problem": LONG * 9}
            for name in ("saved_model", "keras", "litert", "litert_int8", "onnx", "web")
        ],
        "measured_on": "held-out images", "images": {"held_out": IMAGES},
    }  # fmt: skip


def _running_training(folder: Path, number: int) -> None:
    """It ended without a result. A server that starts would continue one that runs."""
    curve = [1 / (1 + epoch) for epoch in range(EPOCHS)]
    history = {f"{prefix}{name}": curve for name in ("loss", "accuracy", "iou") for prefix in ("", "val_")}
    _task(RUNNING, folder / "projects" / "project 9", number, state="failed", metrics={"history": history},
          progress=50.0, message=LONG * 20)  # fmt: skip


def _task(task_id: str, project: Path, number: int, *, state: str, **fields: Any) -> None:
    from django.utils import timezone

    from tfserve.db.models import Job, Outcome, TrainingTask

    now = timezone.now()
    job = Job.objects.create(
        workspace=None, number=number, kind="train", state=state, created_at=now - timedelta(hours=2),
        started_at=now - timedelta(hours=1), finished_at=now, finished_running_s=0.0, attempts=1,
    )  # fmt: skip
    error = (
        json.dumps({"code": "failed", "message": LONG * 100, "traceback": LONG * 1000}) if state == "failed" else None
    )
    Outcome.objects.create(job=job, result="true", detail="{}", error=error)
    TrainingTask.objects.create(
        task_id=task_id, job=job, user_id=named("Nutzer", 1, 90), project_id=named("Projekt", 1, 90),
        project_dir=str(project), train_type="classification", **fields,
    )  # fmt: skip


def _workspace(folder: Path) -> None:
    from django.utils import timezone

    from tfserve.db.models import Job, Outcome, Snapshot, Token, Workspace

    space = Workspace.objects.create(name=WORKSPACE, next_number=20)
    now = timezone.now()
    script = f"# {LONG}\nprint('''{LONG * 900}''')\n"
    error = {"code": "script_error", "type": "ValueError", "message": LONG * 90, "traceback": LONG * 4000,
             "detail": {f"field {number}": LONG * 9 for number in range(90)}}  # fmt: skip
    for number in range(20):
        job = Job.objects.create(
            workspace=space, number=number, kind="script", state="failed", request=json.dumps({"text": script}),
            created_at=now, started_at=now, finished_at=now, finished_running_s=0.0, attempts=1,
        )  # fmt: skip
        Outcome.objects.create(job=job, result=json.dumps(LONG * 900), detail="{}", error=json.dumps(error))
    Snapshot.objects.create(
        workspace=space, variables=json.dumps({named("v", number, 500): LONG * 9 for number in range(500)})
    )
    files = folder / "workspaces" / str(space.pk) / "files"
    files.mkdir(parents=True)
    for number in range(500):
        (files / f"{number:03} {'图像' * 30}.png").touch()
    for number in range(TOKENS):
        Token.objects.create(name=f"token-{number:03}-{'x' * 50}", scopes=["predict", "submit"], digest=f"{number:064}",
                             workspaces=[f"workspace {each}" for each in range(100)], revoked_at=now)  # fmt: skip


if __name__ == "__main__":
    main()
