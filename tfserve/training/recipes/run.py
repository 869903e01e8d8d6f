"""One run of a training: the input of the recipes, and their common first and last steps."""

from __future__ import annotations

import io
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace

from tfserve import colours
from tfserve.colours import Colour
from tfserve.ipc.messages import Progress, Train
from tfserve.runtimes import devices, image_files
from tfserve.runtimes.error_summary import named_cause
from tfserve.tensors.specs import Array
from tfserve.training.atomic_files import aside_of, written_aside
from tfserve.training.dataset import dataset_index as findings
from tfserve.training.dataset import image_reading as images
from tfserve.training.dataset import project_folders
from tfserve.training.dataset.dataset_index import Findings
from tfserve.training.dataset.decoded_images import Store
from tfserve.training.dataset.layouts import archives
from tfserve.training.early_end import EarlyEnd
from tfserve.training.fit import budget, warm_start
from tfserve.training.fit.checkpoints import Checkpoints, State
from tfserve.training.fit.timing import START, Clock
from tfserve.training.fit.warm_start import WarmStart
from tfserve.training.progress import Reporter
from tfserve.training.recipes import parameters, schedule_defaults

INPUT = "RGB, float32, 0 to 255; scaling is part of the model"
ENLARGE = (
    "resize bilinearly with half-pixel centres (as tf.image.resize, Pillow and OpenCV do) to the size of the image,"
    " then take the class with the largest probability; class n has the value numbers[n] in masks"
)
"""How probabilities in the network's size become a mask of an image."""
METRICS_FILE = project_folders.METRICS_FILE
PROGRESS_FILE, FINGERPRINT_FILE = "progress", "fingerprint"
EPOCHS_FILE, ALLOWANCE_FILE = "epochs", "allowance"
EARLY_END_FILE = "early-end"
METHOD = 2
"""Increased when features, penalties or networks change: what another release has kept of a run is not used then."""
START_S, WARM_START_S = 7.0, 0.3
WHOLE_RUN_S = {"classification": (60.0, 0.1), "segmentation": (70.0, 1.0), "detection": (120.0, 2.0)}
"""What a run takes that is the first of this machine, and for each image."""
LEFT_BY_ATTEMPTS = {".npz", ".npy", ".writing"}
KEPT_BY_ATTEMPTS = (PROGRESS_FILE, EPOCHS_FILE, ALLOWANCE_FILE, EARLY_END_FILE)


