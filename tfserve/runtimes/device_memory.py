"""How much memory of a GPU a process takes: what it uses, or up to a limit, but never the whole device at once.

TensorFlow would take all of it by default, so that a second model, a replica or the next version would find none. The
environment of every process lets it grow as needed (`ENVIRONMENT`). A limit is set here, before the first use of
the device.
"""

from __future__ import annotations

import logging
from typing import Any

from tfserve.config import load

log = logging.getLogger(__name__)

MIB = 1024 * 1024


def limit_bytes(own: int = 0) -> int:
    """The limit of a process: that of its deployment, or of the server; 0 for none."""
    return own or load().device_memory_bytes


def configure(tf: Any, limit: int = 0) -> None:
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
