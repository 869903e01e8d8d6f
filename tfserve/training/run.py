"""One run of a training: what recipes are given, and what all of them do at the beginning and at the end."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfserve import colours
from tfserve.colours import Colour
from tfserve.ipc.messages import Progress, Train
from tfserve.training import findings, pace, parameters
from tfserve.training.checkpoints import Checkpoints, State
from tfserve.training.findings import Findings
from tfserve.training.first_words import first_words
from tfserve.training.progress import Reporter
from tfserve.training.timing import Clock
from tfserve.training.writing import aside_of

INPUT = "RGB, float32, 0 to 255; scaling is a part of the model"
ENLARGE = (
    "resize bilinearly with half-pixel centres (as tf.image.resize, Pillow and OpenCV do) to the size of the image,"
    " then take the class with the largest probability; class n has the value numbers[n] in masks"
)
"""How probabilities in the network's size become a mask of an image."""
METRICS_FILE = "metrics.json"
PROGRESS_FILE, FINGERPRINT_FILE = "progress", "fingerprint"
LEFT_BY_ATTEMPTS = {".npz", ".npy", ".writing"}


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
    clock: Clock
    fingerprint: str
    notes: list[str] = field(default_factory=list)
    min_score: float = 0.0
    began_at: float = field(default_factory=time.time)

    @property
    def batch_size(self) -> int:
        return pace.batch_size(self.parameters, len(self.findings.images))

    @property
    def threads(self) -> int:
        return int(self.parameters["threads"])

    def checkpoints(self, name: str, epochs: int) -> Checkpoints:
        """Of one of the trainings that the run consists of; `name` is a folder's."""
        return Checkpoints(self.work / name, f"{self.fingerprint}-{name}-{epochs}", epochs)

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
            "size": self.parameters["network_size"], **self._outputs(), "image": self.image(),
        }  # fmt: skip

    def _outputs(self) -> dict[str, Any]:
        """How the output of the small forms becomes a mask."""
        if self.findings.train_type != "segmentation":
            return {}
        shape = [1, *self.parameters["network_size"], len(self.findings.labels)]
        return {"outputs": {"probabilities": {"shape": shape, "to_mask": ENLARGE}}}

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

    def note(self, sentence: str) -> None:
        """Something worth telling: printed at once, and in the README at the end."""
        print(sentence, flush=True)
        self.notes.append(sentence)

    @contextmanager
    def optional(self, what: str) -> Iterator[None]:
        """For what the model is good without: if it can't be made, there is a note, and the training goes on."""
        try:
            yield
        except Exception as error:  # whatever a missing image, a full disk or a drawing library raises
            self.note(f"{what} could not be made: {type(error).__name__}: {first_words(error)}.")


def begin(message: Train, tell: Callable[[Progress], None]) -> Run:
    """Raises `Invalid` when the parameters or the findings are not good. Imports no TensorFlow."""
    chosen = parameters.complete(message.train_type, message.parameters)
    found = findings.read(Path(message.findings))
    work, folder = Path(message.work_folder), Path(message.folder)
    work.mkdir(parents=True, exist_ok=True)
    fingerprint = found.fingerprint({k: v for k, v in chosen.items() if k not in parameters.NOT_IN_THE_RESULT})
    if chosen["resume"] == "never" or _fingerprint_in(work) != fingerprint:
        _clear(work)
        (work / FINGERPRINT_FILE).write_text(fingerprint)
    reporter = Reporter(message.job, tell, work / PROGRESS_FILE)
    return Run(
        message.task_id, Path(message.project_dir), found, chosen, work, aside_of(folder), folder, reporter,
        Clock(reporter, Path(message.timings) if message.timings else None), fingerprint,
    )  # fmt: skip


def _fingerprint_in(work: Path) -> str:
    try:
        return (work / FINGERPRINT_FILE).read_text()
    except (OSError, ValueError):
        return ""


def _clear(work: Path) -> None:
    """Forgets what attempts with other images or parameters have left; files of others in the folder are kept."""
    for each in work.iterdir():
        if each.is_dir() and any(each.glob("*.npz")):
            shutil.rmtree(each)
        elif each.suffix in LEFT_BY_ATTEMPTS or each.name == PROGRESS_FILE:
            each.unlink()


def limit(threads: int, seed: int) -> None:
    """Bounds what TensorFlow takes of the machine, and makes all that is random follow from the seed."""
    import keras
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(2)
    keras.utils.set_random_seed(seed)


def resume(run: Run, model: Any, checkpoints: Checkpoints, name: str) -> State:
    """Puts the last checkpoint into a compiled model, reports that, and returns its state."""
    state = checkpoints.restore(model)
    told = [f"Checkpoint {damage}, so it was passed over." for damage in checkpoints.damaged]
    if state.epoch:
        told.append(
            f"{name}: Goes on after epoch {state.epoch} of {state.epochs}, from the checkpoint of an earlier attempt."
        )
    elif checkpoints.damaged:
        told.append("No checkpoint is whole, so this training begins anew.")
    for sentence in told:
        run.note(sentence)
    if told:
        run.reporter.say(0.0, " ".join(told))
    return state


def summary(metrics: dict[str, Any]) -> dict[str, Any]:
    """The few numbers that go along with the task."""
    names = (
        "verdict",
        "measured_on",
        "candidates",
        "accuracy",
        "balanced_accuracy",
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
