"""One run of a training: what recipes are given, and what all of them do at the beginning and at the end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfserve import colours
from tfserve.colours import Colour
from tfserve.ipc.messages import Progress, Train
from tfserve.training import findings, pace, parameters
from tfserve.training.checkpoints import Checkpoints, State
from tfserve.training.findings import Findings
from tfserve.training.progress import PREPARED, Reporter
from tfserve.training.writing import aside_of

INPUT = "RGB, float32, 0 to 255; scaling is a part of the model"
METRICS_FILE = "metrics.json"


@dataclass
class Run:
    """`aside` is the folder that the result is made in; `work` is kept between attempts.

    `min_score` is the score below which a detector's boxes are left out of the response for a file.
    """

    task_id: str
    project: Path
    findings: Findings
    parameters: dict[str, Any]
    work: Path
    aside: Path
    folder: Path
    reporter: Reporter
    checkpoints: Checkpoints
    notes: list[str] = field(default_factory=list)
    min_score: float = 0.0
    began_at: float = field(default_factory=time.time)

    @property
    def batch_size(self) -> int:
        return pace.batch_size(self.parameters, len(self.findings.images))

    @property
    def threads(self) -> int:
        return int(self.parameters["threads"])

    @property
    def background(self) -> Colour:
        """What transparent images are composited over."""
        return colours.colour(self.parameters["background"])

    def file(self, place: int) -> Path:
        """The nth good image."""
        return self.project / self.findings.images[place].path

    def card(self) -> dict[str, Any]:
        """What goes along with every small form of the model."""
        return {
            "task": self.task_id, "train_type": self.findings.train_type, "labels": self.findings.labels,
            "display": self.findings.display, "numbers": self.findings.numbers, "input": INPUT,
            "size": self.parameters["network_size"],
            "image": self.image(),
        }  # fmt: skip

    def image(self) -> dict[str, Any]:
        """How files become the input of the small forms, in the words of `tfserve.runtimes.image_spec`."""
        height, width = self.parameters["network_size"]
        image = {
            "task": self.findings.train_type, "height": height, "width": width, "channels": 3, "layout": "NHWC",
            "scale": 1.0, "offset": 0.0, "labels": self.findings.labels, "display": self.findings.display,
            "background": self.parameters["background"],
        }  # fmt: skip
        own: dict[str, dict[str, Any]] = {
            "segmentation": {"mask_values": self.findings.numbers, "output_layout": "NHWC"},
            "detection": {"min_score": self.min_score},
        }
        return image | own.get(self.findings.train_type, {})

    def telling(self, what: str, begin: float, end: float) -> Callable[[float], None]:
        """To be called with the share of something that is done, which takes the progress from `begin` to `end`."""
        return lambda share: self.reporter.mention(begin + (end - begin) * share, f"{what}: {share:.0%}")

    def note(self, sentence: str) -> None:
        """Something worth telling: printed at once, and in the README at the end."""
        print(sentence, flush=True)
        self.notes.append(sentence)


def begin(message: Train, tell: Callable[[Progress], None]) -> Run:
    """Raises `Invalid` when the parameters or the findings are not good. Imports no TensorFlow."""
    chosen = parameters.complete(message.train_type, message.parameters)
    found = findings.read(Path(message.findings))
    work, folder = Path(message.work_folder), Path(message.folder)
    work.mkdir(parents=True, exist_ok=True)
    fingerprint = found.fingerprint({k: v for k, v in chosen.items() if k not in parameters.NOT_IN_THE_RESULT})
    checkpoints = Checkpoints(work, fingerprint, pace.epochs(chosen, len(found.images)))
    if chosen["resume"] == "never":
        checkpoints.clear()
    reached = checkpoints.peek()
    reporter = Reporter(message.job, tell, start=reached.progress if reached.epoch else 0.0)
    return Run(
        message.task_id, Path(message.project_dir), found, chosen, work,
        aside_of(folder), folder, reporter, checkpoints,
    )  # fmt: skip


def limit(threads: int, seed: int) -> None:
    """Bounds what TensorFlow takes of the machine, and makes all that is random follow from the seed."""
    import keras
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(2)
    keras.utils.set_random_seed(seed)


def resume(run: Run, model: Any) -> State:
    """Puts the last checkpoint into a compiled model, tells so, and gives its state."""
    state = run.checkpoints.restore(model)
    told = [f"Checkpoint {damage}, so it was passed over." for damage in run.checkpoints.damaged]
    if state.epoch:
        told.append(f"Goes on after epoch {state.epoch} of {state.epochs}, from the checkpoint of an earlier attempt.")
    elif run.checkpoints.damaged:
        told.append("No checkpoint is whole, so the training begins anew.")
    for sentence in told:
        run.note(sentence)
    if told:
        run.reporter.say(state.progress if state.epoch else PREPARED, " ".join(told))
    return state


def summary(metrics: dict[str, Any]) -> dict[str, Any]:
    """The few numbers that go along with the task."""
    names = (
        "verdict",
        "accuracy",
        "macro_f1",
        "map50",
        "map",
        "precision",
        "recall",
        "best_score",
        "mean_iou",
        "mean_dice",
        "pixel_accuracy",
        "images",
        "attempt_s",
    )
    told = {name: metrics[name] for name in names if name in metrics}
    told["epochs"] = metrics["epochs"]["trained"]
    told["best_epoch"] = metrics["epochs"]["best"]
    told["exports"] = {each["name"]: each.get("problem", "agrees") for each in metrics["exports"]}
    return told
