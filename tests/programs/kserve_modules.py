"""Lets the client of kserve be imported without its server, which would take Kubernetes and more along."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType


def import_client() -> None:
    """After this, `kserve.inference_client` and `kserve.protocol` can be imported."""
    spec = importlib.util.find_spec("kserve")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    package = ModuleType("kserve")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["kserve"] = package
