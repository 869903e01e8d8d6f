"""Checks of a declared model that its types can't express, for all sources."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tfserve.errors import Invalid, nearest
from tfserve.ipc.messages import MAX_SERVED_VERSIONS, DeclaredModel
from tfserve.paths import resolve
from tfserve.workspace_names import new_workspace_name

MAX_LABEL = 100
MAX_NAME = 80
"""Shorter than that of a workspace, whose name has the number of a version as well."""


def check_name(name: str) -> str:
    """The name in its normal form. Raises `Invalid`."""
    normal = new_workspace_name(name)
    if len(normal) > MAX_NAME:
        raise Invalid(f"expected a name of at most {MAX_NAME} characters, got {len(normal)}")
    return normal


def check_model(model: DeclaredModel, *, start: Path, roots: Sequence[Path]) -> DeclaredModel:
    """The model with an absolute path. Raises `Invalid` with the name of the field."""
    try:
        resolve(model.path, start=start, roots=roots)
    except Invalid as error:
        raise Invalid(error.message, field="path") from None
    _ = model.options  # raises `Invalid` for sizes and limits that make no sense
    _check_versions(model)
    _check_labels(model)
    _check_default(model)
    return msgspec.structs.replace(model, path=os.path.normpath(start / model.path))


def _check_versions(model: DeclaredModel) -> None:
    if not isinstance(model.versions, list):
        return
    if not model.versions:
        raise Invalid("expected at least one version number, got []", field="versions")
    if twice := [each for each in model.versions if model.versions.count(each) > 1]:
        raise Invalid(f"version {twice[0]} is listed twice", field="versions")
    if len({*model.versions, *model.labels.values()}) > MAX_SERVED_VERSIONS:
        raise Invalid(f"expected at most {MAX_SERVED_VERSIONS} versions and labels together", field="versions")


def _check_labels(model: DeclaredModel) -> None:
    for label in model.labels:
        if not 0 < len(label) <= MAX_LABEL or "/" in label or ":" in label or not label.isprintable():
            raise Invalid(
                f"expected labels of 1 to {MAX_LABEL} characters without '/' and ':', got {label[:MAX_LABEL]!r}",
                field="labels",
            )
    if len(set(model.labels.values())) > MAX_SERVED_VERSIONS:
        raise Invalid(f"expected labels for at most {MAX_SERVED_VERSIONS} versions", field="labels")


def _check_default(model: DeclaredModel) -> None:
    default = model.default
    if isinstance(default, str) and default not in model.labels:
        known = ", ".join(map(repr, model.labels)) or "none"
        raise Invalid(
            f"expected one of the labels ({known}) or a version number, got {default[:MAX_LABEL]!r}"
            f"{nearest(default, model.labels)}",
            field="default",
        )
    if isinstance(default, int) and default not in fixed_versions(model):
        raise Invalid(f"expected one of the listed or labelled versions, got {default}", field="default")


def fixed_versions(model: DeclaredModel) -> set[int]:
    """The versions that are declared by number."""
    listed = model.versions if isinstance(model.versions, list) else []
    return {*listed, *model.labels.values()}


def default_version(model: DeclaredModel) -> int | None:
    """The declared version for requests that name none; None for the newest one served."""
    return model.labels[model.default] if isinstance(model.default, str) else model.default
