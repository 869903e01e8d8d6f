"""Refuses a deployment that certainly does not fit into memory, before a process is started for it.

The smallest possible need is known: the weights, once for each replica. Whether a model with less fits is only known
when it is loaded, so everything else is tried.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
from pathlib import Path

from tfserve import available_memory
from tfserve.config import Settings
from tfserve.errors import OutOfMemory
from tfserve.ipc.messages import ModelOptions
from tfserve.models import formats
from tfserve.models.formats import Located
from tfserve.sizes import show

_GPU = re.compile(r"(?:/?device:|/)?gpu:(\d+)", re.IGNORECASE)
_QUERY_LIMIT_S = 5.0
_KERAS_SHARE = 3
"""Keras files may also have the state of an optimizer, twice as large as the weights, which is not loaded."""
TYPICAL_PROCESS_BYTES = 200 * 2**20
"""What the process of a small model needs, for one that has never been loaded."""
NVIDIA_SMI = "nvidia-smi"


async def check(model: Located, device: str, options: ModelOptions, settings: Settings) -> None:
    """Raises `OutOfMemory`, with the numbers. Does nothing in a cluster, where another machine may have more."""
    if settings.cluster:
        return
    weights = await asyncio.to_thread(weights_bytes, model)
    if (gpu := _GPU.fullmatch(device)) is not None:
        limit = options.device_memory_bytes or settings.device_memory_bytes
        free = await free_gpu_bytes(int(gpu[1]))
        if limit and limit < weights:
            problem = f"its weights have {show(weights)}, device_memory is {show(limit)}. Increase device_memory."
            raise OutOfMemory(model=str(model.path), problem=problem)
        if free is not None:
            _compare(model, weights, limit, options.replicas, free, f"the GPU {device}")
        return
    _compare(model, weights, 0, options.replicas, available_memory.of_process(), "this machine")


def weights_bytes(model: Located) -> int:
    """A lower bound of what a process needs for a model: the size of its files without graphs and assets.

    Weights that are compressed in a file need more memory, never less.
    """
    if model.format == formats.SAVED_MODEL:
        return _size(*(model.path / "variables").glob("variables.data-*"))
    if model.weights is not None:
        return _size(*(file for rest, file in formats.checkpoint_files(model.weights) if ".data-" in rest or not rest))
    with_optimizer = _size(model.path, *formats.companions(model.path))
    return with_optimizer // _KERAS_SHARE if model.format in (formats.KERAS, formats.HDF5) else with_optimizer


async def free_gpu_bytes(number: int) -> int | None:
    """The free memory of a GPU, as NVIDIA's tool reports it; None without that tool or such a GPU."""
    if shutil.which(NVIDIA_SMI) is None:
        return None
    query = ["--query-gpu=memory.free", "--format=csv,noheader,nounits", f"--id={number}"]
    with contextlib.suppress(OSError, ValueError, TimeoutError):
        process = await asyncio.create_subprocess_exec(
            NVIDIA_SMI, *query, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            async with asyncio.timeout(_QUERY_LIMIT_S):
                output, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            raise
        return int(output.split()[0]) * 2**20 if output.split() else None
    return None


def _compare(model: Located, weights: int, limit: int, replicas: int, free: int, where: str) -> None:
    needed = max(weights, limit) * replicas
    if needed <= free:
        return
    each = f"device_memory reserves {show(limit)}" if limit > weights else f"its weights have {show(weights)}"
    times = f" for each of {replicas} replicas" if replicas > 1 else ""
    problem = (
        f"{each}{times}, and {where} has {show(free)} of free memory. Deploy fewer replicas or a smaller model,"
        " undeploy another one, or use another device."
    )
    raise OutOfMemory(model=str(model.path), problem=problem)


def _size(*files: Path) -> int:
    return sum(file.stat().st_size for file in files if file.is_file())
