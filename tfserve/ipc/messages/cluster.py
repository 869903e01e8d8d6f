"""A cluster: how machines join, what a worker needs, and the bridge between the head and a worker on a node.

Those between machines travel over TLS with the certificates of the cluster (`tfserve.cluster.identity`). The first
request on a connection to the head's cluster port says what the connection is: `Join`, `OpenNode`, `OpenWorker` or
`OpenFiles`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tfserve.ipc.messages.base import Message, Request
from tfserve.ipc.messages.limits import Limits

SPREAD = "spread"
PACK = "pack"
CONTROL = 0
"""The stream of a worker's frames, next to 1 for stdout and 2 for stderr."""


class Demand(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a process may run, and what it needs there.

    `resources` are amounts of `cpu`, `gpu` and of Ray's own resources, `memory` (bytes, or a size such as `4GiB`), and
    `node`, the name of the only node that will do. `siblings` counts the replicas of the same model by node: `spread`
    avoids nodes with many, `pack` prefers them.
    """

    resources: dict[str, float | str] = {}
    placement: str = SPREAD
    siblings: dict[str, int] = {}


class NodeState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the head knows of a machine.

    `state` is `ready`, `starting` (Ray does not know it yet), `stopping` (it gets no more work) or `gone`.

    `resources` and `free` are Ray's figures: `cpu`, `gpu`, `memory` (bytes), and others by Ray's names. `http` is the
    URL at which the node answers clients; empty without one. `since` is when it joined or opened its line last, a Unix
    time.
    """

    name: str
    address: str
    state: str
    reason: str = ""
    version: str = ""
    http: str = ""
    resources: dict[str, float] = {}
    free: dict[str, float] = {}
    workers: int = 0
    since: float = 0.0


class RunningWorker(msgspec.Struct, frozen=True):
    """A worker with a role. `name` is its workspace, or the id of the training task; empty for the host."""

    role: str
    name: str
    pid: int


class NodeStatus(msgspec.Struct, frozen=True):
    """A `NodeState` of the cluster, and what runs there. Without a cluster, this machine is the only node."""

    name: str
    address: str
    state: str
    reason: str
    version: str
    http: str
    resources: dict[str, float]
    free: dict[str, float]
    workers: int
    since: float
    runs: list[RunningWorker] = []


class GetNodes(Request[list[NodeStatus]]):
    """All machines: the head first, those that are gone last."""


# --- connections to the head's cluster port


class NodeJoined(Message):
    """The certificate of a new member and that of the cluster's CA (PEM)."""

    certificate: bytes
    ca: bytes


class Join(Request[NodeJoined]):
    """A machine requests a certificate. The only request that is answered without one.

    `secret` is that of the join token, `public_key` the node's own (PEM).
    """

    secret: bytes
    name: str
    version: str
    public_key: bytes


class NodeOpened(Message):
    """What a node needs to work: the head's epoch, and the address of Ray's GCS with the environment for a raylet.

    `head_url` is where the node forwards what it does not answer itself, `settings` those that it takes over.
    """

    epoch: int
    ray_address: str
    ray_environment: dict[str, str] = {}
    head_url: str = ""
    settings: dict[str, str] = {}


class OpenNode(Request[NodeOpened]):
    """Makes this connection the line of a node. The head sends pings over it, and announcements.

    `address` is the node's own, `head` the one at which it reaches the head's cluster port, `heads` all at which a head
    may be (see `cluster/heads.py`), `identity` the folder of its certificates, which its actors use. `epoch` is the
    highest of a head that it has seen; an older head is refused.
    """

    name: str
    address: str
    head: str
    heads: str
    identity: str
    version: str
    epoch: int
    http: str = ""


class ProcessUses(Message):
    """The use of each process that is there: resident memory in bytes, and CPU time in seconds."""

    uses: dict[int, tuple[int, float]]


class PingNode(Request[ProcessUses]):
    """The head asks a node whether it still runs, and what these processes use."""

    pids: list[int]


class LeaveNode(Request[None]):
    """A node is about to stop. Answered when it runs nothing that could end or move, or after `drain_s` seconds."""

    drain_s: float


class OpenFiles(Request[None]):
    """Makes this connection the one for the files of a worker. The messages that follow are in `content`."""

    worker: str
    token: str


# --- the bridge of one worker


class StartWorker(Message):
    """What a worker is started with: arguments after `tfserve.worker`, and the settings of the head."""

    warm: bool = False
    light: str = ""
    settings: dict[str, str] = {}


class WorkerOpened(Message):
    """The head knows the worker. `received` is the number of the last message that it has from this bridge.

    `start` is set when the worker is to be started. `adopted`: another head takes over the model, whose numbers begin
    again.
    """

    epoch: int
    received: int = 0
    start: StartWorker | None = None
    adopted: bool = False


class OpenWorker(Request[WorkerOpened]):
    """Makes this connection the bridge of a worker. A worker that the head does not know is refused, and then ends.

    `received` is the number of the last message that the bridge has from the head. `pid` is 0 before it has started.
    `model` is set for a model worker that serves: a new head may adopt it, with its `resources` (see `StartActor`).
    """

    worker: str
    token: str
    epoch: int
    node: str
    received: int = 0
    pid: int = 0
    model: ServingModel | None = None
    resources: dict[str, float] = {}


class ServingModel(msgspec.Struct, frozen=True):
    """What a bridge keeps of a model worker: for which deployment it serves, and what it was loaded with.

    `become` and `loaded` are encoded `BecomeModel` and `ModelLoaded`.
    """

    deployment: int
    become: bytes
    loaded: bytes


class Bridged(Message):
    """One message over a bridge, with its number and that of the last message that the sender has received.

    Both ends keep what the other one has not confirmed, so that nothing is lost or repeated when a connection breaks.
    """

    number: int
    received: int
    body: bytes


class Received(Message):
    """Confirms messages over a bridge, when there is nothing to send."""

    number: int


class WorkerInput(Message):
    """One whole frame for the worker."""

    frame: bytes


class WorkerOutput(Message):
    """What a worker has written: whole frames for stream `CONTROL`, bytes for stdout (1), stderr (2), pipes (3 …)."""

    stream: int
    data: bytes


class WorkerStarted(Message):
    pid: int


class WorkerEnded(Message):
    """How the process ended, as in `Exit` of the supervisor. The last message of a bridge."""

    code: int | None
    signal: int | None
    peak_memory_bytes: int
    killed_because: str | None = None
    exceeded: dict[str, Any] | None = None


class OpenPipes(Message):
    """Makes two pipes for the output of one workspace of a host: streams `first` and `first` + 1."""

    first: int


class PipesOpened(Message):
    """The paths by which the worker can open the pipes."""

    first: int
    paths: list[str]


class ClosePipes(Message):
    """The worker has opened the pipes: they end when it closes them."""

    first: int


class KillWorker(Message):
    """Kills the worker with everything that it started; `descendants_only` spares the worker itself."""

    because: str = ""
    descendants_only: bool = False


class TerminateWorker(Message):
    """Asks the worker's process to end (SIGTERM)."""


class LimitWorker(Message):
    """The worker has got its role: its limits apply from now on."""

    role: str
    workspace: str
    limits: Limits
    has_scripts: bool


# --- between the head and its Ray driver


class RayNode(msgspec.Struct, frozen=True, omit_defaults=True):
    """A node as Ray sees it. `total` and `free` are amounts of Ray's resources, memory in bytes."""

    id: str
    address: str
    name: str = ""
    total: dict[str, float] = {}
    free: dict[str, float] = {}


class RayNodes(Message):
    """The living nodes. `problem` says why Ray can't be reached."""

    nodes: list[RayNode]
    problem: str = ""


class StartActor(Request[None]):
    """Starts the actor of a worker on a node. Responds when Ray has accepted it; fails with Ray's reason.

    `heads` are the addresses at which its bridge finds the head. `resources` are amounts of Ray's resources: `CPU`,
    `GPU`, `memory` in bytes, and others.
    """

    worker: str
    token: str
    node_id: str
    heads: str
    identity: str
    name: str
    address: str
    resources: dict[str, float] = {}


class ActorEnded(Message):
    """The actor of a worker is gone, and why, in Ray's words."""

    worker: str
    cause: str


class EndActor(Message):
    """Ends the actor of a worker that is of no use any more, with everything in it."""

    worker: str


# --- between the main process of a node and its web processes


class HeadState(Message):
    """Where the head is. `url` is empty before the first connection to it; `is_connected` is false while it is away.

    `is_left`: this node is about to stop, so no more requests should be sent to it.
    """

    url: str
    is_connected: bool
    is_left: bool = False


class GetHead(Request[HeadState]):
    """Sent by a web process that starts; from then on it receives `HeadChanged`."""


class HeadChanged(Request[None]):
    head: HeadState
