"""Is the job of a request a script or the path of one?"""

from __future__ import annotations

from pathlib import Path

import pytest

from tfserve.errors import Invalid
from tfserve.protocols.tfserve import script_or_file

SCRIPTS = [
    "x = 1",
    "print('hello')",
    "print(1)",
    "import tensorflow as tf",
    "import os\nprint(os.getcwd())",
    "# a comment\n",
    "# %% a cell\nx = 1",
    "\ufeffx = 1\ny = 2",
    "for i in range(3): print(i)",
    "x: int = 3",
    "def f(x): return",
    "print('unfinished",
    "model.fit(x, y)",
    "model = keras.Sequential([])",
    "raise ValueError",
    "[n for n in y]",
    "a\r\nb",
    "x = 1\n" * 100_000,
    "lambda: 0",
    "await f()",
    "x=1;y=2",
    "''",
]
PATHS = [
    "train.py",
    "./train.py",
    "/data/train.py",
    "~/train.py",
    "my project/train (1).py",
    "my-script.py",
    "jobs/2024/train-v2",
    "/data/jobs/train",
    "job",
    "no such file",
    "../x.py",
    "naïve/größe.py",
    "C:\\jobs\\train.py",
    "data/import/run",
    "%2e%2e/x",
    "a" * 5000,
]


@pytest.mark.parametrize("text", SCRIPTS, ids=lambda text: repr(text[:20]))
def test_a_script_where_a_file_was_expected_is_named_as_one(text: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="this looks like a script: send type 1"):
        script_or_file.check_file(text, tmp_path)
    script_or_file.check_text(text, tmp_path)


@pytest.mark.parametrize("path", PATHS, ids=lambda text: repr(text[:20]))
def test_a_path_is_no_script(path: str, tmp_path: Path) -> None:
    script_or_file.check_file(path, tmp_path)


@pytest.mark.parametrize("path", [path for path in PATHS if path.endswith(".py")])
def test_the_path_of_a_python_file_is_no_script(path: str, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="this looks like the path of a file: send type 0"):
        script_or_file.check_text(path, tmp_path)


def test_a_file_that_exists_is_a_file_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "x = 1").touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "train").touch()
    script_or_file.check_file("x = 1", tmp_path)
    with pytest.raises(Invalid, match="send type 0"):
        script_or_file.check_text("sub/train", tmp_path)


def test_an_expression_with_a_slash_is_a_script(tmp_path: Path) -> None:
    script_or_file.check_text("a/b", tmp_path)
    script_or_file.check_text("x", tmp_path)
