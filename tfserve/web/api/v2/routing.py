"""The model version that a path of version 2 names."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import unquote

MODELS, INFER, VERSIONS = "/v2/models/", "/infer", "/versions/"


class ModelAddress(NamedTuple):
    """A model, and the version as it is in the path."""

    name: str
    version: str | None


def infer_target(raw_path: str) -> tuple[ModelAddress, bool]:
    """What the percent-encoded path of an inference names, and whether that is a certain version."""
    name, slash, version = unquote(raw_path)[len(MODELS) : -len(INFER)].partition(VERSIONS)
    return ModelAddress(name, version if slash else None), bool(slash)
