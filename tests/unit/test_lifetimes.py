"""How long a process has lived, as far as it decides whether a worker is started again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import asyncio, sys, time
from tfserve.supervisor.processes import Child, Role
from tfserve.supervisor.restarts import MAX_DEATHS, STABLE_S, Restarts

async def died_after_a_long_time_as_a_spare():
    child = Child.start([sys.executable, "-ISc", "import signal; signal.pause()"], role=Role.SPARE, environment={})
    child._started_at = time.monotonic() - 2 * STABLE_S
    child.take_role(Role.SCRIPT, "w")
    child.kill("the test ends it")
    return await child.ended

restarts = Restarts()
for _ in range(MAX_DEATHS):
    ended = asyncio.run(died_after_a_long_time_as_a_spare())
    assert ended.lived_s < STABLE_S, ended
    restarts.died(now=time.monotonic(), lived_s=ended.lived_s)
print("given up:", restarts.given_up)
"""


def test_the_time_as_a_spare_does_not_make_a_worker_stable() -> None:
    """Otherwise a script that kills its workers goes on for ever where each spare has waited for ten seconds."""
    ended = subprocess.run(  # a process of its own: the end of a child also ends what nobody waits for
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, timeout=60,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert ended.stdout == "given up: True\n", ended.stderr
