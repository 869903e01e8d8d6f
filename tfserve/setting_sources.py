"""Where the operator of a server has set its settings: in the environment or on the command line."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from tfserve.config import Settings, environment_name, parse_setting
from tfserve.errors import Invalid

SOURCES = "TFSERVE_SETTING_SOURCES"


def with_sources(settings: Settings, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment variable in which `sources` finds where the operator has set these settings."""
    chosen = [each.name for each in dataclasses.fields(settings) if getattr(settings, each.name) != each.default]
    in_environment = {each.name for each in dataclasses.fields(settings) if _is_from(environ, each, settings)}
    words = [f"{name}={'environment' if name in in_environment else 'command line'}" for name in chosen]
    return {SOURCES: ",".join(words)}


def _is_from(environ: Mapping[str, str], each: dataclasses.Field[Any], settings: Settings) -> bool:
    """Whether the environment has the value of a setting. The command line may override it, even if it is invalid."""
    raw = environ.get(environment_name(each.name))
    try:
        return raw is not None and bool(parse_setting(each, raw) == getattr(settings, each.name))
    except Invalid:
        return False


def sources(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """`environment` or `command line` for each setting that the operator of this server has changed."""
    return dict(each.split("=", 1) for each in environ.get(SOURCES, "").split(",") if each)
