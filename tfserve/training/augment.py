"""Random changes of images while training: turned, moved, zoomed, mirrored, made darker or lighter."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tensorflow as tf


@dataclass(frozen=True)
class Augment:
    """How far the changes go: degrees, and shares of the size or of the brightness."""

    rotation: float
    shift: float
    zoom: float
    brightness: float
    mirror: bool

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> Augment:
        return cls(**{name: parameters[name] for name in ("rotation", "shift", "zoom", "brightness", "mirror")})

    def moves(self, images: Any, seed: Any) -> Any:
        """A random move for each of the images (count, height, width, 3): (count, 8), for `move`."""
        count, height, width = tf.shape(images)[0], images.shape[1], images.shape[2]
        turn, shift_x, shift_y, zoom, mirror = tf.unstack(
            tf.random.stateless_uniform((5, count), seed, minval=-1.0, maxval=1.0)
        )
        angle = turn * self.rotation * math.pi / 180
        scale = 1.0 + zoom * self.zoom
        side = tf.where(mirror > 0.0, -1.0, 1.0) if self.mirror else tf.ones(count)
        across, down = tf.cos(angle) * scale, tf.sin(angle) * scale
        # Around the middle: the point that is at the middle of the output comes from the middle, moved.
        middle_x, middle_y = (width - 1) / 2, (height - 1) / 2
        from_x = middle_x + shift_x * self.shift * width - (across * middle_x - down * middle_y) * side
        from_y = middle_y + shift_y * self.shift * height - (down * middle_x + across * middle_y)
        zero = tf.zeros(count)
        return tf.stack([across * side, -down * side, from_x, down, across, from_y, zero, zero], axis=1)

    def lighten(self, images: Any, seed: Any) -> Any:
        """Images of 0 to 255, each with another brightness and contrast."""
        amounts = tf.random.stateless_uniform((2, tf.shape(images)[0], 1, 1, 1), seed, minval=-1.0, maxval=1.0)
        contrast, brightness = tf.unstack(1.0 + amounts * self.brightness)
        lighter = (images - 127.5) * contrast + 127.5 * brightness
        return tf.clip_by_value(lighter, 0.0, 255.0)


def move(images: Any, moves: Any, *, smooth: bool) -> Any:
    """Moves (count, height, width, channels); what comes from outside is the nearest pixel of the edge."""
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images, transforms=moves, output_shape=images.shape[1:3], fill_value=0.0,
        interpolation="BILINEAR" if smooth else "NEAREST", fill_mode="NEAREST",
    )  # fmt: skip
