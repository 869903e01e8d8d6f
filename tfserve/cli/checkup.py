"""The checks of `tfserve doctor`: each looks at one thing, and says what to do about it."""

from __future__ import annotations

import os
import platform
import re
import resource
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import psutil

from tfserve import available_memory
from tfserve.cli.runtime_checks import gpu, runtimes
from tfserve.config import Settings
from tfserve.supervisor.lock import holder

OLDEST, NEWEST_TESTED = (3, 11), (3, 13)
GIB = 2**30
NEEDED_DISK, ADVISED_DISK = GIB // 2, 5 * GIB
ADVISED_MEMORY = 2 * GIB
ADVISED_FILES = 4096


class Level(StrEnum):
    """How bad a diagnosis is. The server can't work with a problem."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


class Diagnosis(NamedTuple):
    """What a check has found, and what to do about it."""

    name: str
    level: Level
    text: str
    advice: str = ""


def checkup(settings: Settings, environment: Path) -> list[Diagnosis]:
    """All diagnoses. The slow checks, which start processes, run in parallel."""
    with ThreadPoolExecutor() as pool:
        slow = pool.submit(lambda: [*runtimes()]), pool.submit(gpu)
        diagnoses = [python(), *packages(environment), system(), memory(), *data_folder(settings.data_path)]
        diagnoses += [*ports(settings)]
        results = [*slow[0].result(), slow[1].result()]
        return diagnoses + [Diagnosis(name, Level(level), text, advice) for name, level, text, advice in results]


# --- the machine


def python(version: tuple[int, int] = sys.version_info[:2]) -> Diagnosis:
    text = f"{platform.python_version()} ({sys.executable})"
    if version < OLDEST:
        return Diagnosis("Python", Level.PROBLEM, text, "TFserve needs Python 3.11 or newer.")
    if version > NEWEST_TESTED:
        newest = ".".join(map(str, NEWEST_TESTED))
        return Diagnosis("Python", Level.WARNING, text, f"TFserve is tested up to Python {newest}.")
    return Diagnosis("Python", Level.OK, text)


def packages(environment: Path) -> Iterator[Diagnosis]:
    """The packages that the server always needs."""
    required = _required()
    missing = [name for name in required if not _is_installed(name)]
    if not required:
        yield Diagnosis("packages", Level.WARNING, "TFserve itself is not installed", "Run make setup in its checkout.")
    elif missing:
        advice = f"{environment}/bin/python -m pip install {' '.join(missing)}"
        yield Diagnosis("packages", Level.PROBLEM, f"missing: {', '.join(missing)}", advice)
    else:
        yield Diagnosis("packages", Level.OK, f"TFserve {metadata.version('tfserve')} with all packages that it needs")


def _required() -> list[str]:
    """The names of the packages that tfserve depends on without extras. Empty if it is not installed."""
    try:
        lines = [line for line in metadata.requires("tfserve") or [] if "extra ==" not in line]
    except metadata.PackageNotFoundError:
        return []
    return [match[0] for line in lines if (match := re.match(r"[\w.-]+", line))]


def _is_installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def system() -> Diagnosis:
    text = f"{platform.system()} {platform.release()}, {os.cpu_count()} processors"
    if not hasattr(os, "pidfd_open"):
        return Diagnosis("system", Level.PROBLEM, text, "TFserve needs Linux 5.3 or newer.")
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if files < ADVISED_FILES:
        advice = f"Many connections need more open files: ulimit -n {ADVISED_FILES}"
        return Diagnosis("system", Level.WARNING, f"{text}, at most {files} open files", advice)
    return Diagnosis("system", Level.OK, text)


def memory() -> Diagnosis:
    free, total = available_memory.of_process(), available_memory.total()
    text = f"{free / GIB:.1f} GiB of {total / GIB:.1f} GiB available"
    if free < ADVISED_MEMORY:
        return Diagnosis(
            "memory", Level.WARNING, text, "TensorFlow takes about 0.5 GiB per process. End other programs."
        )
    return Diagnosis("memory", Level.OK, text)


# --- the data folder


def data_folder(folder: Path) -> Iterator[Diagnosis]:
    """Whether the server can write its data folder, or make it, and how much space is left."""
    existing = next(each for each in (folder, *folder.resolve().parents) if each.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=existing):
            pass
    except OSError as error:
        advice = "Choose another folder with --data-dir or TFSERVE_DATA_DIR, or change its owner: chown"
        yield Diagnosis("data folder", Level.PROBLEM, f"{folder} can't be written: {error.strerror}", advice)
    else:
        new = "" if folder.exists() else " (is made at the first start)"
        yield Diagnosis("data folder", Level.OK, f"{folder.resolve()}{new}")
    free = shutil.disk_usage(existing).free
    level = Level.PROBLEM if free < NEEDED_DISK else Level.WARNING if free < ADVISED_DISK else Level.OK
    advice = "" if level is Level.OK else "Free some space, or choose a folder on another disk with --data-dir."
    yield Diagnosis("disk", level, f"{free / GIB:.1f} GiB free", advice)


# --- ports


def ports(settings: Settings) -> Iterator[Diagnosis]:
    """The ports that the settings name: free, or used by which program."""
    own = holder(settings.data_path)
    if own.is_alive:
        yield Diagnosis("server", Level.OK, f"runs on this data folder, pid {own.pid}, {own.address}")
    for name in ("port", "training_port", "v1_port", "grpc_port"):
        number: int = getattr(settings, name)
        if number:
            yield port(settings.host, number, own.pid if own.is_alive else None)


def port(host: str, number: int, own_pid: int | None) -> Diagnosis:
    name = f"port {number}"
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, number))
        except PermissionError:
            return Diagnosis(name, Level.PROBLEM, "needs more rights", "Ports below 1024 are for root: choose another.")
        except OSError as error:
            return _used(name, number, own_pid, str(error.strerror))
    return Diagnosis(name, Level.OK, "free")


def _used(name: str, number: int, own_pid: int | None, problem: str) -> Diagnosis:
    pid = _listener(number)
    if pid is not None and own_pid is not None and own_pid in _ancestors(pid):
        return Diagnosis(name, Level.OK, "in use by the server on this data folder")
    program = f"in use by {_command(pid)} (pid {pid})" if pid else problem
    advice = "Stop it, or choose another port: tfserve serve 8001. --server URL names a server for commands."
    return Diagnosis(name, Level.PROBLEM, program, advice)


def _listener(number: int) -> int | None:
    """The process that listens on a port; None if it belongs to another user."""
    for each in psutil.net_connections("tcp"):
        if each.status == psutil.CONN_LISTEN and each.laddr and each.laddr.port == number and each.pid:
            return int(each.pid)
    return None


def _ancestors(pid: int) -> set[int]:
    try:
        return {pid, *(each.pid for each in psutil.Process(pid).parents())}
    except psutil.Error:
        return {pid}


def _command(pid: int) -> str:
    try:
        return " ".join(psutil.Process(pid).cmdline())[:80]
    except psutil.Error:
        return "a process"
