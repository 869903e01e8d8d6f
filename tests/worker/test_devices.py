"""TensorFlow takes a part of a device. Without a GPU here, logical devices of the CPU show what sessions are given."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

PROGRAM = """
import json
import tensorflow as tf
from tfserve.runtimes import devices

(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
devices.limit_memory(tf, 2**30)
config = devices.session_config(tf, intra_op_parallelism_threads=1)
found = {}
with tf.Graph().as_default(), tf.compat.v1.Session(config=config) as session:
    found["session"] = sorted(each.name.rpartition("device:")[2] for each in session.list_devices())
    with tf.device("/cpu:1"):
        found["sum"] = float(session.run(tf.constant(1.0) + 2.0))
found["threads"] = config.intra_op_parallelism_threads
devices.limit_memory(tf)  # after the first use, it changes nothing and fails not
print(json.dumps(found))
"""


@pytest.mark.slow
def test_sessions_have_the_devices_that_the_process_was_limited_to() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"session": ["CPU:0", "CPU:1"], "sum": 3.0, "threads": 1}
