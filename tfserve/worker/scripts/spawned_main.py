"""Run by a process that a script without a file has spawned: see `spawning`."""

from tfserve.worker.scripts.spawning import run_received

run_received(globals())
