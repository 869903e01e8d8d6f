"""What tests of trainings ask a server for, and a project to train on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from tests.acceptance.conftest import Server

QUICK = {"epochs": 3, "exports": "saved_model", "backbone": "compact", "effort": "fast"}
"""For a classification."""
QUICK_MASKS = {"epochs": 3, "exports": "saved_model", "backbone": "unet", "effort": "fast"}
ENDLESS = {"epochs": 500, "patience": 500}


def digit_project(folder: Path, per_class: int = 30) -> Path:
    """A project of 10 classes with real digits, as PNG files of 28 x 28."""
    data = load_digits()
    counts = dict.fromkeys(range(10), 0)
    for image, label in zip(data.images, data.target, strict=True):
        if counts[int(label)] < per_class:
            place = folder / "images" / f"Digit_{label}"
            place.mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray((image * 15.9).astype("uint8")).resize((28, 28), Image.Resampling.BICUBIC)
            picture.save(place / f"{counts[int(label)]}.png")
            counts[int(label)] += 1
    return folder


def mask_project(folder: Path, count: int = 12) -> Path:
    """Bright rectangles on dark noise, 40 pixels wide and 32 high; their masks are 0 and 255."""
    random = np.random.default_rng(1)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        image, mask = random.integers(0, 80, (32, 40, 3), np.uint8), np.zeros((32, 40), np.uint8)
        top, left = random.integers(2, 12, size=2)
        mask[top : top + 14, left : left + 18] = 255
        image[mask > 0] += 150
        Image.fromarray(image).save(folder / "images" / f"{number:03d}.png")
        Image.fromarray(mask).save(folder / "labels" / f"{number:03d}.png")
    return folder


def form(folder: Path, **fields: str) -> dict[str, str]:
    return {"userId": "u1", "projectId": "p1", "projectDir": str(folder), "trainType": "classification"} | fields


def begin(server: Server, folder: Path, parameters: dict[str, Any] | None = None, **fields: Any) -> Any:
    """Starts a quick training as JSON and returns the task."""
    quick = {"segmentation": QUICK_MASKS, "detection": {}}.get(fields.get("trainType", "").lower(), QUICK)
    answer = server.http.post("/tasks/", json=form(folder) | {"parameters": quick | (parameters or {})} | fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def query(server: Server, task_id: str) -> Any:
    return server.http.get("/", params={"taskId": task_id}).json()


def finished(server: Server, task_id: str, timeout_s: float = 150) -> Any:
    """The task when it has ended: its output is followed, so nothing is asked again and again."""
    with server.http.stream(
        "GET", f"/tasks/{task_id}/output", headers={"Accept": "text/event-stream"}, timeout=timeout_s
    ) as events:
        for line in events.iter_lines():
            if line == "event: end":
                break
    return query(server, task_id)


def when(server: Server, task_id: str, condition: Callable[[Any], bool]) -> Any:
    """The task as soon as the condition is true of it."""
    revision = 0
    while not condition(task := query(server, task_id)):
        assert task["state"] in ("pending", "processing"), task
        revision = server.http.get("/server/", params={"since": revision}).json()["result"]["revision"]
    return task


def in_epoch(server: Server, task_id: str, epoch: int) -> Any:
    """The task as soon as it has finished an epoch."""
    return when(server, task_id, lambda task: (task.get("metrics") or {}).get("epoch", 0) >= epoch)
