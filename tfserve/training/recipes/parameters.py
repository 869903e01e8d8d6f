"""The parameters of a training: one table per train type.

Defaults, checks and the listing for callers are made from these tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tfserve import colours
from tfserve.errors import Invalid, nearest
from tfserve.training.fit.budget import EFFORTS, seconds_of

MOBILE_NET, EFFICIENT_NET, SMALL_NET = "MobileNetV2", "EfficientNetB0", "MobileNetV3Small"
LITE_NET = "efficientnet-lite0"
UNET = "unet"


class Parameter(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One parameter. `words` are accepted in addition to values of the type, or instead."""

    name: str
    type: str
    default: Any
    help: str
    minimum: float | None = None
    maximum: float | None = None
    words: tuple[str, ...] = ()

    def problem(self, value: Any) -> str | None:
        """The problem with a value that is not accepted."""
        if isinstance(value, str) and value in self.words:
            return None
        if not _fits(self.type, value):
            return f"{self.name}: expected {self.expected()}, got {value!r}."
        too_small = self.minimum is not None and not value >= self.minimum
        too_large = self.maximum is not None and not value <= self.maximum
        if too_small or too_large:
            return f"{self.name}: expected {self.expected()}; {value!r} is out of range."
        return None

    def expected(self) -> str:
        words = " or ".join(repr(word) for word in self.words)
        named = {
            "integer": "an integer", "number": "a number", "boolean": "true or false", "path": "a path",
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
    _integer("seed", 1, 0, 2**31 - 1, "seed of everything random: split, initial weights, augmentation"),
    _number("validation_split", 0.2, 0.05, 0.9, "share of each class that is held out in a fold to measure the model"),
)
_EPOCHS = _integer(
    "epochs", "auto", 1, 10_000, "maximum passes over the training images; auto: by their number", ("auto",)
)
_BACKGROUND = Parameter(
    name="background",
    type="colour",
    default="white",
    help="background for transparent images, in training and serving: a colour name or #rrggbb",
)
_LIMITS = (
    _integer(
        "patience",
        10,
        1,
        1000,
        "epochs without a better loss before training stops, but at least 300 steps and a third of the schedule",
    ),
    _choice("resume", "auto", ("auto", "never"), "auto: continue from the last checkpoint of this task"),
    _integer("threads", 2, 1, 256, "number of compute threads"),
    _choice("exports", "all", ("all", "saved_model"), "all: also LiteRT and ONNX, each compared with the original"),
)
_GROUPS = Parameter(
    name="groups", type="text", default="auto", words=("auto", "none"),
    help="keeps images of one scene on one side of the split: a column of the table of images, or a regular"
    r" expression with a group, such as ^(.+)_\d+, that is searched for in their paths; auto: a column named group",
)  # fmt: skip
_GROUPS_OF_PATHS = msgspec.structs.replace(
    _GROUPS,
    help="keeps images of one scene on one side of the split: a regular expression with a group, such as ^(.+)_\\d+,"
    " that is searched for in their paths; auto: copies that Roboflow, Augmentor or an augmentation made of an image",
)
_WARM_START = Parameter(
    name="warmStart", type="text", default="none", words=("none",),
    help="id of a finished task of the same train type whose model the training starts from; classes are matched by"
    " name, so new ones are allowed; latest: the newest task of this project",
)  # fmt: skip
_RANDOM = (
    Parameter(
        name="mirror", type="boolean", default=False,
        help="also train on horizontally mirrored images; not for text or anything else with a direction",
    ),
    _number("rotation", 10.0, 0, 180, "maximum random rotation in training, in degrees"),
    _number("shift", 0.08, 0, 0.5, "maximum random shift, as a fraction of the image size"),
    _number("zoom", 0.1, 0, 0.5, "maximum random zoom in or out, as a fraction"),
    _number("brightness", 0.1, 0, 1, "maximum random change of brightness, as a fraction"),
)  # fmt: skip

_BUDGET = Parameter(
    name="budget", type="duration", default="auto", words=("auto",),
    help="time limit for the whole run, such as 60s or 10m; the result depends on the speed of the machine",
)  # fmt: skip

CLASSIFICATION = (
    *_SPLIT,
    _EPOCHS,
    _integer("batch_size", "auto", 1, 1024, "images per step; auto: by their number", ("auto",)),
    _number("learning_rate", "auto", 1e-7, 100, "peak of the schedule; auto: by the backbone", ("auto",)),
    _integer("image_size", "auto", 16, 1024, "larger side in pixels; auto: from the images", ("auto",)),
    _choice(
        "backbone", "auto", ("auto", "compact", LITE_NET, MOBILE_NET, EFFICIENT_NET, SMALL_NET),
        "auto: the best of a linear head on ImageNet features, the same network fine-tuned, and a compact network from"
        " scratch; otherwise only candidates with that network",
    ),
    Parameter(
        name="weights", type="path", default="auto", words=("auto",),
        help="file with the backbone's weights: Keras .h5 without the top, or EfficientNet-Lite0 .pth",
    ),
    _choice("effort", "balanced", EFFORTS, "effort of the search for the best candidate"),
    _BUDGET,
    _BACKGROUND,
    _GROUPS,
    _WARM_START,
    *_RANDOM,
    _choice("class_weights", "auto", ("auto", "none"), "auto: give small classes more weight if unbalanced"),
    Parameter(
        name="unlabelled", type="path", default="auto", words=("auto",),
        help="folder of unlabelled images, to list those to label next; auto: `unlabelled` in the project",
    ),
    Parameter(
        name="explain", type="boolean", default=False,
        help="also plot which parts of an image decide the prediction, for mistakes and uncertain predictions",
    ),
    *_LIMITS,
)  # fmt: skip

