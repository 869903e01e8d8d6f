"""Outlives the supervisor by a moment, to end what it left behind, and keeps a record for the next server.

Started by the supervisor as a program of its own, with the server's owner mark, the supervisor's pid and the path of
the record as its arguments, and the read end of a pipe as its standard input. Nothing is ever written to the pipe; when
the supervisor ends, however it ends, the pipe does too.

A process of the server is known by its mark in the environment, or by being below one that has it: a script's child may
have an empty environment and a session of its own. The tree is read before anything is killed, because the orphans of a
killed process belong to somebody else. For the case that the guardian is killed as well, it writes down every second
which processes there are, with their start times and the boot's id, so that the next server finds those, and no other
that has got a pid of theirs. Imports nothing but the standard library's smallest parts, since it stays in memory.
"""

import os
import select
import signal
import sys
import time

RECORD_EVERY_S = 1.0
RESTS = 200
"""Reading takes at most this part of the time, however many processes the machine has."""
AGAIN_S = 0.01
Started = dict[int, str]
"""Processes by pid, with their start times in ticks since boot."""


def main(mark: str, supervisor: int, record: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    known: Started = {}
    pause_s = RECORD_EVERY_S
    while not select.select([0], [], [], pause_s)[0]:
        begun_at = time.monotonic()
        found = below(_table(), {supervisor})
        pause_s = max(RECORD_EVERY_S, (time.monotonic() - begun_at) * RESTS)
        found.pop(os.getpid(), None)
        if found != known:
            known = found
            _write(record, known)
    end_all(mark, known)
    _remove(record)


def end_all(mark: str, known: Started) -> set[int]:
    """Kills every process whose mark begins so, or that is one of the known ones, and all below them.

    Returns when there is none any more: the pids of those that were killed.
    """
    killed: set[int] = set()
    wanted = b"TFSERVE_OWNER=" + os.fsencode(mark)
    while True:
        table = _table()
        roots = {pid for pid in table if any(each.startswith(wanted) for each in _environment(pid))}
        roots |= {pid for pid, started in known.items() if pid in table and table[pid][1] == started}
        roots.discard(os.getpid())
        victims = below(table, roots) | {pid: table[pid][1] for pid in roots}
        victims.pop(os.getpid(), None)
        if not victims:
            return killed
        known = known | victims  # they stay known when their parents are gone
        for pid in victims:
            _send(pid, signal.SIGSTOP)  # so that none of them starts another one meanwhile
        for pid in below(_table(), set(victims)) | victims:
            if pid != os.getpid():
                _send(pid, signal.SIGKILL)
                killed.add(pid)
        time.sleep(AGAIN_S)


def below(table: dict[int, tuple[int, str]], roots: set[int]) -> Started:
    """The processes below these, without themselves."""
    children: dict[int, list[int]] = {}
    for pid, (parent, _) in table.items():
        children.setdefault(parent, []).append(pid)
    found: Started = {}
    waiting = list(roots)
    while waiting:
        for pid in children.get(waiting.pop(), ()):
            if pid not in found and pid not in roots:
                found[pid] = table[pid][1]
                waiting.append(pid)
    return found


def _table() -> dict[int, tuple[int, str]]:
    """Parent and start time of every process that is not a zombie."""
    table = {}
    for name in os.listdir("/proc"):  # noqa: PTH208
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123
                    fields = file.read().rpartition(b")")[2].split()
            except OSError:  # gone
                continue
            if fields[0] not in (b"Z", b"X"):
                table[int(name)] = (int(fields[1]), fields[19].decode())
    return table


def _environment(pid: int) -> list[bytes]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:  # noqa: PTH123
            return file.read().split(b"\0")
    except OSError:  # gone, a zombie, or somebody else's
        return []


def boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:  # noqa: PTH123
            return file.read().strip()
    except OSError:
        return ""


def read(record: str) -> Started:
    """The processes that a former server had; none when the machine was started again since."""
    try:
        with open(record) as file:  # noqa: PTH123
            boot, *lines = file.read().splitlines()
        pairs = [line.split() for line in lines]
        return {int(pid): started for pid, started in pairs} if boot == boot_id() != "" else {}
    except (OSError, ValueError):  # not there, or not whole
        return {}


def _write(record: str, processes: Started) -> None:
    lines = [boot_id(), *(f"{pid} {started}" for pid, started in processes.items()), ""]
    try:
        with open(f"{record}.new", "w") as file:  # noqa: PTH123
            file.write("\n".join(lines))
        os.replace(f"{record}.new", record)  # noqa: PTH105
    except OSError:  # a full disk
        pass


def _remove(record: str) -> None:
    try:  # noqa: SIM105 (contextlib would be the largest import)
        os.unlink(record)  # noqa: PTH108
    except OSError:
        pass


def _send(pid: int, number: int) -> None:
    try:  # noqa: SIM105
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
