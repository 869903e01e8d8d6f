"""Starting from the model of an earlier task (`warmStart`): finding it, the classes in common, and copying its weights.

Layers are matched by name; those that compute the classes, whose names end in `logits`, class by class. Images that
the earlier model has learnt from are not held out if there are enough others, since it would recognise them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tfserve.errors import Invalid
from tfserve.tensors.specs import Array
from tfserve.training.dataset.dataset_index import Findings, ImageFile
from tfserve.training.dataset.project_folders import KERAS_FILE
from tfserve.training.fit.earlier_models import LEARNT_FILE, NONE, PARAMETER, Earlier, Learnt, find
from tfserve.training.fit.folds import may_be_held_out

RATE_SHARE, EPOCHS_SHARE = 0.3, 0.5
"""Of the learning rate and of the epochs that training from scratch takes."""
CLASS_LAYERS = "logits"
MIN_UNSEEN, MIN_UNSEEN_PER_CLASS = 10, 2
"""With fewer images that are new to the earlier model, measurements would be biased."""


class WarmStart:
    """An earlier model and the images of now."""

    def __init__(self, earlier: Earlier, found: Findings) -> None:
        self.earlier = earlier
        self.numbers = earlier.number_of(found.labels, found.display or found.labels)
        names = found.display or found.labels
        used = {number for number in self.numbers if number is not None}
        self.report: dict[str, Any] = {
            "task": earlier.task_id,
            "classes_kept": [name for name, number in zip(names, self.numbers, strict=True) if number is not None],
            "classes_new": [name for name, number in zip(names, self.numbers, strict=True) if number is None],
            "classes_dropped": [name for number, name in enumerate(earlier.display) if number not in used],
        }
        self._seen: Collection[str] | None = None if earlier.learnt is None else frozenset(earlier.learnt.images)
        self.measures_unseen = False

    def separated(self, images: Sequence[ImageFile]) -> list[ImageFile]:
        """The images; those that the earlier model knows are for training only, if there are enough others."""
        if self._seen is None:
            return list(images)
        if any(image.part for image in images):
            self.measures_unseen = not any(image.digest in self._seen for image in images if image.part != "train")
            return list(images)
        if not any(image.digest in self._seen for image in images):
            self.measures_unseen = True
            return list(images)
        marked = [
            msgspec.structs.replace(image, part="train") if image.digest in self._seen else image for image in images
        ]
        counts = Counter(images[at].label for at in may_be_held_out(marked) if not marked[at].part)
        enough = all(counts[label] >= MIN_UNSEEN_PER_CLASS for label in {image.label for image in images})
        self.measures_unseen = enough and counts.total() >= MIN_UNSEEN
        return marked if self.measures_unseen else list(images)

    @cached_property
    def layers(self) -> dict[str, list[Array]]:
        """The weights of each layer of the earlier model. Raises `Invalid` when they can't be read."""
        import keras

        file = self.earlier.folder / KERAS_FILE
        try:
            return {key: layer.get_weights() for key, layer in _layers(keras.saving.load_model(file, compile=False))}
        except Exception as error:  # a damaged file can make Keras raise anything
            raise Invalid(
                f"{PARAMETER}: {file} can't be read: {type(error).__name__}: {str(error)[:300]}. Train without"
                f" {PARAMETER}, or start from another task."
            ) from error

    def fill(self, model: Any) -> None:
        """Copies the matching layers into a network, and reports their number."""
        layers = list(_layers(model))
        copied = sum(self._fill(key, layer) for key, layer in layers)
        self.report |= {"layers_copied": copied, "layers": len(layers)}

    def class_weights(self) -> tuple[Array, Array] | None:
        """Kernel (width, classes) and bias of the last layer, with zeros for new classes; None without such a layer."""
        kernel, bias = self.layers.get(CLASS_LAYERS, [np.zeros((0, 0))] * 2)
        if kernel.ndim != 2 or not kernel.size:
            return None
        blank = np.zeros((len(kernel), len(self.numbers)), np.float32)
        return self._by_class(blank, kernel), self._by_class(blank[0], bias)

    def _fill(self, key: str, layer: Any) -> bool:
        now, given = layer.get_weights(), self.layers.get(key)
        if given is None or len(given) != len(now):
            return False
        pairs = list(zip(now, given, strict=True))
        if key.endswith(CLASS_LAYERS) and all(ours.shape[:-1] == theirs.shape[:-1] for ours, theirs in pairs):
            layer.set_weights([self._by_class(ours, theirs) for ours, theirs in pairs])
            return True
        if any(ours.shape != theirs.shape for ours, theirs in pairs):
            return False
        layer.set_weights(given)
        return True

    def _by_class(self, ours: Array, theirs: Array) -> Array:
        result = ours.copy()
        for index, number in enumerate(self.numbers):
            if number is not None and number < theirs.shape[-1]:
                result[..., index] = theirs[..., number]
        return result


