"""When a callback is sent again, and its signature."""

from __future__ import annotations

import hashlib
import hmac


def test_delays_grow_to_an_hour_and_jitter_spreads_them() -> None:
    from tfserve.supervisor.jobs.callbacks import delay_s

    assert [delay_s(attempts, 0.5) for attempts in (0, 1, 2, 5)] == [1.0, 2.0, 4.0, 32.0]
    assert delay_s(100, 0.5) == 3600.0
    assert (delay_s(2, 0.0), delay_s(2, 1.0)) == (3.0, 5.0)


def test_the_signature_covers_time_and_body() -> None:
    from tfserve.supervisor.jobs.callbacks import signature

    time, mac = (part.partition("=")[2] for part in signature("key", b'{"id":1}', 1700000000).split(","))
    assert mac == hmac.new(b"key", f"{time}.".encode() + b'{"id":1}', hashlib.sha256).hexdigest()
