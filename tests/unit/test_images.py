"""How image files become inputs."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tfserve import runtimes
from tfserve.runtimes import formats, images
from tfserve.runtimes.interface import Runtime
from tfserve.tensors import Array


@pytest.fixture
def numbers(tmp_path: Path) -> Runtime:
    """It gives pixels back, and has a signature for files of its own."""
    pixels = {"pixels": {"dtype": "float32", "shape": [-1, -1, -1, 1]}}
    own = {"image_bytes": {"dtype": "string", "shape": [-1]}}
    path = tmp_path / "numbers.echo"
    path.write_text(json.dumps({"signatures": {"serving_default": pixels, "image_bytes": own}}))
    return runtimes.load(formats.locate(str(path), None), device="/cpu:0", runtime="auto", precision="float32")


def spec(**fields: Any) -> images.ImageSpec | None:
    return images.find(Path(), {"channels": 1, **fields})


def pixels_of(model: Runtime, rows: list[list[int]], **fields: Any) -> Array:
    """What the model is given for a grey picture."""
    file = io.BytesIO()
    Image.fromarray(np.array(rows, np.uint8)).save(file, "PNG")
    reader = images.ImageFiles(model, images.find(Path(), {"channels": 1, **fields}) or images.ImageSpec())
    array, _ = reader._decode(0, file.getvalue())
    return array[:, :, 0]


def test_what_is_given_at_the_deployment_takes_the_place_of_the_models_own_signature(numbers: Runtime) -> None:
    assert images.with_files(numbers, None, is_given=False) is numbers
    assert images.with_files(numbers, spec(), is_given=False) is numbers
    replaced = images.with_files(numbers, spec(), is_given=True)
    assert [each.name for each in replaced.signatures["image_bytes"].outputs] == ["label", "probabilities"]


def test_without_antialias_values_lie_between_the_four_pixels_around(numbers: Runtime) -> None:
    rows = [[0, 10, 20, 30], [40, 50, 60, 70]]
    smaller = pixels_of(numbers, rows, height=1, width=2, antialias=False)
    np.testing.assert_allclose(smaller, [[25, 45]])
    larger = pixels_of(numbers, [[0, 100]], height=1, width=4, antialias=False)
    np.testing.assert_allclose(larger, [[0, 25, 75, 100]])
    same = pixels_of(numbers, rows, antialias=False, scale=0.1, offset=-1)
    np.testing.assert_allclose(same, np.array(rows) / 10 - 1, atol=1e-6)


def test_with_antialias_every_pixel_counts(numbers: Runtime) -> None:
    rows = [[0, 0, 0, 200] * 4] * 4
    assert pixels_of(numbers, rows, height=1, width=1).item() == pytest.approx(50, abs=12)
    assert pixels_of(numbers, rows, height=1, width=1, antialias=False).item() == pytest.approx(100)
