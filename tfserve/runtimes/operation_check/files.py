"""Decides whether a file that a model names belongs to the model: it must be inside the model's folder."""

from __future__ import annotations

import os
from pathlib import Path, PurePath


def is_inside(name: str, folder: Path, model_file: Path) -> bool:
    """Whether `folder/name` is a file inside the folder, also after links have been followed."""
    return not leaves(name, folder, model_file, may_be_absolute=True) and (folder / name).is_file()


def leaves(name: str, folder: Path, model_file: Path, *, may_be_absolute: bool = False) -> bool:
    """Whether `folder/name` is outside the folder, or would be if it existed.

    In the caches of model hubs every file is a link into one folder. So files in the folder to which the model's own
    file leads also belong to it.
    """
    if any(each in name for each in ("\0", "://", "*")) or ".." in PurePath(name).parts:
        return True
    if PurePath(name).is_absolute() and not (may_be_absolute and PurePath(name).is_relative_to(folder)):
        return True
    target = Path(os.path.realpath(folder / name))
    own = (os.path.realpath(folder), os.path.dirname(os.path.realpath(model_file)))  # noqa: PTH120
    return not any(target.is_relative_to(each) for each in own)