def begin(results: Path, parameters: Mapping[str, Any], found: Findings, task_id: str) -> WarmStart | None:
    """None without the parameter. Marks the images that the earlier model knows. Raises `Invalid`."""
    given = parameters.get(PARAMETER, NONE)
    if given == NONE:
        return None
    earlier = find(results, given, found.train_type)
    if earlier.task_id == task_id:
        raise Invalid(f"{PARAMETER}: a task can't start from its own result. Give the id of another task.")
    warm = WarmStart(earlier, found)
    found.images = warm.separated(found.images)
    return warm


@dataclass
class Uses:
    """What became of the warm start in a run: `backbone` is that of the delivered model."""

    warm: WarmStart
    backbone: str
    measured: Sequence[ImageFile]
    notes: list[str] = field(default_factory=list)

    def report(self) -> str:
        """Completes the report and the notes, and returns what the verdict has to add, or nothing."""
        warm, earlier = self.warm, self.warm.earlier
        is_reused = self.backbone == earlier.backbone
        caveat = self._caveat() if is_reused else ""
        warm.report |= {"reused": is_reused, "measured_on_known_images": bool(caveat)}
        self.notes.append(_sentence(warm.report, earlier))
        if caveat:
            self.notes.append(f"The figures are too good: {caveat}.")
        return caveat

    def _caveat(self) -> str:
        earlier = self.warm.earlier
        if self.warm.measures_unseen or (earlier.learnt is not None and earlier.learnt.frozen):
            return ""
        if earlier.learnt is None:
            return f"task {earlier.task_id}, from which it started, may have been trained on the measured images"
        known = set(earlier.learnt.images)
        count = sum(image.digest in known for image in self.measured)
        share = f"{count} of the {len(self.measured)} measured images"
        return f"task {earlier.task_id}, from which it started, was trained on {share}" if count else ""


def remember(folder: Path, images: Sequence[ImageFile], warm: WarmStart | None, *, frozen: bool) -> None:
    """Writes which images the model has learnt from, for a later warm start. Raises `OSError`."""
    learnt = Learnt(sorted({image.digest for image in images}), frozen)
    if warm is not None:
        theirs = warm.earlier.learnt
        if theirs is None:  # unknown, so not recorded
            return
        learnt = Learnt(sorted({*learnt.images, *theirs.images}), frozen and theirs.frozen)
    (folder / LEARNT_FILE).write_bytes(msgspec.json.encode(learnt))


def _layers(model: Any) -> Iterator[tuple[str, Any]]:
    """Each layer that has weights, also those of networks within, with a name that is the same in every process.

    Keras numbers layers without a name of their own over all networks of a process; here within each network.
    """
    unnamed: Counter[str] = Counter()
    for layer in _flat(model):
        if not layer.weights:
            continue
        base = re.sub(r"_\d+$", "", layer.name)
        if base.replace("_", "") == type(layer).__name__.lower():
            yield f"{base}#{unnamed[base]}", layer
            unnamed[base] += 1
        else:
            yield layer.name, layer


def _flat(model: Any) -> Iterator[Any]:
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _flat(layer)
        else:
            yield layer


def _sentence(report: Mapping[str, Any], earlier: Earlier) -> str:
    if not report["reused"]:
        return (
            f"Warm start: the delivered model uses nothing of task {earlier.task_id} ({earlier.backbone}), because"
            " another candidate was better."
        )
    parts = [f"Warm start: continued from the {earlier.backbone} network of task {earlier.task_id}"]
    if "layers" in report:
        parts.append(f"{report['layers_copied']} of {report['layers']} layers copied")
    for what in ("kept", "new", "dropped"):
        if names := report[f"classes_{what}"]:
            parts.append(f"classes {what}: {', '.join(names[:20])}" + (", …" if len(names) > 20 else ""))
    return "; ".join(parts) + "."
