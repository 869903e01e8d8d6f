"""EfficientNet-Lite0 with the weights of its package knows photographs that it never saw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfserve.errors import Invalid
from tfserve.training.fit import backbones, efficientnet_lite, pretrained

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


def test_a_description_has_the_features_of_the_last_layer_and_of_an_earlier_one() -> None:
    choice = pretrained.choose("efficientnet-lite0", "auto")
    images = np.random.default_rng(1).integers(0, 255, (2, 96, 96, 3)).astype(np.float32)
    described, widths = backbones.descriptions(choice, (96, 96))
    rows = np.asarray(described(images))
    assert rows.shape == (2, sum(widths))
    last = np.asarray(backbones.features(choice, (96, 96))(images))
    assert rows[:, : widths[0]] == pytest.approx(last, abs=1e-3)
    early = rows[:, widths[0] :]
    assert 0.1 < np.ptp(early) / np.ptp(last) < 10, "in 8 bits, both have the same steps"


def test_weights_of_another_network_are_refused(tmp_path: Path, network: Any) -> None:
    other = tmp_path / "other.pth"
    other.write_bytes(b"not weights")
    with pytest.raises(Invalid, match="is not a PyTorch state dict"):
        efficientnet_lite.load(network, other)
