"""What Keras imports for functions that few call is imported when they are called, and works then."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # each test imports TensorFlow in a new process

BEGIN = """
import sys
from tfserve.worker import deferred_imports
deferred_imports.install()
"""
AS_USUAL = """
import keras, matplotlib, matplotlib.pyplot, rich.console, sklearn.base
assert matplotlib.__file__ and matplotlib.pyplot.figure and rich.console.Console().width
assert issubclass(keras.wrappers.SKLearnClassifier, sklearn.base.BaseEstimator)
model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, name="only one")])
model.summary()
import numpy, matplotlib
matplotlib.use("agg")
keras.visualization.plot_image_gallery(numpy.zeros((4, 8, 8, 3)), value_range=(0, 1), rows=2, cols=2, path="images.png")
"""


def run(script: str, folder: Path) -> str:
    ended = subprocess.run(
        [sys.executable, "-c", BEGIN + script], capture_output=True, text=True, check=False, timeout=120, cwd=folder,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "TF_CPP_MIN_LOG_LEVEL": "2"},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.parametrize("first", ["tensorflow", "keras"])
def test_a_process_that_imports_tensorflow_does_without_them_until_they_are_used(first: str, tmp_path: Path) -> None:
    unused = "print(sorted({'matplotlib', 'rich', 'sklearn'} & sys.modules.keys()))"
    shown = run(f"import {first}\n{unused}\n{AS_USUAL}", tmp_path)
    assert shown.startswith("[]\n"), "nothing of them is imported"
    assert "only one" in shown
    assert (tmp_path / "images.png").stat().st_size > 0


def test_what_a_script_has_imported_before_is_used(tmp_path: Path) -> None:
    assert "only one" in run(f"import matplotlib.pyplot, rich.table, sklearn, tensorflow{AS_USUAL}", tmp_path)


def test_what_can_not_be_imported_is_named_when_it_is_used(tmp_path: Path) -> None:
    for package in ("matplotlib", "sklearn"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text(f"raise ImportError('no {package} here')")
    shown = run(
        f"""
sys.path.insert(0, {str(tmp_path)!r})
import keras, numpy
gallery = lambda: keras.visualization.plot_image_gallery(numpy.zeros((4, 8, 8, 3)), value_range=(0, 1))
for call in (gallery, lambda: keras.wrappers.SKLearnClassifier(keras.Sequential())):
    try:
        call()
    except ImportError as error:
        print(error)
""",
        tmp_path,
    )
    assert "matplotlib" in shown
    assert "scikit-learn" in shown or "sklearn" in shown
