"""A page that runs the trained model in a browser, from any static web server: `models/<task>/web/`."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = "web"
MODEL = "model.onnx"
_FILES = Path(__file__).parent / FOLDER
_DESCRIBED = ("task", "height", "width", "labels")


def write(folder: Path, onnx: Path, image: Mapping[str, Any], *, title: str, about: str, display: list[str]) -> None:
    """Writes the page into `folder`. `image` describes the model's input, in the words of `runtimes.image_spec`.

    Raises `OSError`.
    """
    shutil.copytree(_FILES, folder, ignore=shutil.ignore_patterns("README.md"))
    shutil.copyfile(onnx, folder / MODEL)
    model = {name: image[name] for name in _DESCRIBED}
    model |= {"title": title, "about": about, "display": display or image["labels"]}
    (folder / "model.json").write_text(json.dumps(model, ensure_ascii=False, indent=1))
