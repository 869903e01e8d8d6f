"""What to serve, and where. The benchmark tells a server by its environment: a framework's own processes inherit it."""

from __future__ import annotations

import os

MODEL = os.environ["BENCH_MODEL"]
NAME = os.environ["BENCH_NAME"]
PORT = int(os.environ["BENCH_PORT"])
SHAPE = {"small": (4,), "mobilenet": (224, 224, 3)}[NAME]
MAX_BATCH_SIZE = 32
