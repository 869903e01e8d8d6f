"""A program that kills the processes of the server when the supervisor dies, and keeps a record for the next server.

The supervisor starts it with three arguments: the server's owner mark, the supervisor's pid and the path of the record.
Its standard input is the read end of a pipe to which nothing is written. When the supervisor ends for any reason, the
pipe closes.

A process belongs to the server if its environment has the mark, or if it is a descendant of one: the child of a script
may have an empty environment and its own session. The process tree is read before anything is killed, because orphans
of a killed process get another parent. In case the guardian is killed too, it records all processes once a second, with
their start times and the boot id. So the next server finds them, and does not confuse them with others that reuse their
pids. This program imports only the smallest parts of the standard library, because it stays in memory.
"""

import os
import select
import signal
import sys
import time

RECORD_EVERY_S = 1.0
PAUSE_RATIO = 200
"""Each pause is at least this much longer than reading the process table took."""
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
        found = _started_by(supervisor)
        pause_s = max(RECORD_EVERY_S, (time.monotonic() - begun_at) * PAUSE_RATIO)
        found.pop(os.getpid(), None)
        if found != known:
            known = found
            _write(record, known)
    end_all(mark, known)
    _remove(record)


def _started_by(supervisor: int) -> Started:
    """All descendants of the supervisor, except those in its own session, which the server did not start."""
    session, table = session_of(supervisor), _table()
    bystanders = {pid for pid, (parent, _) in table.items() if parent == supervisor and session_of(pid) == session}
    return below({pid: each for pid, each in table.items() if pid not in bystanders}, {supervisor})


def end_all(mark: str, known: Started) -> set[int]:
    """Kills every process whose mark starts with `mark` or that is in `known`, and all descendants.

    Returns their pids when none is left.
    """
    killed: set[int] = set()
    requested = b"TFSERVE_OWNER=" + os.fsencode(mark)
    while True:
        table = _table()
        roots = {pid for pid in table if any(each.startswith(requested) for each in _environment(pid))}
        roots |= {pid for pid, started in known.items() if pid in table and table[pid][1] == started}
        roots.discard(os.getpid())
        victims = below(table, roots) | {pid: table[pid][1] for pid in roots}
        victims.pop(os.getpid(), None)
        if not victims:
            return killed
        known = known | victims  # they stay known when their parents have ended
        for pid in victims:
            _send(pid, signal.SIGSTOP)  # so that none of them starts another one in the meantime
        for pid in below(_table(), set(victims)) | victims:
            if pid != os.getpid():
                _send(pid, signal.SIGKILL)
                killed.add(pid)
        time.sleep(AGAIN_S)


def below(table: dict[int, tuple[int, str]], roots: set[int]) -> Started:
    """The descendants of `roots`, without the roots."""
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
    except OSError:  # gone, a zombie, or of another user
        return []


def session_of(pid: int) -> int:
    """0 when the process is gone."""
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0


def boot_id() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:  # noqa: PTH123
            return file.read().strip()
    except OSError:
        return ""


def read(record: str) -> Started:
    """The processes of a former server; none if the machine has been rebooted since."""
    try:
        with open(record) as file:  # noqa: PTH123
            boot, *lines = file.read().splitlines()
        pairs = [line.split() for line in lines]
        return {int(pid): started for pid, started in pairs} if boot == boot_id() != "" else {}
    except (OSError, ValueError):  # missing or truncated
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
