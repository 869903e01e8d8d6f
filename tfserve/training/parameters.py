"""What can be chosen for a training: one table for each train type.

Defaults, checks and the listing for callers are made from these tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tfserve import colours
from tfserve.errors import Invalid, nearest
from tfserve.training.budget import EFFORTS, seconds_of

MOBILE_NET, EFFICIENT_NET, SMALL_NET = "MobileNetV2", "EfficientNetB0", "MobileNetV3Small"
LITE_NET = "efficientnet-lite0"
UNET = "unet"


class Parameter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing to choose. `words` are taken beside, or instead of, values of the type."""

    name: str
    type: str
    default: Any
    help: str
    minimum: float | None = None
    maximum: float | None = None
    words: tuple[str, ...] = ()

    def problem(self, value: Any) -> str | None:
        """A sentence when the value can't be taken."""
        if isinstance(value, str) and value in self.words:
            return None
        if not _fits(self.type, value):
            return f"{self.name}: {self.expected()} was expected, {value!r} was given."
        too_small = self.minimum is not None and not value >= self.minimum
        too_large = self.maximum is not None and not value <= self.maximum
        if too_small or too_large:
            return f"{self.name}: {self.expected()} was expected, {value!r} is out of range."
        return None

    def expected(self) -> str:
        words = " or ".join(repr(word) for word in self.words)
        named = {
            "integer": "a whole number", "number": "a number", "boolean": "true or false", "path": "a path",
            "colour": "a colour's name or #rrggbb", "duration": "a time such as 60s or 10m",
        }  # fmt: skip
        typed = named.get(self.type, "a text" if self.type == "text" else "")
        if self.minimum is not None:
            typed += f" from {self.minimum:g} to {self.maximum:g}"
        return " or ".join(filter(None, (typed, words)))


def _integer(name: str, default: Any, low: int, high: int, text: str, words: tuple[str, ...] = ()) -> Parameter:
    return Parameter(name=name, type="integer", default=default, minimum=low, maximum=high, help=text, words=words)


def _number(name: str, default: Any, low: float, high: float, text: str, words: tuple[str, ...] = ()) -> Parameter:
    return Parameter(name=name, type="number", default=default, minimum=low, maximum=high, help=text, words=words)


def _choice(name: str, default: str, words: tuple[str, ...], text: str) -> Parameter:
    return Parameter(name=name, type="choice", default=default, words=words, help=text)


_SPLIT = (
    _integer("seed", 1, 0, 2**31 - 1, "everything random follows from it: split, first weights, augmentation"),
    _number(
        "validation_split", 0.2, 0.05, 0.9, "share of each class that is held out in a fold to measure how good it is"
    ),
)
_EPOCHS = _integer(
    "epochs", "auto", 1, 10_000, "passes over the training images, at most; auto: by their number", ("auto",)
)
_BACKGROUND = Parameter(
    name="background",
    type="colour",
    default="white",
    help="what transparent images are composited over, in training and serving: a colour's name or #rrggbb",
)
_LIMITS = (
    _integer(
        "patience",
        10,
        1,
        1000,
        "epochs without a better loss after which a training stops, but at least 300 steps and a third of the schedule",
    ),
    _choice("resume", "auto", ("auto", "never"), "auto: go on from the last checkpoint of this task"),
    _integer("threads", 2, 1, 256, "threads that compute"),
    _choice("exports", "all", ("all", "saved_model"), "all: also LiteRT and ONNX, each compared with the original"),
)
_GROUPS = Parameter(
    name="groups", type="text", default="auto", words=("auto", "none"),
    help="images of one scene, which stay on one side of the split: a column of a table of images, or a regular"
    r" expression with a group, such as ^(.+)_\d+, searched for in their paths; auto: a column named group",
)  # fmt: skip
_WARM_START = Parameter(
    name="warmStart", type="text", default="none", words=("none",),
    help="id of a finished task of the same train type, whose model the training starts from; classes are matched by"
    " name, so there may be new ones; latest: the newest of this project",
)  # fmt: skip
_RANDOM = (
    Parameter(
        name="mirror", type="boolean", default=False,
        help="also show images mirrored left to right; not for text or anything with a right and a wrong side",
    ),
    _number("rotation", 10.0, 0, 180, "images are turned by up to so many degrees while training"),
    _number("shift", 0.08, 0, 0.5, "and moved by up to this share of their size"),
    _number("zoom", 0.1, 0, 0.5, "and made smaller or larger by up to this share"),
    _number("brightness", 0.1, 0, 1, "and made darker or lighter by up to this share"),
)  # fmt: skip

