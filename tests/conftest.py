"""Setup for all tests."""

from __future__ import annotations

import os
from pathlib import Path

# Two tests run at a time, often one that trains beside one that waits for something else.
os.environ.setdefault("TFSERVE_TRAIN_NICE", "0")

# Servers and workers run the code of this checkout, wherever the package is installed from.
_CHECKOUT = Path(__file__).parent.parent
_PACKAGES = str(_CHECKOUT), str(_CHECKOUT / "clients" / "python")
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [*_PACKAGES, os.environ.get("PYTHONPATH")]))