@dataclass
class RecipeRun:
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
        return schedule_defaults.batch_size(self.parameters, len(self.findings.images))

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

        The number is kept in the work folder, so that another attempt continues with the same schedule.
        """
        if self.clock.budget_s is None:
            return epochs
        if known := _number_in(self.work / EPOCHS_FILE):
            return min(epochs, int(known))
        share = max(0.0, self.clock.spare_s) / self.clock.quiet_s(stage)
        planned = max(1, min(epochs, int(epochs * share)))
        _keep_number(self.work / EPOCHS_FILE, planned)
        if planned < epochs:
            self.note(f"The budget allows {planned} of {epochs} epochs.")
        return planned

    def allowance(self, usual: float) -> float:
        """Seconds of two ordinary cores for candidates: the usual number, or with a budget what it left at first.

        The number is kept in the work folder: the sizes of images follow from it, and another attempt, which has less
        time, continues with files that were made in these sizes.
        """
        if self.clock.budget_s is None:
            return usual
        if known := _number_in(self.work / ALLOWANCE_FILE):
            return known
        allowed = max(1.0, self.clock.spare_s / self.clock.speed)
        _keep_number(self.work / ALLOWANCE_FILE, allowed)
        return allowed

    def checkpoints(self, name: str, epochs: int, size: Sequence[int] = ()) -> Checkpoints:
        """Of one of the trainings that the run consists of; `name` is a folder's, `size` that of the images."""
        return Checkpoints(self.work / name, "-".join(map(str, (self.fingerprint, name, epochs, *size))), epochs)

    @property
    def background(self) -> Colour:
        """What transparent images are composited over."""
        return colours.colour(self.parameters["background"])

    def file(self, index: int) -> Path:
        """The nth good image."""
        return self.project / self.findings.images[index].path

    def name(self, index: int) -> str:
        """What reports call the nth good image."""
        return archives.inside(self.findings.images[index].path)

    def store(self, stage: str, what: str, shape: Sequence[int], read: Callable[[int], Array]) -> Store:
        """An array for each good image, read in a stage of this name."""
        count = len(self.findings.images)
        store = Store(count, shape, read, self.work)
        message = f"Reading {count} {what}"
        with self.clock.stage(stage, message) as running:
            store.load(self.threads, lambda share: running.mention(share, f"{message}: {share:.0%}"))
        return store

    def keep(self, pictures: Callable[[Array], Array], masks: Callable[[Array], Array] | None = None) -> None:
        """What was read, (indices) → (indices, height, width, …) uint8: for images and masks whose files go later."""
        self._kept, self.masks = pictures, masks

    def data(self, index: int) -> bytes:
        """The file of the nth image; if it was deleted or changed since it was examined, a PNG file with the pixels
        that were read, in the size of the image."""
        image = self.findings.images[index]
        data = images.unchanged(self.file(index), image.digest)
        if data is not None:
            return data
        if self._kept is None:
            raise OSError(f"{self.file(index)} was deleted or changed after the dataset was checked.")
        if index not in self._gone:
            self._gone.add(index)
            self.note(f"{image.path} was deleted or changed after it was read; the pixels read before are used.")
        return png(self._kept(np.array([index]))[0], (image.width, image.height))

    def pixels(self, index: int, size: tuple[int, int] | None = None) -> Array:
        """The nth image as RGB, (height, width, 3) uint8 of this size or of its own, also if its file is gone."""
        return images.decoded(self.data(index), self.background, size)

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
        """Adds a note: printed at once, and included in the README."""
        print(sentence, flush=True)
        self.notes.append(sentence)

    def conclude(
        self, verdict: str, learnt: Iterable[int], measured: Iterable[int], backbone: str, *, frozen: bool = False
    ) -> str:
        """Keeps which images the model has learnt from, and reports the use of an earlier model.

        Returns the verdict, with what is wrong with its figures. `frozen`: only the last layer was trained.
        """
        with self.optional("The list of training images"):
            images = [self.findings.images[index] for index in learnt]
            warm_start.remember(self.aside, images, self.warm, frozen=frozen)
        if self.warm is not None:
            uses = warm_start.Uses(self.warm, backbone, [self.findings.images[index] for index in measured])
            if caveat := uses.report():
                verdict += f", but {caveat}"
            for sentence in uses.notes:
                self.note(sentence)
        self.note(f"Verdict: {verdict}.")
        return verdict

    @contextmanager
    def optional(self, what: str) -> Iterator[None]:
        """For optional output: if it fails, a note is added and the training continues."""
        try:
            yield
        except Exception as error:  # a missing image, a full disk or a plotting library can raise anything
            self.note(f"{what} could not be made: {named_cause(error)}.")


