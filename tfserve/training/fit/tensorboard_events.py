"""The history of a training as TensorBoard reads it. By hand: TensorFlow's writer needs TensorBoard."""

from __future__ import annotations

from pathlib import Path

from tfserve.training.fit.checkpoints import State


def write(folder: Path, state: State) -> None:
    """One event file with a scalar for each metric and epoch."""
    import tensorflow as tf
    from tensorflow.core.framework.summary_pb2 import Summary
    from tensorflow.core.util.event_pb2 import Event

    folder.mkdir(parents=True, exist_ok=True)
    began_at = state.ended_at[0] if state.ended_at else 0.0
    with tf.io.TFRecordWriter(str(folder / f"events.out.tfevents.{int(began_at)}.tfserve")) as writer:
        writer.write(Event(wall_time=began_at, file_version="brain.Event:2").SerializeToString())
        for name, series in state.history.items():
            for step, (value, ended_at) in enumerate(zip(series, state.ended_at, strict=False), start=1):
                scalar = Summary(value=[Summary.Value(tag=name, simple_value=value)])
                writer.write(Event(wall_time=ended_at, step=step, summary=scalar).SerializeToString())
