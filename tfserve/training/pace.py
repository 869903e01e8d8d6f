"""How many images in a step, and how many epochs, when that is left to us."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ENOUGH_STEPS = 900
"""Small data is gone through more often, so that there are about so many steps."""
DETECTION_STEPS = {"fast": 300, "balanced": 700, "best": 3000}
"""By effort. A step with 8 images of 256 pixels takes about one second of a processor core."""
FEWEST_EPOCHS, MOST_EPOCHS, MOST_DETECTION_EPOCHS = 20, 100, 300


def epochs(parameters: Mapping[str, Any], learnt_from: float, *, share: float = 1.0) -> int:
    """Passes over this many training images; of the usual number a `share` for a network that has learnt before."""
    wanted = parameters["epochs"]
    if isinstance(wanted, int):
        return wanted
    steps = max(1.0, learnt_from / batch_size(parameters, round(learnt_from)))
    if "mosaic" in parameters:
        usual = min(round(DETECTION_STEPS[parameters["effort"]] / steps), MOST_DETECTION_EPOCHS)
    else:
        usual = min(max(FEWEST_EPOCHS, round(ENOUGH_STEPS / steps)), MOST_EPOCHS)
    return max(1, round(usual * share))


def batch_size(parameters: Mapping[str, Any], image_count: int) -> int:
    """Small data needs many small steps. For masks, of which each has many pixels to learn from, 8 are enough."""
    wanted = parameters["batch_size"]
    if isinstance(wanted, int):
        return wanted
    if "dice_weight" in parameters:
        return 8 if image_count > 100 else 4
    return 16 if image_count < 700 else 32 if image_count < 7000 else 64