_BUDGET = Parameter(
    name="budget", type="duration", default="auto", words=("auto",),
    help="time for the whole run on this machine, such as 60s or 10m; the result depends on the machine",
)  # fmt: skip

CLASSIFICATION = (
    *_SPLIT,
    _EPOCHS,
    _integer("batch_size", "auto", 1, 1024, "images in a step; auto: by their number", ("auto",)),
    _number("learning_rate", "auto", 1e-7, 100, "the highest of the schedule; auto: by the backbone", ("auto",)),
    _integer("image_size", "auto", 16, 1024, "pixels of the larger side; auto: from the images", ("auto",)),
    _choice(
        "backbone", "auto", ("auto", "compact", LITE_NET, MOBILE_NET, EFFICIENT_NET, SMALL_NET),
        "auto: the best of a linear head on ImageNet features, the same network fine-tuned, and a compact network from"
        " scratch; else only those with that network",
    ),
    Parameter(
        name="weights", type="path", default="auto", words=("auto",),
        help="file with the backbone's weights: .h5 of Keras without the top, .pth of EfficientNet-Lite0",
    ),
    _choice("effort", "balanced", EFFORTS, "how much work goes into finding the best candidate"),
    _BUDGET,
    _BACKGROUND,
    _GROUPS,
    _WARM_START,
    *_RANDOM,
    _choice("class_weights", "auto", ("auto", "none"), "auto: classes with few images count more when unbalanced"),
    Parameter(
        name="unlabelled", type="path", default="auto", words=("auto",),
        help="folder of images without labels, to list those to label next; auto: `unlabelled` in the project",
    ),
    Parameter(
        name="explain", type="boolean", default=False,
        help="also draw which parts of an image the answers depend on, for mistakes and uncertain answers",
    ),
    *_LIMITS,
)  # fmt: skip

SEGMENTATION = (
    *_SPLIT,
    _EPOCHS,
    _integer("batch_size", "auto", 1, 256, "images in a step; auto: by their size", ("auto",)),
    _number("learning_rate", "auto", 1e-7, 100, "the highest of the schedule", ("auto",)),
    _integer("image_size", "auto", 16, 1024, "pixels of the larger side; auto: from the images", ("auto",)),
    _choice(
        "backbone", "auto", ("auto", LITE_NET, UNET),
        "auto: the best of heads on ImageNet features and a U-Net from scratch; else only those of one of them",
    ),
    Parameter(
        name="weights", type="path", default="auto", words=("auto",),
        help="file with the backbone's weights: .pth of EfficientNet-Lite0",
    ),
    _choice("effort", "balanced", EFFORTS, "how much work goes into finding the best candidate"),
    _BUDGET,
    _integer("filters", 16, 4, 64, "of the U-Net's first convolutions; more after each halving of the size"),
    _number("dice_weight", 0.5, 0, 1, "share of Dice in the loss, the rest is cross-entropy"),
    _choice("class_weights", "auto", ("auto", "none"), "auto: pixels of rare classes count more"),
    _BACKGROUND,
    _integer(
        "ignore", "auto", 1, 255, "value in masks of pixels that belong to no class; auto: 255 next to class numbers",
        ("auto", "none"),
    ),
    _GROUPS,
    _WARM_START,
    *_RANDOM,
    *_LIMITS,
)  # fmt: skip

