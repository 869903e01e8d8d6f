"""EfficientNet-Lite0 with the weights of its package knows photographs that it never saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfserve.errors import Invalid
from tfserve.training.fit import efficientnet_lite, pretrained

SIDE = 224
CATS, ESPRESSO, MISSILE = {281, 282, 285}, {967}, {657}


@pytest.fixture(scope="module")
def file() -> Path:
    found = pretrained.packaged_weights()
    assert found is not None
    return found


@pytest.fixture(scope="module")
def network(file: Path) -> Any:
    made = efficientnet_lite.network((SIDE, SIDE))
    efficientnet_lite.load(made, file)
    return made


@pytest.mark.parametrize(("name", "classes"), [("chelsea", CATS), ("coffee", ESPRESSO), ("rocket", MISSILE)])
def test_a_photograph_is_known(name: str, classes: set[int], network: Any, file: Path) -> None:
    from PIL import Image
    from skimage import data

    picture = Image.fromarray(getattr(data, name)())
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    square = picture.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    found = efficientnet_lite.classifier_weights(file)
    assert found is not None
    kernel, bias = found
    features = np.asarray(network(np.asarray(square, np.float32)[np.newaxis])).mean((1, 2))
    assert int((features @ kernel + bias).argmax()) in classes


def test_there_is_a_layer_for_a_decoder_at_each_stride(network: Any) -> None:
    sides = {stride: network.get_layer(layer).output.shape[1] for stride, layer in efficientnet_lite.STRIDES.items()}
    assert sides == {stride: SIDE // stride for stride in (4, 8, 16, 32)}


def test_weights_of_another_network_are_refused(tmp_path: Path, network: Any) -> None:
    other = tmp_path / "other.pth"
    other.write_bytes(b"not weights")
    with pytest.raises(Invalid, match="is not a PyTorch state dict"):
        efficientnet_lite.load(network, other)
