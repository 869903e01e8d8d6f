"""Checks the real location of a project's folders, and whether a result can be written to its folder `models`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tfserve.archives import unpacking

MODELS = "models"
LATEST = "latest"
METRICS_FILE, KERAS_FILE = "metrics.json", "model.keras"
"""Parts of each result."""
FEEDBACK = f"{MODELS}/feedback"
"""Images with corrected labels, in a folder for each. They override the labels of identical images in the project."""


class Bounds:
    """The folders that may be read and written. Links are checked by their target; without roots all are allowed."""

    def __init__(self, roots: Sequence[str | Path]) -> None:
        self._roots = [Path(root) for root in roots]

    def contain(self, path: Path) -> bool:
        real = Path(os.path.realpath(path))
        return not self._roots or any(real.is_relative_to(root) for root in self._roots)

    def problems(self, path: Path) -> list[str]:
        """The problem with a path that leads outside."""
        if self.contain(path):
            return []
        return [
            f"{path} leads to {os.path.realpath(path)}, outside the folders that this server may use:"
            f" {', '.join(map(str, self._roots))}. Put the files themselves there."
        ]


def problems_of_results(project: Path) -> list[str]:
    """Why no result could be published in `models`. What is there is never removed, unless it is our link."""
    models = project / MODELS
    if os.path.lexists(models) and not models.is_dir():
        return [f"{models} is not a folder, but results are written to a folder with this name. Rename or remove it."]
    folder = models if models.is_dir() else project
    if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        return [f"{folder} is not writable for this server, but results are written to {models}."]
    if is_in_the_way(models / LATEST):
        return [f"{models / LATEST} is not a link, but the link to the newest result goes there. Rename or remove it."]
    return []


def is_in_the_way(latest: Path) -> bool:
    """Whether `latest` is something of the user's."""
    return os.path.lexists(latest) and not latest.is_symlink()


def results_folder(project: Path) -> Path:
    """The folder that has `models`: the project, or for `flowers.zip` the folder `flowers` next to it."""
    return unpacking.without_suffix(project) if is_archive(project) else project


def is_archive(project: Path) -> bool:
    """Whether the project is a zip or tar file instead of a folder, even if it has been deleted."""
    return unpacking.is_archive(project.name) and not project.is_dir()
