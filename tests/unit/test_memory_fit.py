"""A deployment that certainly does not fit into memory is refused before a process is started for it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tfserve import available_memory, sizes
from tfserve.config import Settings, load
from tfserve.errors import Invalid, OutOfMemory
from tfserve.ipc.messages import ModelOptions
from tfserve.models.formats import FROZEN_GRAPH, KERAS, SAVED_MODEL, Located
from tfserve.supervisor.models import memory_fit

TIB = 2**40


@pytest.mark.parametrize(
    ("text", "size"), [("", 0), ("512", 512), ("2GiB", 2**31), ("1.5 GB", 1_500_000_000), ("3mib", 3 * 2**20)]
)
def test_sizes_have_units(text: str, size: int) -> None:
    assert sizes.parse(text, "device_memory") == size


@pytest.mark.parametrize("text", ["2 apples", "-1", "GiB", "1e9", "2GiBs"])
def test_other_sizes_are_refused_with_examples(text: str) -> None:
    with pytest.raises(Invalid, match="device_memory must be a size such as 512MiB"):
        load({"device_memory": text})


def sparse(file: Path, size_bytes: int) -> Path:
    with file.open("wb") as opened:
        opened.truncate(size_bytes)
    return file


def check(model: Located, device: str = "/cpu:0", settings: Settings | None = None, **options: int) -> None:
    asyncio.run(memory_fit.check(model, device, ModelOptions(**options), settings or Settings()))  # type: ignore[arg-type]


def test_weights_larger_than_the_free_memory_are_refused_with_the_numbers(tmp_path: Path) -> None:
    half = int(available_memory.of_process() * 0.6)
    model = Located(FROZEN_GRAPH, sparse(tmp_path / "m.pb", half), None)
    check(model)
    with pytest.raises(
        OutOfMemory, match=r"its weights have .* for each of 2 replicas, and this machine has .* of free"
    ):
        check(model, replicas=2)
    keras = Located(KERAS, sparse(tmp_path / "m.keras", half), None)
    check(keras, replicas=2)  # two thirds of the file may be the state of an optimizer


def test_only_the_weights_of_a_saved_model_count(tmp_path: Path) -> None:
    (tmp_path / "variables").mkdir()
    (tmp_path / "assets").mkdir()
    sparse(tmp_path / "assets" / "words", TIB)
    check(Located(SAVED_MODEL, tmp_path, None))
    sparse(tmp_path / "variables" / "variables.data-00000-of-00001", TIB)
    with pytest.raises(OutOfMemory):
        check(Located(SAVED_MODEL, tmp_path, None))


def test_the_free_memory_of_a_gpu_is_asked_of_nvidias_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text('#!/bin/sh\ncase "$*" in *--id=1*) echo 3000;; *) exit 6;; esac\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    model = Located(FROZEN_GRAPH, sparse(tmp_path / "m.pb", 2**30), None)
    check(model, "/gpu:1", replicas=2)
    with pytest.raises(OutOfMemory, match=r"1\.0 GiB for each of 3 replicas, and the GPU /gpu:1 has 2\.9 GiB"):
        check(model, "/gpu:1", replicas=3)
    with pytest.raises(OutOfMemory, match=r"device_memory reserves 2\.0 GiB for each of 2 replicas"):
        check(model, "/gpu:1", Settings(device_memory="2GiB"), replicas=2)
    check(model, "/gpu:1", Settings(device_memory="2GiB"), replicas=2, device_memory_bytes=2**30 + 2**20)
    with pytest.raises(OutOfMemory, match="Increase device_memory"):
        check(model, "/gpu:1", device_memory_bytes=2**20)
    check(model, "/gpu:7", replicas=100)  # unknown: TensorFlow tries


def test_the_limits_of_control_groups_count(tmp_path: Path) -> None:
    own = tmp_path / "cgroup"
    own.write_text("4:memory:/a\n0::/outer/inner\n")
    root = tmp_path / "root"
    inner, old = root / "outer" / "inner", root / "memory" / "a"
    for folder in (inner, old):
        folder.mkdir(parents=True)
    (root / "outer" / "memory.max").write_text("1000\n")
    (root / "outer" / "memory.current").write_text("900\n")
    (root / "outer" / "memory.stat").write_text("anon 500\ninactive_file 50\n")
    (inner / "memory.max").write_text("max\n")
    (old / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    groups = list(available_memory.control_groups(root, own))
    assert inner in groups
    assert old in groups
    assert min(available_memory.free_of(folder) for folder in groups) == 150