DETECTION = (
    *_SPLIT,
    _EPOCHS,
    _integer("batch_size", 8, 1, 256, "images in a step"),
    _number("learning_rate", "auto", 1e-7, 100, "the highest of the schedule", ("auto",)),
    _integer(
        "image_size", "auto", 64, 1024, "pixels of the larger side; auto: from the images and their objects", ("auto",)
    ),
    _choice(
        "backbone", "auto", ("auto", LITE_NET, "scratch"),
        "auto: EfficientNet-Lite0 with its ImageNet weights; scratch: the same network without them",
    ),
    _choice("effort", "balanced", EFFORTS, "how long the network learns, if `epochs` is auto"),
    _BUDGET,
    _BACKGROUND,
    _WARM_START,
    Parameter(
        name="mosaic", type="boolean", default=True,
        help="also show parts of four images side by side, so that objects are seen on other backgrounds",
    ),
    Parameter(
        name="mirror", type="boolean", default=True,
        help="also show images mirrored left to right; not for text or anything with a right and a wrong side",
    ),
    _number("rotation", 0.0, 0, 45, "images are rotated by up to so many degrees while training; boxes become looser"),
    _number("shift", 0.1, 0, 0.5, "and moved by up to this share of their size"),
    _number("zoom", 0.25, 0, 0.7, "and made smaller or larger by up to this share"),
    _number("brightness", 0.2, 0, 1, "and made darker or lighter by up to this share"),
    *_LIMITS[1:],
)  # fmt: skip

TABLES = {"classification": CLASSIFICATION, "segmentation": SEGMENTATION, "detection": DETECTION}

NOT_IN_THE_RESULT = frozenset({"resume", "threads", "unlabelled", "explain"})
"""A training may go on from a checkpoint that was made with other values of these."""


def train_type(name: str) -> str:
    """The train type by its name in any case. Raises `Invalid`."""
    if (known := name.strip().lower()) in TABLES:
        return known
    names = " or ".join(TABLES)
    raise Invalid(f"trainType: {names} was expected, {name[:100]!r} was given{nearest(known, TABLES)}")


def names(kind: str) -> list[str]:
    """The parameters of a train type."""
    return [each.name for each in TABLES[kind]]


def parsed(kind: str, name: str, text: str) -> Any:
    """The value of a parameter that was written as text: JSON for numbers and booleans, else the text itself.

    The id of a task stays a text, even if it has digits only.
    """
    typed = next((each.type for each in TABLES.get(kind, ()) if each.name == name), "number")
    try:
        value = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
    return value if typed in ("integer", "number", "boolean") and isinstance(value, (bool, int, float)) else text


def complete(kind: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """A value for every parameter of a train type: the given one, else the default.

    Raises `Invalid` that tells of all unknown names and wrong values at once.
    """
    known = {each.name: each for each in TABLES[kind]}
    problems = [f"{name}: no such parameter{nearest(name, known)}." for name in given if name not in known]
    problems += [problem for name in given if name in known and (problem := known[name].problem(given[name]))]
    if problems:
        there_is = [f"A {kind} has: {', '.join(known)}."] if given.keys() - known.keys() else []
        raise Invalid(" ".join(problems + there_is), parameters=problems)
    return {name: given.get(name, each.default) for name, each in known.items()}


def listing() -> dict[str, list[dict[str, Any]]]:
    """For each train type all that there is to choose, as JSON."""
    return {kind: [msgspec.to_builtins(each) for each in table] for kind, table in TABLES.items()}


def _fits(kind: str, value: Any) -> bool:
    if kind == "boolean":
        return isinstance(value, bool)
    if kind in ("path", "text"):
        return isinstance(value, str) and bool(value) and "\0" not in value
    if kind == "duration":
        return seconds_of(value) is not None
    if kind == "colour":
        return isinstance(value, str) and _is_colour(value)
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    return kind == "number" and isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_colour(text: str) -> bool:
    try:
        colours.colour(text)
    except Invalid:
        return False
    return True
