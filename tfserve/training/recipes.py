"""The recipes, in a literal list, and what is done around each of them."""

from __future__ import annotations

import importlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tfserve.ipc.messages import Progress, Train
from tfserve.training.run import METRICS_FILE, begin, limit, summary
from tfserve.training.timing import START

PUBLISHING_S = 1.0

RECIPES = {
    "classification": "tfserve.training.classification",
    "segmentation": "tfserve.training.segmentation",
    "detection": "tfserve.training.detection",
}


def run(message: Train, tell: Callable[[Progress], None]) -> dict[str, Any]:
    """Trains into a folder beside the one that the result will have, and gives the summary of its metrics.

    Nothing is done when an earlier attempt has come to its end. Raises `Invalid`, what TensorFlow raises, `OSError`.
    """
    finished = Path(message.folder) / METRICS_FILE
    if finished.is_file():
        return summary(json.loads(finished.read_text()))
    run = begin(message, tell)
    shutil.rmtree(run.aside, ignore_errors=True)
    run.aside.mkdir(parents=True)
    with run.clock.ticking():
        with run.clock.stage(START, "starts TensorFlow"):
            limit(run.threads, run.parameters["seed"])
            recipe = importlib.import_module(RECIPES[message.train_type])
        metrics: dict[str, Any] = recipe.train(run)
        run.clock.keep()
        run.reporter.say(99.0, "moves the result to its place", eta_s=PUBLISHING_S)
    return summary(metrics)