def png(pixels: Array, size: tuple[int, int]) -> bytes:
    """A PNG file of this width and height."""
    from PIL import Image

    buffer = io.BytesIO()
    image_files.resized(Image.fromarray(pixels), size).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def begin(message: Train, notify: Callable[[Progress], None]) -> RecipeRun:
    """Raises `Invalid` when the parameters or the findings are invalid. Imports no TensorFlow."""
    chosen = parameters.complete(message.train_type, message.parameters)
    found = findings.read(Path(message.findings))
    local_found, local_chosen = _on_this_machine(found, chosen, message.local_paths)
    project, work, folder = Path(message.project_dir), Path(message.work_folder), Path(message.folder)
    warm = warm_start.begin(project_folders.results_folder(project), local_chosen, local_found, message.task_id)
    work.mkdir(parents=True, exist_ok=True)
    chosen_of_result = {k: v for k, v in chosen.items() if k not in parameters.NOT_IN_THE_RESULT}
    fingerprint = found.fingerprint({**chosen_of_result, "method": METHOD})
    is_new = chosen["resume"] == "never" or _fingerprint_in(work) != fingerprint
    if is_new:
        _clear(work)
        (work / FINGERPRINT_FILE).write_text(fingerprint)
    reporter = Reporter(message.job, notify, work / PROGRESS_FILE)
    clock = Clock(reporter, Path(message.timings) if message.timings else None)
    clock.learns = is_new
    clock.budget_s = budget.seconds_of(chosen.get("budget"))
    clock.ends_early = EarlyEnd(message.job, work / EARLY_END_FILE)
    _expect(clock, found, chosen)
    return RecipeRun(
        message.task_id, project, local_found, local_chosen, work, aside_of(folder), folder, reporter,
        clock, fingerprint, warm=warm,
    )  # fmt: skip


def _on_this_machine(
    found: Findings, chosen: dict[str, Any], local_paths: dict[str, str]
) -> tuple[Findings, dict[str, Any]]:
    """With the paths that files of the head have here. The fingerprint has those of the head, as on each machine."""

    if not local_paths:
        return found, chosen

    def local(path: Any) -> Any:
        above = [each for each in local_paths if isinstance(path, str) and f"{path}/".startswith(f"{each}/")]
        known = max(above, key=len, default="")
        return local_paths[known] + path[len(known) :] if known else path

    images = [replace(image, path=local(image.path), mask=local(image.mask)) for image in found.images]
    return replace(found, images=images), {name: local(value) for name, value in chosen.items()}


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


def _number_in(file: Path) -> float | None:
    """What an earlier attempt has kept; None if there is nothing, or no positive number."""
    try:
        number = float(file.read_text())
    except (OSError, ValueError):
        return None
    return number if 0 < number < math.inf else None


def _keep_number(file: Path, number: float) -> None:
    with written_aside(file) as aside:
        aside.write_text(repr(number))


def _clear(work: Path) -> None:
    """Deletes files of attempts with other images or parameters; other files in the folder are kept."""
    for each in work.iterdir():
        if each.is_dir() and any(each.glob("*.npz")):
            shutil.rmtree(each)
        elif each.suffix in LEFT_BY_ATTEMPTS or each.name in KEPT_BY_ATTEMPTS:
            each.unlink()


def limit(threads: int, seed: int) -> None:
    """Limits TensorFlow's threads and its memory on a GPU, and seeds all random numbers."""
    import keras
    import tensorflow as tf

    devices.limit_memory(tf, devices.limit_bytes())
    tf.get_logger().setLevel("ERROR")
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(2)
    keras.utils.set_random_seed(seed)


def resume(run: RecipeRun, model: Any, checkpoints: Checkpoints, name: str) -> State:
    """Loads the last checkpoint into a compiled model, reports it, and returns its state."""
    state = checkpoints.restore(model)
    sentences = [f"Checkpoint {damage}, so it was skipped." for damage in checkpoints.damaged]
    if state.epoch:
        sentences.append(
            f"{name}: Continues after epoch {state.epoch} of {state.epochs}, from the checkpoint of an earlier attempt."
        )
    elif checkpoints.damaged:
        sentences.append("No checkpoint is intact, so this training starts from the beginning.")
    for sentence in sentences:
        run.note(sentence)
    if sentences:
        run.reporter.report(0.0, " ".join(sentences))
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
    chosen = {name: metrics[name] for name in names if name in metrics}
    if "warm_start" in metrics:
        chosen["warm_start"] = metrics["warm_start"]
    chosen["epochs"] = metrics["epochs"]["trained"]
    chosen["best_epoch"] = metrics["epochs"]["best"]
    chosen["exports"] = {each["name"]: each.get("problem", "agrees") for each in metrics["exports"]}
    return chosen
