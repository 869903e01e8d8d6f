"""How long servers have run on this database: the clock of retention, which no change of the wall clock moves.

Time in which no server runs does not count, so a job is kept for `keep_days` days of running time. A server that is
killed forgets the time since it was last saved, and then keeps jobs a little longer.
"""

from __future__ import annotations

import time

from tfserve.db.models import Job, ServerState
from tfserve.ipc.messages import FINISHED

_before_s = 0.0
_started_at = time.monotonic()


def start() -> None:
    """Continues from the saved time. Jobs that finished under a version without this clock count as finished now."""
    global _before_s, _started_at
    _before_s = ServerState.objects.values_list("running_s", flat=True).first() or 0.0
    _started_at = time.monotonic()
    Job.objects.filter(state__in=FINISHED, finished_running_s=None).update(finished_running_s=_before_s)


def now_s() -> float:
    return _before_s + time.monotonic() - _started_at


def save() -> None:
    ServerState.objects.update(running_s=now_s())
