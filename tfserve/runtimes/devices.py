"""The device that a process uses, and how much of its memory: what it needs, or up to a limit, never all at once.

TensorFlow would take all of it by default, so that a second model, a replica or the next version would find none. The
environment of every process lets it grow as needed. A limit is set here, before the first use of the device.
"""

from __future__ import annotations

import logging
import re
from typing import Any

from tfserve.config import load
from tfserve.errors import Invalid

log = logging.getLogger(__name__)

MIB = 1024 * 1024
_DEVICE = re.compile(r"(?:/?device:|/)?(cpu|gpu):(\d+)", re.IGNORECASE)


def choose(tf: Any, device: str) -> str:
    """Restricts this process to the device, and returns its name. Raises `Invalid`, which lists the devices."""
    match = _DEVICE.fullmatch(device)
    if match is None:
        raise Invalid(f"Expected a device such as '/cpu:0' or '/gpu:0', got {device!r}.")
    kind, number = match[1].upper(), int(match[2])
    found = {each: tf.config.list_physical_devices(each) for each in ("CPU", "GPU")}
    if number >= len(found[kind]):
        here = ", ".join(f"/{each.lower()}:{n}" for each, devices in found.items() for n in range(len(devices)))
        raise Invalid(f"This machine has no device {device!r}. Available: {here}.")
    if found["GPU"]:
        tf.config.set_visible_devices([found["GPU"][number]] if kind == "GPU" else [], "GPU")
    return f"/{kind.lower()}:0"


def is_cpu(device: str) -> bool:
    match = _DEVICE.fullmatch(device)
    return match is not None and match[1].lower() == "cpu"


def limit_bytes(own: int = 0) -> int:
    """The limit of a process: that of its deployment, or of the server; 0 for none."""
    return own or load().device_memory_bytes


def limit_memory(tf: Any, limit: int = 0) -> None:
    """Sets the limit of each visible GPU, or makes its memory grow as needed.

    It does nothing once TensorFlow has used the devices: then the process has been configured before.
    """
    for gpu in tf.config.get_visible_devices("GPU"):
        try:
            if limit:
                device = tf.config.LogicalDeviceConfiguration(memory_limit=max(1, limit // MIB))
                tf.config.set_logical_device_configuration(gpu, [device])
            else:
                tf.config.experimental.set_memory_growth(gpu, True)
        except (RuntimeError, ValueError) as error:
            log.debug("the memory of %s is configured already: %s", gpu.name, error)


def session_config(tf: Any, **threads: int) -> Any:
    """The configuration of a session, which has the devices of this process and the limits of their memory.

    A session of TensorFlow 1 does not know what `tf.config` was given.
    """
    from tensorflow.python.eager import context

    configured = context.context().config
    config = tf.compat.v1.ConfigProto(allow_soft_placement=True, **threads)
    config.gpu_options.CopyFrom(configured.gpu_options)
    for kind, count in configured.device_count.items():
        config.device_count[kind] = count
    return config
