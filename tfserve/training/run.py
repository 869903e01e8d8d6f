"""One run of a training: what recipes are given, and what all of them do at the beginning and at the end."""

from __future__ import annotations

import io
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tfserve import colours
from tfserve.colours import Colour
from tfserve.ipc.messages import Progress, Train
from tfserve.runtimes import image_files
from tfserve.tensors import Array
from tfserve.training import budget, findings, images, pace, parameters, project_folders, warm_start
from tfserve.training.checkpoints import Checkpoints, State
from tfserve.training.findings import Findings
from tfserve.training.first_words import first_words
from tfserve.training.progress import Reporter
from tfserve.training.timing import START, Clock
from tfserve.training.warm_start import WarmStart
from tfserve.training.writing import aside_of

INPUT = "RGB, float32, 0 to 255; scaling is a part of the model"
ENLARGE = (
    "resize bilinearly with half-pixel centres (as tf.image.resize, Pillow and OpenCV do) to the size of the image,"
    " then take the class with the largest probability; class n has the value numbers[n] in masks"
)
"""How probabilities in the network's size become a mask of an image."""
METRICS_FILE = project_folders.METRICS_FILE
PROGRESS_FILE, FINGERPRINT_FILE, EPOCHS_FILE = "progress", "fingerprint", "epochs"
START_S, WARM_START_S = 7.0, 0.3
WHOLE_RUN_S = {"classification": (60.0, 0.1), "segmentation": (70.0, 1.0), "detection": (120.0, 2.0)}
"""What a run takes that is the first of this machine, and for each image."""
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
    warm: WarmStart | None = None
    masks: Callable[[Array], Array] | None = None
    _kept: Callable[[Array], Array] | None = None
    _gone: set[int] = field(default_factory=set)

    @property
    def batch_size(self) -> int:
        return pace.batch_size(self.parameters, len(self.findings.images))

    @property
    def threads(self) -> int:
        return int(self.parameters["threads"])

    def rate(self, usual: float, *, continued: bool) -> float:
        """The highest learning rate: the chosen one, else the usual one, or less when an earlier training continues."""
        chosen = self.parameters["learning_rate"]
        if chosen != "auto":
            return float(chosen)
        return usual * (warm_start.RATE_SHARE if continued else 1.0)

    @property
    def epochs_share(self) -> float:
        """Of the usual number of epochs."""
        return 1.0 if self.warm is None else warm_start.EPOCHS_SHARE

    def affordable(self, epochs: int, stage: str) -> int:
        """How many of the epochs that the stage was expected to take the budget allows, at least one.

        The number is kept in the work folder, so that another attempt goes on with the same schedule.
        """
        if self.clock.budget_s is None:
            return epochs
        file = self.work / EPOCHS_FILE
        with suppress(OSError, ValueError):
            return min(epochs, int(file.read_text()))
        share = max(0.0, self.clock.spare_s) / self.clock.quiet_s(stage)
        planned = max(1, min(epochs, int(epochs * share)))
        file.write_text(str(planned))
        if planned < epochs:
            self.note(f"The budget allows {planned} of {epochs} epochs.")
        return planned

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

    def keep(self, pictures: Callable[[Array], Array], masks: Callable[[Array], Array] | None = None) -> None:
        """What was read, (places) → (places, height, width, …) uint8: for images and masks whose files go later."""
        self._kept, self.masks = pictures, masks

    def data(self, place: int) -> bytes:
        """The file of the nth image; if it was deleted or changed since it was examined, a PNG file with the pixels
        that were read, in the size of the image."""
        image = self.findings.images[place]
        data = images.unchanged(self.file(place), image.digest)
        if data is not None:
            return data
        if self._kept is None:
            raise OSError(f"{self.file(place)} was deleted or changed after the examination of the project.")
        if place not in self._gone:
            self._gone.add(place)
            self.note(f"{image.path} was deleted or changed after it was read; the pixels that were read are used.")
        return png(self._kept(np.array([place]))[0], (image.width, image.height))

    def pixels(self, place: int, size: tuple[int, int] | None = None) -> Array:
        """The nth image as RGB, (height, width, 3) uint8 of this size or of its own, also if its file is gone."""
        return images.decoded(self.data(place), self.background, size)

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

    def learnt(self, learnt: Iterable[int], measured: Iterable[int], backbone: str, *, frozen: bool = False) -> str:
        """Keeps which images the model has learnt from, and reports the use of an earlier model.

        Returns what is wrong with the figures, or nothing. `frozen`: only the last layer was trained.
        """
        with self.optional("The list of images that were learnt from"):
            images = [self.findings.images[place] for place in learnt]
            warm_start.remember(self.aside, images, self.warm, frozen=frozen)
        if self.warm is None:
            return ""
        uses = warm_start.Uses(self.warm, backbone, [self.findings.images[place] for place in measured])
        caveat = uses.report()
        for sentence in uses.notes:
            self.note(sentence)
        return caveat

    @contextmanager
    def optional(self, what: str) -> Iterator[None]:
        """For what the model is good without: if it can't be made, there is a note, and the training goes on."""
        try:
            yield
        except Exception as error:  # whatever a missing image, a full disk or a drawing library raises
            self.note(f"{what} could not be made: {type(error).__name__}: {first_words(error)}.")


