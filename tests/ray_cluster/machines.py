"""Machines made of network namespaces: each has an address, a loopback and abstract Unix sockets of its own.

They share processors, memory and files. A link can be cut, or made slow: the kernels of small machines have no module
for that, so a thread carries the packets of a slow link.

    python -m tests.ray_cluster.machines check   says what this machine lacks for them
    python -m tests.ray_cluster.machines up      creates three; run programs with: ip netns exec tfserve-1 …
    python -m tests.ray_cluster.machines down    removes them, with what runs there
"""

from __future__ import annotations

import contextlib
import heapq
import importlib.util
import os
import random
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

BRIDGE = "tfs-br"
GATEWAY = "10.77.0.254"
"""The address of the machine on which the tests themselves run."""
PACKET_BYTES = 70_000
SOL_PACKET, PACKET_VNET_HDR, PACKET_IGNORE_OUTGOING = 263, 15, 23
ETH_P_ALL = 3


def missing() -> str | None:
    """What this machine lacks for a test cluster, as a sentence; None if it has everything."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "the program `ip` is missing: apt-get install iproute2"
    if importlib.util.find_spec("ray") is None:
        return "Ray is missing: pip install 'tfserve[ray]'"
    probe = subprocess.run(["ip", "netns", "add", "tfserve-probe"], capture_output=True, text=True)
    subprocess.run(["ip", "netns", "del", "tfserve-probe"], capture_output=True)
    return f"network namespaces can't be made: {probe.stderr.strip()}" if probe.returncode else None


@dataclass
class Machine:
    """One namespace. Its link to the bridge is the interface `port` outside of it."""

    number: int
    slow: SlowLink | None = None
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"tfserve-{self.number}"

    @property
    def address(self) -> str:
        return f"10.77.0.{self.number}"

    @property
    def port(self) -> str:
        return f"tfs-p{self.number}"

    def start(self, arguments: Sequence[str], **options: Any) -> subprocess.Popen[str]:
        """Starts a program on this machine, in a session of its own."""
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.name, *arguments], text=True, start_new_session=True, **options
        )
        self.processes.append(process)
        return process

    def pids(self) -> list[int]:
        """Every process on it."""
        found = _ip("netns", "pids", self.name, check=False)
        return [int(line) for line in found.split()]

    def kill_all(self) -> None:
        """As if it lost its power, except that its kernel still closes the connections."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def cut(self) -> None:
        """Drops all packets in both directions, without notifying either end."""
        _ip("link", "set", self.port, "nomaster")

    def heal(self) -> None:
        _ip("link", "set", self.port, "master", BRIDGE)

    def make_slow(self, *, delay_s: float, loss: float) -> None:
        """Each packet takes this much longer in both directions, and this share of them is lost."""
        self.cut()
        _ip("link", "add", f"tfs-s{self.number}", "type", "veth", "peer", "name", f"tfs-t{self.number}")
        for name in (f"tfs-s{self.number}", f"tfs-t{self.number}"):
            _ip("link", "set", name, "up")
        _ip("link", "set", f"tfs-t{self.number}", "master", BRIDGE)
        self.slow = SlowLink(self.port, f"tfs-s{self.number}", delay_s=delay_s, loss=loss)

    def make_fast(self) -> None:
        if self.slow is not None:
            self.slow.close()
            self.slow = None
            _ip("link", "del", f"tfs-s{self.number}")
            self.heal()


class Machines:
    """Several machines on one network. `with Machines(3) as (one, two, three)`."""

    def __init__(self, count: int) -> None:
        self.all = [Machine(number) for number in range(1, count + 1)]

    def __enter__(self) -> list[Machine]:
        remove_all()
        _ip("link", "add", BRIDGE, "type", "bridge")
        _ip("addr", "add", f"{GATEWAY}/24", "dev", BRIDGE)
        _ip("link", "set", BRIDGE, "up")
        for machine in self.all:
            _create(machine)
        return self.all

    def __exit__(self, *_: object) -> None:
        for machine in self.all:
            machine.make_fast()
            machine.kill_all()
            for process in machine.processes:
                process.wait(20)
        remove_all()


def _create(machine: Machine) -> None:
    inside = ("-n", machine.name)
    _ip("netns", "add", machine.name)
    _ip("link", "add", machine.port, "type", "veth", "peer", "name", "eth0", "netns", machine.name)
    _ip("link", "set", machine.port, "master", BRIDGE, "up")
    _ip(*inside, "addr", "add", f"{machine.address}/24", "dev", "eth0")
    for name in ("lo", "eth0"):
        _ip(*inside, "link", "set", name, "up")
    _ip(*inside, "route", "add", "default", "via", GATEWAY)


def remove_all() -> None:
    """Removes the machines of this and of earlier runs, with what runs there."""
    for line in _ip("netns", "list").splitlines():
        if (name := line.split()[0]).startswith("tfserve-"):
            machine = Machine(int(name.rpartition("-")[2]))
            machine.kill_all()
            _ip("netns", "del", name)
    for line in _ip("-o", "link", "show").splitlines():
        name = line.split(": ")[1].partition("@")[0]
        if name.startswith("tfs-"):
            _ip("link", "del", name, check=False)  # the other end of a pair goes with it


def _ip(*words: str, check: bool = True) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    assert not check or done.returncode == 0, f"ip {' '.join(words)}: {done.stderr.strip()}"
    return done.stdout


class SlowLink:
    """Carries packets between two interfaces with a delay, and drops some of them.

    Packets come with the header in which the kernel says what it has left to the network card (checksums, large
    segments), and are sent with it.
    """

    def __init__(self, one: str, other: str, *, delay_s: float, loss: float) -> None:
        self._delay_s, self._loss = delay_s, loss
        self._sockets = [_packet_socket(one), _packet_socket(other)]
        self._random = random.Random(1)
        self._ends, self._stop = os.pipe()
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def close(self) -> None:
        os.close(self._stop)
        self._thread.join()
        for each in self._sockets:
            each.close()
        os.close(self._ends)

    def _carry(self) -> None:
        due: list[tuple[float, int, int, bytes]] = []  # when, a number, from which socket, what
        number = 0
        while True:
            timeout = max(0.0, due[0][0] - time.monotonic()) if due else None
            ready, _, _ = select.select([*self._sockets, self._ends], [], [], timeout)
            if self._ends in ready:
                return
            for each in ready:
                packet = each.recv(PACKET_BYTES)
                if self._random.random() >= self._loss:
                    number += 1
                    heapq.heappush(due, (time.monotonic() + self._delay_s, number, self._sockets.index(each), packet))
            while due and due[0][0] <= time.monotonic():
                _, _, origin, packet = heapq.heappop(due)
                with contextlib.suppress(OSError):
                    self._sockets[1 - origin].send(packet)


def _packet_socket(interface: str) -> socket.socket:
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    sock.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)  # what this program itself sends
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 * 1024 * 1024)
    sock.bind((interface, 0))
    return sock


def main() -> None:
    if (reason := missing()) is not None:
        sys.exit(reason)
    if sys.argv[1:] == ["down"]:
        remove_all()
    elif sys.argv[1:] == ["check"]:
        print("a test cluster can be made here")
    elif sys.argv[1:] == ["up"]:
        for machine in Machines(3).__enter__():
            print(f"{machine.name}  {machine.address}  ip netns exec {machine.name} …")
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
