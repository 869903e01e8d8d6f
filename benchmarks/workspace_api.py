"""Measures the workspace API: jobs, predictions through the queue, updates under load, memory given back.

make bench                      all of it, about three minutes
make bench ARGS="--quick"       fewer requests and cycles
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from benchmarks.http_load import Result, load
from benchmarks.server_process import REPOSITORY, ServerProcess
from benchmarks.tables import Row, show

MIB = 2**20

console = Console()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer requests and cycles")
    quick = parser.parse_args().quick
    rows: list[Row] = []
    steps = [disk, cold_start, warm_start, idle, jobs, predictions, update_under_load, undeploy_cycles]
    with tempfile.TemporaryDirectory(dir=REPOSITORY, prefix=".bench-") as name, Progress(console=console) as progress:
        task = progress.add_task("measuring", total=len(steps))
        for step in steps:
            progress.update(task, description=step.__name__.replace("_", " "))
            folder = Path(name) / step.__name__
            folder.mkdir()
            rows += step(folder, quick)
            progress.advance(task)
    show(console, rows)


# --- the steps


def disk(folder: Path, quick: bool) -> list[Row]:
    """What a commit can't be faster than."""
    times = []
    with (folder / "file").open("wb", buffering=0) as file:
        for _ in range(50 if quick else 300):
            file.write(b"\0" * 4096)
            started_at = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - started_at)
    return [("the disk: fdatasync after 4 KiB, median", f"{statistics.median(times) * 1000:.2f} ms", "–")]


def cold_start(folder: Path, quick: bool) -> list[Row]:
    with ServerProcess(folder, "--no-warm-spare") as server:
        times = [first_job(server, f"w{n}") for n in range(3 if quick else 9)]
    return [("create a workspace and run `x = 1`, no spare, median", ms(statistics.median(times)), "–")]


def warm_start(folder: Path, quick: bool) -> list[Row]:
    times = []
    with ServerProcess(folder) as server:
        for n in range(2 if quick else 5):
            server.wait_for_spare()
            times.append(first_job(server, f"w{n}"))
    return [("the same with a warm spare, median", ms(statistics.median(times)), "≤ 150 ms")]


def idle(folder: Path, quick: bool) -> list[Row]:
    with ServerProcess(folder) as server:
        server.wait_for_spare()
        share = server.cpu_share(5 if quick else 20)
        parts: dict[str, int] = {}
        for process in server.tree():
            part = part_of(" ".join(process.cmdline()))
            parts[part] = parts.get(part, 0) + process.memory_full_info().pss
        memory = ", ".join(f"{part} {size // MIB}" for part, size in parts.items())
        total = server.pss_bytes() // MIB
    return [
        ("idle with one warm spare: proportional set size", f"{total} MiB ({memory})", "told"),
        ("idle with one warm spare: processor", f"{share * 100:.2f} % of a core", "< 1 %"),
    ]


def jobs(folder: Path, quick: bool) -> list[Row]:
    count = 300 if quick else 2000
    with ServerProcess(folder, "--no-warm-spare") as server:
        server.call("/create_workspace/", name="a")
        body = json.dumps({"name": "a", "job": "x = 1", "type": 1, "timeout": 60}).encode()
        load(server.url, repeat("/push_job/", body, 50), connections=1)
        one = load(server.url, repeat("/push_job/", body, count), connections=1, check=is_true)
        many = load(server.url, repeat("/push_job/", body, count), connections=16, check=is_true)
        lost = verify_numbers(server, [*one.answers, *many.answers], first=50)
    at_once = f"{many.rate:.0f} jobs/s, {lost} lost"
    return [
        ("push_job of `x = 1`, waiting, 1 client: p50", f"{one.p50_ms:.1f} ms (p99 {one.p99_ms:.1f})", "≤ 5 ms"),
        ("push_job of `x = 1`, waiting, 16 clients on one workspace", at_once, "≥ 500, 0 lost"),
    ]