def png(pixels: Array, size: tuple[int, int]) -> bytes:
    """A PNG file of this width and height."""
    from PIL import Image

    buffer = io.BytesIO()
    image_files.resized(Image.fromarray(pixels), size).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def begin(message: Train, tell: Callable[[Progress], None]) -> Run:
    """Raises `Invalid` when the parameters or the findings are not good. Imports no TensorFlow."""
    chosen = parameters.complete(message.train_type, message.parameters)
    found = findings.read(Path(message.findings))
    project, work, folder = Path(message.project_dir), Path(message.work_folder), Path(message.folder)
    warm = warm_start.begin(project_folders.results_folder(project), chosen, found, message.task_id)
    work.mkdir(parents=True, exist_ok=True)
    fingerprint = found.fingerprint({k: v for k, v in chosen.items() if k not in parameters.NOT_IN_THE_RESULT})
    is_new = chosen["resume"] == "never" or _fingerprint_in(work) != fingerprint
    if is_new:
        _clear(work)
        (work / FINGERPRINT_FILE).write_text(fingerprint)
    reporter = Reporter(message.job, tell, work / PROGRESS_FILE)
    clock = Clock(reporter, Path(message.timings) if message.timings else None)
    clock.learns = is_new
    clock.budget_s = budget.seconds_of(chosen.get("budget"))
    _expect(clock, found, chosen)
    return Run(
        message.task_id, project, found, chosen, work, aside_of(folder), folder, reporter,
        clock, fingerprint, warm=warm,
    )  # fmt: skip


def _expect(clock: Clock, found: Findings, chosen: dict[str, Any]) -> None:
    """The start, and a guess for everything else until the recipe knows more."""
    is_warm = "tensorflow" in sys.modules
    clock.expect(START, WARM_START_S if is_warm else START_S, key=f"{START}, warm {is_warm}", cores=1.0)
    seconds, each = WHOLE_RUN_S[found.train_type]
    size = round(math.log2(max(1, len(found.images))))
    named = ", ".join(str(chosen[name]) for name in ("backbone", "effort", "epochs", "exports") if name in chosen)
    budget_s = clock.budget_s or math.inf
    clock.expect_whole(
        min(seconds + each * len(found.images), budget_s), f"{found.train_type}, {named}, 2^{size} images"
    )


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
        elif each.suffix in LEFT_BY_ATTEMPTS or each.name in (PROGRESS_FILE, EPOCHS_FILE):
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
    if "warm_start" in metrics:
        told["warm_start"] = metrics["warm_start"]
    told["epochs"] = metrics["epochs"]["trained"]
    told["best_epoch"] = metrics["epochs"]["best"]
    told["exports"] = {each["name"]: each.get("problem", "agrees") for each in metrics["exports"]}
    return told
