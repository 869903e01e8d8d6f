"""Shows on a machine with a GPU that models share it: `python -m benchmarks.gpu_memory MODEL [MODEL …]`.

It loads each model in a process of its own, all at the same time, once with memory that grows as needed and once with
`--limit`, and prints what each takes, as NVIDIA's tool reports it. It fails if a process can't load its model, or takes
more than the limit plus the 700 MiB that CUDA itself may need.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence

from tfserve import sizes

_CUDA_BYTES = 700 * 2**20
_PROGRAM = """
import sys
from tfserve import runtimes
from tfserve.models import formats
model = runtimes.load(formats.locate(sys.argv[1]), device=sys.argv[2], runtime="tensorflow")
print("loaded", flush=True)
sys.stdin.readline()
"""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", metavar="MODEL")
    parser.add_argument("--device", default="/gpu:0")
    parser.add_argument("--limit", default="1GiB", help="device_memory of the second round")
    options = parser.parse_args(argv)
    problems = [*_round(options.models, options.device, ""), *_round(options.models, options.device, options.limit)]
    print("\n".join(problems) or "All models fit next to each other.")
    return bool(problems)


def _round(models: Sequence[str], device: str, limit: str) -> list[str]:
    environment = {**os.environ, "TF_FORCE_GPU_ALLOW_GROWTH": "true", "TFSERVE_DEVICE_MEMORY": limit}
    command = [sys.executable, "-c", _PROGRAM]
    started = [
        subprocess.Popen([*command, model, device], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for model in models
    ]
    print(f"device_memory {limit or 'grows as needed'}:")
    problems = [f"{model} was not loaded." for model, each in zip(models, started, strict=True) if not _is_loaded(each)]
    taken = _taken_bytes()
    for model, each in zip(models, started, strict=True):
        used = taken.get(each.pid, 0)
        print(f"  {model}: {sizes.show(used)}")
        if limit and used > sizes.parse(limit, "--limit") + _CUDA_BYTES:
            problems.append(f"{model} takes {sizes.show(used)}, more than {limit}.")
        each.kill()
        each.wait()
    return problems


def _is_loaded(process: subprocess.Popen[bytes]) -> bool:
    assert process.stdout is not None
    return process.stdout.readline().strip() == b"loaded"


def _taken_bytes() -> dict[int, int]:
    query = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    rows = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()
    pairs = [row.split(",") for row in rows]
    return {int(pid): int(mib) * 2**20 for pid, mib in pairs}


if __name__ == "__main__":
    sys.exit(main())
