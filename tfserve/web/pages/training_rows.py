"""What the pages of trainings show: rows of the list, curves, the form of a new training, and other runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tfserve.db import training_tasks
from tfserve.db.models import TrainingTask
from tfserve.db.task_json import STATES
from tfserve.training.dataset.project_folders import MODELS, results_folder
from tfserve.training.recipes.parameters import TABLES, Parameter
from tfserve.web.pages.charts import Chart, chart
from tfserve.web.pages.page_rows import METRICS, TaskRow
from tfserve.web.pages.training_results import TrainingResult, history_at

PAGE_SIZE = 25
MAX_RUNS = 8
STATE_WORDS = tuple(dict.fromkeys(STATES.values()))
MAIN = ("effort", "budget", "epochs", "backbone", "image_size", "mirror")
"""Parameters that the form shows at once. The others are in a section that opens."""
LABELS = {
    "budget": "Time limit", "image_size": "Image size", "mirror": "Also train on mirrored images",
    "epochs": "Epochs", "backbone": "Backbone", "effort": "Effort",
}  # fmt: skip
TITLES = {"loss": "Loss", "accuracy": "Accuracy", "iou": "IoU", "mean_iou": "Mean IoU", "dice": "Dice"}


class TaskPage(NamedTuple):
    """A page of the list. `next_key` is the key after which the next page begins; None on the last page."""

    rows: list[TaskRow]
    next_key: int | None


@dataclass(frozen=True)
class ParameterField:
    """A parameter in the form. `choices` if only these values are allowed."""

    parameter: Parameter
    label: str

    @property
    def choices(self) -> Sequence[str]:
        return self.parameter.words if self.parameter.type == "choice" else ()

    @property
    def is_flag(self) -> bool:
        return self.parameter.type == "boolean"

    @property
    def is_number(self) -> bool:
        return self.parameter.type in ("integer", "number")

    @property
    def default(self) -> str:
        value = self.parameter.default
        return value if isinstance(value, str) else json.dumps(value)


class ParameterForm(NamedTuple):
    """The parameters of a train type."""

    train_type: str
    main: list[ParameterField]
    more: list[ParameterField]


class OtherRun(NamedTuple):
    """Another run of the same project, for the comparison."""

    task: TrainingTask
    quality: list[tuple[str, float | None]]
    candidate: str
    epochs: int | None
    seconds: float | None
    is_this: bool


class RunComparison(NamedTuple):
    """The runs of a project, and how one metric developed in those that have epochs."""

    names: list[str]
    runs: list[OtherRun]
    curves: Chart | None


def page_of_tasks(text: str, state: str, before: int | None) -> TaskPage:
    found = training_tasks.search(text=text, state=state, before=before, limit=PAGE_SIZE + 1)
    rows = [TaskRow(task) for task in found[:PAGE_SIZE]]
    return TaskPage(rows, rows[-1].task.pk if len(found) > PAGE_SIZE else None)


def result_of(task: TrainingTask) -> TrainingResult | None:
    """The result of a task that is done."""
    if task.model_path is None:
        return None
    return TrainingResult.read(task.task_id, _folder(task))


def curves(history: Mapping[str, Sequence[float]]) -> list[Chart]:
    """A chart of each metric, for the training images and the selection images."""
    names = [name for name in history if not name.startswith("val_")]
    drawn = []
    for name in sorted(names, key=lambda each: each != "loss"):
        series = {"training": history[name], **({"selection": history[v]} if (v := f"val_{name}") in history else {})}
        if (made := chart(TITLES.get(name, name.replace("_", " ").capitalize()), series)) is not None:
            drawn.append(made)
    return drawn


def forms() -> list[ParameterForm]:
    """The parameters of each train type, the important ones first."""
    return [
        ParameterForm(
            kind,
            [_field(each) for name in MAIN for each in table if each.name == name],
            [_field(each) for each in table if each.name not in (*MAIN, "resume")],
        )
        for kind, table in TABLES.items()
    ]


def comparison(task: TrainingTask) -> RunComparison | None:
    """None if this is the only run of the project with a model."""
    others = training_tasks.of_project(task, MAX_RUNS - 1)
    if not others:
        return None
    tasks = [task, *others] if task.model_path else others
    names = [name for name in METRICS if any(name in (each.metrics or {}) for each in tasks)]
    runs = [_run(each, names, is_this=each.pk == task.pk) for each in tasks]
    return RunComparison([METRICS[name] for name in names], runs, _compared(tasks))


# --- parts


def _folder(task: TrainingTask) -> Path:
    return results_folder(Path(task.project_dir)) / MODELS / task.task_id


def _field(parameter: Parameter) -> ParameterField:
    return ParameterField(parameter, LABELS.get(parameter.name, parameter.name.replace("_", " ").capitalize()))


def _run(task: TrainingTask, names: Sequence[str], *, is_this: bool) -> OtherRun:
    metrics = task.metrics or {}
    chosen = next((each["name"] for each in metrics.get("candidates") or [] if each.get("chosen")), "")
    quality = [(METRICS[name], metrics.get(name)) for name in names]
    return OtherRun(task, quality, chosen, metrics.get("epochs"), metrics.get("attempt_s"), is_this)


def _compared(tasks: Sequence[TrainingTask]) -> Chart | None:
    """The loss on the selection images, or else on the training images."""
    series = {}
    for task in tasks:
        history = history_at(_folder(task)) if task.model_path is not None else {}
        values = history.get("val_loss") or history.get("loss")
        if values:
            series[task.task_id[:6]] = values
    return chart("Loss of each run", series) if len(series) > 1 else None
