"""A worker without TensorFlow: every runtime echoes, and trials end as the model's folder says.

`written_saved_model` makes the folder: what is loaded for TensorFlow, what for a converted model, and the trials.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from tfserve.ipc.messages import BecomeModel, Convert, Converted, Done, IdentifyModel, Message, WorkerReady
from tfserve.models.runtime_reports import ConversionGuard, RuntimeTrial

TRIALS, TENSORFLOW, CONVERTED = "trials.json", "tensorflow.echo", "converted.echo"


def written_saved_model(folder: Path, trials: dict[str, dict[str, Any]]) -> Path:
    """A SavedModel with the signatures `serving_default` and `other`; the second one can't be converted.

    `trials` has fields of `RuntimeTrial` by runtime. `{"dies": True}` kills the process of the trial, and
    `again_s` is how long a row takes when it is timed again.
    """
    folder.mkdir()
    inputs = {"x": {"dtype": "float32", "shape": [-1, 2]}}
    (folder / "saved_model.pbtxt").write_text("not read")
    (folder / TENSORFLOW).write_text(json.dumps({"signatures": {"serving_default": inputs, "other": inputs}}))
    (folder / CONVERTED).write_text(json.dumps(inputs))
    (folder / TRIALS).write_text(json.dumps(trials))
    return folder


def main() -> None:
    from tfserve.worker import __main__ as worker
    from tfserve.worker.inbox import Inbox
    from tfserve.worker.model.role import ModelRole
    from tfserve.worker.scripts.interrupts import Interrupts

    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int)
    options, _ = parser.parse_known_args()
    connection = worker._connect(options.fd)
    inbox = Inbox(connection, Interrupts())
    connection.notify(WorkerReady(warm=True))
    for request_id, message in inbox:
        if isinstance(message, BecomeModel):
            ModelRole(connection).serve(inbox, request_id, echoing(message))
            break
        connection.answer(request_id, response(message))
    os._exit(0)


def echoing(request: BecomeModel) -> BecomeModel:
    """The same model, as an echo model."""
    path = request.path if request.source else str(Path(request.path) / TENSORFLOW)
    options = replace(request.options, runtime="auto", precision="float32")
    return replace(request, path=path, source="", guard=None, options=options)


def response(message: Message) -> Message:
    if isinstance(message, IdentifyModel):
        return Done(value=Path(message.path).name)
    assert isinstance(message, Convert)
    fields = json.loads((Path(message.path) / TRIALS).read_text())[message.candidate]
    again_s = fields.pop("again_s", None)
    if message.again is not None:
        return Converted(trial=replace(message.again, best_s={"1": again_s} if again_s else message.again.best_s))
    if fields.pop("dies", False):
        os.kill(os.getpid(), signal.SIGKILL)
    trial = RuntimeTrial(runtime=message.candidate, **{"ok": True, "compared": 3, **fields})
    if trial.ok and message.candidate != "tensorflow":
        shutil.copy(Path(message.path) / CONVERTED, Path(message.work_folder) / f"{message.candidate}.echo")
        trial.path = f"{message.candidate}.echo"
        trial.guard = ConversionGuard(ascii_only=True)
    return Converted(trial=trial)


if __name__ == "__main__":
    main()
