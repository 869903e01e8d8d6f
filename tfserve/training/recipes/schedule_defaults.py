"""Default batch size and number of epochs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ENOUGH_STEPS = 900
"""Target number of steps: small data sets get more epochs."""
DETECTION_STEPS = {"fast": 300, "balanced": 700, "best": 3000}
"""By effort. A step with 8 images of 256 pixels takes about one second of a processor core."""
FEWEST_EPOCHS, MOST_EPOCHS, MOST_DETECTION_EPOCHS = 20, 100, 300


def epochs(parameters: Mapping[str, Any], learnt_from: float, *, share: float = 1.0) -> int:
    """Passes over this many training images; of the usual number a `share` for a network that has learnt before."""
    requested = parameters["epochs"]
    if isinstance(requested, int):
        return requested
    steps = max(1.0, learnt_from / batch_size(parameters, round(learnt_from)))
    if "mosaic" in parameters:
        usual = min(round(DETECTION_STEPS[parameters["effort"]] / steps), MOST_DETECTION_EPOCHS)
    else:
        usual = min(max(FEWEST_EPOCHS, round(ENOUGH_STEPS / steps)), MOST_EPOCHS)
    return max(1, round(usual * share))


def batch_size(parameters: Mapping[str, Any], image_count: int) -> int:
    """Small data needs many small steps. For masks, of which each has many pixels to learn from, 8 are enough."""
    requested = parameters["batch_size"]
    if isinstance(requested, int):
        return requested
    if "dice_weight" in parameters:
        return 8 if image_count > 100 else 4
    return 16 if image_count < 700 else 32 if image_count < 7000 else 64
