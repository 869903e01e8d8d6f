"""`python -P -X faulthandler -m tfserve.worker --fd N [--warm]`: a worker, started by the supervisor.

N is its end of a socket pair. It says `WorkerReady`, is given a role, and has it for the rest of its life.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import struct
import traceback
from collections.abc import Sequence

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
from tfserve.worker import deferred_imports, linux, streams
from tfserve.worker.inbox import Inbox
from tfserve.worker.interrupts import Interrupts


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="tfserve.worker", description="A worker process of TFserve.")
    parser.add_argument("--fd", type=int, required=True, help="the worker's end of a socket pair")
    parser.add_argument("--warm", action="store_true", help="import TensorFlow before being given a role")
    parser.add_argument(
        "--callers-umask", type=lambda text: int(text, 8), help="octal; for roles that write where callers say"
    )
    options = parser.parse_args(argv)

    # A role that can be interrupted sets its own handler. Not SIG_IGN, which child processes would inherit.
    signal.signal(signal.SIGINT, lambda *_: None)
    connection = _connect(options.fd)
    interrupts = Interrupts()
    inbox = Inbox(connection, interrupts)
    deferred_imports.install()
    warm = options.warm and _warm_up()
    connection.tell(WorkerReady(warm=warm))
    status = os.EX_SOFTWARE
    try:
        _serve(connection, interrupts, inbox, options.callers_umask)
        linux.kill_descendants()
        status = 0
    except BaseException:  # a signal handler of a script's that exits, or a fault of ours
        traceback.print_exc()
    finally:
        streams.flush()
        # Not sys.exit: threads of scripts and TensorFlow's own would be waited for.
        os._exit(status)


def _warm_up() -> bool:
    """Whether TensorFlow is there to be imported; other runtimes do without it."""
    from tfserve.runtimes import tensorflow

    try:
        tensorflow.warm_up()
    except ModuleNotFoundError:
        return False
    return True


def _connect(fd: int) -> BlockingConnection:
    """Takes over the socket, and ties this process to the one at its other end."""
    sock = socket.socket(fileno=fd)
    sock.set_inheritable(False)
    peer = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    linux.die_soon_after_parent(struct.unpack("3i", peer)[0])
    adopt_orphans()
    connection = BlockingConnection(sock)
    os.register_at_fork(after_in_child=connection.close)
    return connection


def _serve(
    connection: BlockingConnection, interrupts: Interrupts, inbox: Inbox, callers_umask: int | None = None
) -> None:
    """Waits for a role and plays it. Each role is imported only by the worker that has it."""
    for request_id, message in inbox:
        if callers_umask is not None and isinstance(message, BecomeScripts | BecomeHost):
            os.umask(callers_umask)
        match message:
            case BecomeScripts():
                from tfserve.worker.scripts import ScriptsRole

                scripts = ScriptsRole(message, connection, interrupts)
                connection.answer(request_id, Done())
                return scripts.serve(inbox)
            case BecomeHost():
                from tfserve.worker.host import HostRole

                connection.answer(request_id, Done())
                return HostRole(connection, interrupts).serve(inbox)
            case BecomeModel():
                from tfserve.worker.model import ModelRole

                return ModelRole(connection).serve(inbox, request_id, message)
            case ExamineProject() | Train():
                from tfserve.worker.train import TrainRole

                return TrainRole(connection, interrupts, callers_umask).serve(inbox, request_id, message)
            case IdentifyModel() | Convert():
                from tfserve.worker.compare import CompareRole

                return CompareRole(connection).serve(inbox, request_id, message)
        refused = Invalid(f"a worker without a role was sent {type(message).__name__}")
        connection.answer(request_id, Failed(failure=refused.to_failure()))
    return None


if __name__ == "__main__":
    main()