def predictions(folder: Path, quick: bool) -> list[Row]:
    count = 500 if quick else 5000
    with ServerProcess(folder) as server:
        _, images, labels = deploy_digits(server)
        bodies = [predict_body(image) for image in images]
        one = load(server.url, cycle("/predict/", bodies, count // 5), connections=1)
        many = load(server.url, cycle("/predict/", bodies, count), connections=32)
        failed = len(one.failures) + len(many.failures)
        right = sum(
            int(np.argmax(answer["result"]["result"][0][0])) == labels[n % len(labels)]
            for n, answer in enumerate(one.answers)
        )
        lost = verify_numbers(server, [*one.answers, *many.answers], first=None)
    told = f"p99 {one.p99_ms:.1f}; accuracy {right / len(one.answers):.3f}"
    kept = f"{failed} failed, {lost} not retrievable"
    return [
        ("predict of the digits model, 1 client: p50", f"{one.p50_ms:.1f} ms ({told})", "≤ 5 ms"),
        ("predict of the digits model, 32 clients", f"{many.rate:.0f}/s, {kept}", "≥ 1000/s, all retrievable"),
    ]  # fmt: skip


def update_under_load(folder: Path, quick: bool) -> list[Row]:
    updates = 2 if quick else 5
    with ServerProcess(folder) as server:
        model, images, _ = deploy_digits(server)
        body, stop, results = predict_body(images[0]), threading.Event(), []

        def until_stopped() -> Iterator[tuple[str, bytes]]:
            while not stop.is_set():
                yield "/predict/", body

        client = threading.Thread(
            target=lambda: results.append(load(server.url, until_stopped(), connections=32, check=is_list))
        )
        client.start()
        for _ in range(updates):
            job: Any = server.call("/update/", name="digits", path=model, timeout=60)
            assert job["result"] is True, job
            server.wait_for_spare()  # meanwhile predictions go on
        stop.set()
        client.join()
    result: Result = results[0]
    return [(f"{updates} updates under 32 clients", f"{len(result.failures)} of {len(result.times)} failed", "0")]


def undeploy_cycles(folder: Path, quick: bool) -> list[Row]:
    cycles = 5 if quick else 50
    with ServerProcess(folder) as server:
        model, _, _ = deploy_digits(server)
        server.call("/undeploy/", name="digits", timeout=60)
        sizes = []
        for _ in range(cycles):
            server.wait_for_spare()
            sizes.append(server.pss_bytes() / MIB)
            server.call("/deploy/", name="digits", path=model, timeout=60)
            server.call("/undeploy/", name="digits", timeout=60)
        server.wait_for_spare()
        sizes.append(server.pss_bytes() / MIB)
    slope = float(np.polyfit(range(len(sizes)), sizes, 1)[0])
    return [(
        f"{cycles} cycles of deploy and undeploy: proportional set size of the whole tree",
        f"{sizes[0]:.0f} → {sizes[-1]:.0f} MiB, slope {slope:+.3f} MiB a cycle",
        "≤ 0.2 MB a cycle",
    )]  # fmt: skip


# --- parts


def first_job(server: ServerProcess, name: str) -> float:
    started_at = time.perf_counter()
    server.call("/create_workspace/", name=name)
    job: Any = server.call("/push_job/", name=name, job="x = 1", type=1, timeout=60)
    took_s = time.perf_counter() - started_at
    assert job["result"] is True, job
    return took_s


def part_of(command: str) -> str:
    """Which process of the server has this command line."""
    words = {"tfserve.web.app": "web", "tfserve.worker": "spare", "guardian.py": "guardian"}
    return next((part for word, part in words.items() if word in command), "supervisor")


def deploy_digits(server: ServerProcess) -> tuple[str, list[Any], list[int]]:
    """Trains the example in a workspace of its own, and deploys it in another."""
    server.call("/create_workspace/", name="training")
    program = str(REPOSITORY / "examples" / "digits" / "train.py")
    job: Any = server.call("/push_job/", name="training", job=program, timeout=120)
    assert job["result"] is True, job
    held_out = json.loads(Path(job["variable"]["held_out_path"]).read_text())
    server.call("/create_workspace/", name="digits")
    path: str = job["variable"]["model_path"]
    deployed: Any = server.call("/deploy/", name="digits", path=path, timeout=60)
    assert deployed["result"] is True, deployed
    server.wait_for_spare()
    return path, held_out["images"], held_out["labels"]


def predict_body(image: Any) -> bytes:
    fields = {"name": "digits", "fetches": "probabilities", "feed_dict": {"images": [image]}, "timeout": 60}
    return json.dumps(fields).encode()


def repeat(path: str, body: bytes, count: int) -> Iterator[tuple[str, bytes]]:
    return iter([(path, body)] * count)


def cycle(path: str, bodies: list[bytes], count: int) -> Iterator[tuple[str, bytes]]:
    return ((path, bodies[n % len(bodies)]) for n in range(count))


def is_true(answer: Any) -> bool:
    return answer["result"]["result"] is True


def is_list(answer: Any) -> bool:
    return isinstance(answer["result"]["result"], list)


def verify_numbers(server: ServerProcess, answers: list[Any], first: int | None) -> int:
    """How many of the answered jobs do not stand once, with their result, in what the server keeps."""
    name = "a" if first is not None else "digits"
    first = 1 if first is None else first
    kept: Any = server.call("/get_result/", name=name)
    results = {answer["result"]["job"]: answer["result"]["result"] for answer in answers}
    assert sorted(results) == list(range(first, first + len(answers))), "a number is missing or was given twice"
    return sum(kept[number] != result for number, result in results.items())


def ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


if __name__ == "__main__":
    main()
