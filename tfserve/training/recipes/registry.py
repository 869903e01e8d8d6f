"""The list of recipes, and the steps common to all of them."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tfserve.ipc.messages import Progress, Train
from tfserve.training.fit.timing import START
from tfserve.training.recipes.run import METRICS_FILE, begin, limit, summary

PUBLISHING_S = 1.0

RECIPES = {
    "classification": "tfserve.training.recipes.classification",
    "segmentation": "tfserve.training.recipes.segmentation",
    "detection": "tfserve.training.recipes.detection",
}


def run(message: Train, notify: Callable[[Progress], None]) -> dict[str, Any]:
    """Trains into a folder next to the final one, and returns the summary of its metrics.

    Does nothing when an earlier attempt is complete. Raises `Invalid`, what TensorFlow raises, `OSError`.
    """
    finished = Path(message.folder) / METRICS_FILE
    if finished.is_file():
        return summary(json.loads(finished.read_text()))
    run = begin(message, notify)
    shutil.rmtree(run.aside, ignore_errors=True)
    run.aside.mkdir(parents=True)
    with run.clock.ticking():
        with run.clock.stage(START, "Starting TensorFlow"):
            limit(run.threads, run.parameters["seed"])
            recipe = importlib.import_module(RECIPES[message.train_type])
        metrics: dict[str, Any] = recipe.train(run)
        run.clock.keep()
        run.reporter.report(99.0, "Moving the result to its final folder", eta_s=PUBLISHING_S)
    return summary(metrics)
