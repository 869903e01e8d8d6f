"""`python -P -X faulthandler -m tfserve.worker --fd N [--warm]`: a worker, started by the supervisor.

N is its end of a socket pair. It sends `WorkerReady`, receives a role, and keeps it until it exits.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import os
import signal
import socket
import struct
import traceback
from collections.abc import Sequence

from tfserve.config import load
from tfserve.errors import Invalid
from tfserve.ipc.connections import BlockingConnection
from tfserve.ipc.messages import (
    BecomeHost,
    BecomeModel,
    BecomeScripts,
    Convert,
    Done,
    ExamineProject,
    Failed,
    IdentifyModel,
    Train,
    WorkerReady,
)
from tfserve.linux import adopt_orphans
from tfserve.worker import deferred_imports, process_group
from tfserve.worker.inbox import Inbox
from tfserve.worker.scripts import streams
from tfserve.worker.scripts.interrupts import Interrupts

LIBRARIES = {"openvino": "openvino", "litert": "ai_edge_litert.interpreter", "onnxruntime": "onnxruntime"}
"""The library of each runtime that may be imported before a worker has a role."""


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="tfserve.worker", description="A worker process of TFserve.")
    parser.add_argument("--fd", type=int, required=True, help="the worker's end of a socket pair")
    parser.add_argument("--warm", action="store_true", help="import TensorFlow before being given a role")
    parser.add_argument("--light", metavar="RUNTIME", help="import this runtime, which is not TensorFlow, instead")
    parser.add_argument(
        "--callers-umask", type=lambda text: int(text, 8), help="octal; for roles that write to paths chosen by callers"
    )
    options = parser.parse_args(argv)

    # Otherwise ONNX Runtime sends usage data to its makers, and leaves a file in the temporary folder.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    # A role that can be interrupted sets its own handler. Not SIG_IGN, which child processes would inherit.
    signal.signal(signal.SIGINT, lambda *_: None)
    connection = _connect(options.fd)
    interrupts = Interrupts()
    inbox = Inbox(connection, interrupts)
    deferred_imports.install()
    warm = options.warm and _warm_up()
    if options.light:
        _import_runtime(options.light)
    connection.notify(WorkerReady(warm=warm))
    status = os.EX_SOFTWARE
    try:
        _serve(connection, interrupts, inbox, options.callers_umask)
        process_group.kill_descendants()
        status = 0
    except BaseException:  # a script's signal handler that exits, or a bug in the worker
        traceback.print_exc()
    finally:
        streams.flush()
        # Not sys.exit, which would wait for threads of scripts and of TensorFlow.
        os._exit(status)


def _warm_up() -> bool:
    """Whether TensorFlow is installed; other runtimes do not need it."""
    from tfserve.runtimes import tensorflow

    try:
        tensorflow.warm_up()
        from tfserve.worker.model import role  # noqa: F401 - a tenth of a second for the next model
    except ModuleNotFoundError:
        return False
    return True


def _import_runtime(name: str) -> None:
    """Imports a runtime and the role of a model worker."""
    from tfserve import runtimes
    from tfserve.worker.model import role  # noqa: F401 - imported for later

    with contextlib.suppress(ImportError):  # the role says what is missing
        importlib.import_module(runtimes.MODULES[name])
        importlib.import_module(LIBRARIES[name])


def _limit_devices() -> None:
    """Limits what scripts take of a GPU, if the server has a limit; otherwise it grows as needed without this."""
    if (limit := load().device_memory_bytes) and importlib.util.find_spec("tensorflow") is not None:
        import tensorflow

        from tfserve.runtimes import devices

        devices.limit_memory(tensorflow, limit)


def _connect(fd: int) -> BlockingConnection:
    """Takes over the socket, and makes this process exit with the one at its other end."""
    sock = socket.socket(fileno=fd)
    sock.set_inheritable(False)
    peer = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    process_group.die_soon_after_parent(struct.unpack("3i", peer)[0])
    adopt_orphans()
    connection = BlockingConnection(sock)
    os.register_at_fork(after_in_child=connection.close)
    return connection


def _serve(
    connection: BlockingConnection, interrupts: Interrupts, inbox: Inbox, callers_umask: int | None = None
) -> None:
    """Waits for a role and runs it. A worker imports only the code of its own role."""
    for request_id, message in inbox:
        if isinstance(message, BecomeScripts | BecomeHost):
            _limit_devices()
            if callers_umask is not None:
                os.umask(callers_umask)
        match message:
            case BecomeScripts():
                from tfserve.worker.scripts.process import ScriptsRole

                scripts = ScriptsRole(connection, interrupts)
                connection.answer(request_id, Done())
                return scripts.serve(inbox)
            case BecomeHost():
                from tfserve.worker.scripts.host import HostRole

                connection.answer(request_id, Done())
                return HostRole(connection, interrupts).serve(inbox)
            case BecomeModel():
                from tfserve.worker.model.role import ModelRole

                return ModelRole(connection).serve(inbox, request_id, message)
            case ExamineProject() | Train():
                from tfserve.worker.train import TrainRole

                return TrainRole(connection, interrupts, callers_umask).serve(inbox, request_id, message)
            case IdentifyModel() | Convert():
                from tfserve.worker.trials.runtime_trial import CompareRole

                return CompareRole(connection).serve(inbox, request_id, message)
        refused = Invalid(f"a worker without a role received {type(message).__name__}")
        connection.answer(request_id, Failed(failure=refused.to_failure()))
    return None


if __name__ == "__main__":
    main()
