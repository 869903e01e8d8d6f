"""Setup for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests import databases

# Three tests run at a time, often one that trains beside one that waits for something else.
os.environ.setdefault("TFSERVE_TRAIN_NICE", "0")
# Most tests start a server of their own, which would load TensorFlow for nothing: 2 s of a core.
os.environ.setdefault("TFSERVE_WARM_SPARE", "0")

# Servers and workers run the code of this checkout, wherever the package is installed from.
_CHECKOUT = Path(__file__).parent.parent
_PACKAGES = str(_CHECKOUT), str(_CHECKOUT / "clients" / "python")
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [*_PACKAGES, os.environ.get("PYTHONPATH")]))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Some tests are about SQLite's file."""
    if databases.are_postgresql():
        for item in items:
            if item.get_closest_marker("sqlite"):
                item.add_marker(pytest.mark.skip(reason="is about the file of SQLite"))


def pytest_unconfigure() -> None:
    databases.stop()
