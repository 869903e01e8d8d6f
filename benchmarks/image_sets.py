"""Trains on image sets that other people made and measures the result on images that the training never saw.

Each set (benchmarks/training_sets.py) is trained with the defaults, then by the methods of
benchmarks/image_references.py in processes of their own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import training_sets
from benchmarks.image_references import METHODS
from benchmarks.server_process import REPOSITORY, ServerProcess
from benchmarks.tables import Row
from benchmarks.training_run import MIB, train
from benchmarks.training_sets import Missing

GOALS = {"pairs": 0.93, "stamps": 0.93, "cells": 0.80, "letters": 0.88, "digits": 0.995}
"""Balanced accuracy on unseen images."""


def rows(folder: Path, seed: int) -> list[Row]:
    """Of all sets that this machine can make; a sentence for each of the others."""
    found: list[Row] = []
    for name, make in training_sets.SETS.items():
        whole = folder / name
        try:
            make(whole, seed=seed)
        except Missing as missing:
            found.append((name, f"not measured: {missing}", ""))
            continue
        found += _measured(name, whole)
    return found


def _measured(name: str, folder: Path) -> list[Row]:
    project = folder / "project"
    project.mkdir()
    (folder / "images").rename(project / "images")
    with ServerProcess(folder, "--no-warm-spare") as server:
        ours = train(server, project)
        score = balanced_accuracy(server, project, folder / "test")
    (project / "images").rename(folder / "images")
    references = {method: _reference(method, folder) for method in METHODS}
    chosen = next(each["name"] for each in ours.metrics["candidates"] if each["chosen"])
    beside = "; ".join(
        f"{method} {each['balanced_accuracy']:.3f} in {each['total_s']:.0f} s, {each['peak_bytes'] // MIB} MiB"
        for method, each in references.items()
    )
    value = f"**{score:.3f}** in {ours.total_s:.0f} s, {ours.peak_bytes // MIB} MiB ({chosen}); {beside}"
    goal = f"≥ {GOALS[name]} and no reference is better by more than noise"
    return [(f"{name}: balanced accuracy on unseen images", value, goal), (f"{name}: exports", _exports(project), "")]


def balanced_accuracy(server: ServerProcess, project: Path, test: Path) -> float:
    """Of the project's newest model on the files of `test/<class>/`, over the v1 API."""
    server.call("/create_workspace/", name="sets")
    server.call("/deploy/", name="sets", path=str(project / "models" / "latest" / "saved_model"), timeout=120)
    shares = []
    for each in sorted(test.iterdir()):
        answers = [_answer(server, file) for file in sorted(each.iterdir())]
        shares.append(answers.count(each.name) / len(answers))
    return sum(shares) / len(shares)


def _answer(server: ServerProcess, file: Path) -> str:
    response = server.http.post(
        "/v1/models/sets:predict", content=file.read_bytes(), headers={"content-type": "image/png"}
    )
    (prediction,) = response.raise_for_status().json()["predictions"]
    return str(prediction["display"])


def _exports(project: Path) -> str:
    metrics = json.loads((project / "models" / "latest" / "metrics.json").read_text())
    return "; ".join(
        f"{each['name']} {each['size_bytes'] / MIB:.1f} MiB, {each['latency_ms']:.1f} ms"
        for each in metrics["exports"]
        if each.get("agrees")
    )


def _reference(method: str, folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.image_references", method, str(folder)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured
