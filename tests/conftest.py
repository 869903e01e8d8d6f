"""What holds for all tests."""

from __future__ import annotations

import os

# Two tests run at a time, often one that trains beside one that waits for something else.
os.environ.setdefault("TFSERVE_TRAIN_NICE", "0")