SEGMENTATION = (
    *_SPLIT,
    _EPOCHS,
    _integer("batch_size", "auto", 1, 256, "images per step; auto: by their size", ("auto",)),
    _number("learning_rate", "auto", 1e-7, 100, "peak of the schedule", ("auto",)),
    _integer("image_size", "auto", 16, 1024, "larger side in pixels; auto: from the images", ("auto",)),
    _choice(
        "backbone", "auto", ("auto", LITE_NET, UNET),
        "auto: the best of heads on ImageNet features and a U-Net from scratch; otherwise only one of the two",
    ),
    Parameter(
        name="weights", type="path", default="auto", words=("auto",),
        help="file with the backbone's weights: EfficientNet-Lite0 .pth",
    ),
    _choice("effort", "balanced", EFFORTS, "effort of the search for the best candidate"),
    _BUDGET,
    _integer("filters", 16, 4, 64, "filters of the U-Net's first convolutions; more after each downsampling"),
    _number("dice_weight", 0.5, 0, 1, "share of Dice in the loss; the rest is cross-entropy"),
    _choice("class_weights", "auto", ("auto", "none"), "auto: weight pixels of rare classes higher"),
    _BACKGROUND,
    _integer(
        "ignore", "auto", 1, 255, (
            "mask value of pixels that belong to no class; auto: 255 if the other values are class"
            " numbers"
        ),
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
    _integer("batch_size", 8, 1, 256, "images per step"),
    _number("learning_rate", "auto", 1e-7, 100, "peak of the schedule", ("auto",)),
    _integer(
        "image_size", "auto", 64, 1024, "larger side in pixels; auto: from the images and their objects", ("auto",)
    ),
    _choice(
        "backbone", "auto", ("auto", LITE_NET, "scratch"),
        "auto: EfficientNet-Lite0 with its ImageNet weights; scratch: the same network without them",
    ),
    _choice("effort", "balanced", EFFORTS, "length of the training if `epochs` is auto"),
    _BUDGET,
    _BACKGROUND,
    _GROUPS_OF_PATHS,
    _WARM_START,
    Parameter(
        name="mosaic", type="boolean", default=True,
        help="also train on mosaics of four images, so that objects appear on other backgrounds",
    ),
    Parameter(
        name="mirror", type="boolean", default=True,
        help="also train on horizontally mirrored images; not for text or anything else with a direction",
    ),
    _number("rotation", 0.0, 0, 45, "maximum random rotation in training, in degrees; boxes become looser"),
    _number("shift", 0.1, 0, 0.5, "maximum random shift, as a fraction of the image size"),
    _number("zoom", 0.25, 0, 0.7, "maximum random zoom in or out, as a fraction"),
    _number("brightness", 0.2, 0, 1, "maximum random change of brightness, as a fraction"),
    *_LIMITS[1:],
)  # fmt: skip

TABLES = {"classification": CLASSIFICATION, "segmentation": SEGMENTATION, "detection": DETECTION}

NOT_IN_THE_RESULT = frozenset({"resume", "threads", "unlabelled", "explain"})
"""Parameters that may differ when a training continues from a checkpoint."""


def train_type(name: str) -> str:
    """The train type by its name in any case. Raises `Invalid`."""
    if (known := name.strip().lower()) in TABLES:
        return known
    names = " or ".join(TABLES)
    raise Invalid(f"trainType: expected {names}, got {name[:100]!r}{nearest(known, TABLES)}")


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

    Raises `Invalid`, which lists all unknown names and wrong values at once.
    """
    known = {each.name: each for each in TABLES[kind]}
    problems = [f"{name}: unknown parameter{nearest(name, known)}." for name in given if name not in known]
    problems += [problem for name in given if name in known and (problem := known[name].problem(given[name]))]
    if problems:
        there_is = [f"Parameters of a {kind}: {', '.join(known)}."] if given.keys() - known.keys() else []
        raise Invalid(" ".join(problems + there_is), parameters=problems)
    return {name: given.get(name, each.default) for name, each in known.items()}


def listing() -> dict[str, list[dict[str, Any]]]:
    """The parameters of each train type, as JSON."""
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
