"""Where a project's folders really lie, and whether a result can be put into its folder `models`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

MODELS = "models"
LATEST = "latest"
METRICS_FILE, KERAS_FILE = "metrics.json", "model.keras"
"""Parts of each result."""
FEEDBACK = f"{MODELS}/feedback"
"""Images with corrected labels, in a folder for each. They are right, and their twins in the project are wrong."""


class Bounds:
    """The folders that may be read and written. A link is judged by where it leads; without roots all is allowed."""

    def __init__(self, roots: Sequence[str | Path]) -> None:
        self._roots = [Path(root) for root in roots]

    def contain(self, path: Path) -> bool:
        real = Path(os.path.realpath(path))
        return not self._roots or any(real.is_relative_to(root) for root in self._roots)

    def problems(self, path: Path) -> list[str]:
        """A sentence when the path leads outside."""
        if self.contain(path):
            return []
        return [
            f"{path} leads to {os.path.realpath(path)}, outside of the folders that this server may use:"
            f" {', '.join(map(str, self._roots))}. Put the files themselves there."
        ]


def problems_of_results(project: Path) -> list[str]:
    """Why no result could be published in `models`. What is there is never removed, unless it is our link."""
    models = project / MODELS
    if os.path.lexists(models) and not models.is_dir():
        return [f"{models} is no folder, and the result is put into a folder of this name. Rename or remove it."]
    place = models if models.is_dir() else project
    if place.is_dir() and not os.access(place, os.W_OK | os.X_OK, effective_ids=True):
        return [f"{place} can't be written to by this server, and the result is put into {models}."]
    if is_in_the_way(models / LATEST):
        return [f"{models / LATEST} is no link, and a link to the newest result is put there. Rename or remove it."]
    return []


def is_in_the_way(latest: Path) -> bool:
    """Whether `latest` is something of the user's."""
    return os.path.lexists(latest) and not latest.is_symlink()


def results_folder(project: Path) -> Path:
    """The folder that has `models`: the project, or for `flowers.zip` the folder `flowers` next to it."""
    return project.with_suffix("") if is_archive(project) else project


def is_archive(project: Path) -> bool:
    """Whether the project is a zip file, also one that is gone by now, instead of a folder."""
    return project.suffix.lower() == ".zip" and not project.is_dir()
