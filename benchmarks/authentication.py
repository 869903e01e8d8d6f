"""What authentication costs per request in the web process: the middleware around an application that does nothing.

python -m benchmarks.authentication
"""

from __future__ import annotations

import asyncio
import statistics
import time
from typing import Any

from tfserve.access import secrets
from tfserve.config import Settings
from tfserve.ipc.messages import AccessRules, TokenDigest, TokenRule
from tfserve.web.access.audit_log import AuditLog
from tfserve.web.access.authentication import Authentication
from tfserve.web.access.authenticator import Authenticator
from tfserve.web.access.token_limits import TokenLimits

CALLS, ROUNDS, TOKENS = 20_000, 15, 1000


async def _nothing(*_: Any) -> None:
    pass


async def _no_session(_: Any) -> None:
    return None


def _scope(secret: str) -> dict[str, Any]:
    """A prediction as curl sends it."""
    headers = [
        (b"host", b"127.0.0.1:8000"), (b"user-agent", b"curl/7.88.1"), (b"accept", b"*/*"),
        (b"authorization", f"Bearer {secret}".encode()), (b"content-type", b"application/json"),
        (b"content-length", b"40"),
    ]  # fmt: skip
    return {
        "type": "http", "method": "POST", "path": "/v1/models/m:predict", "query_string": b"",
        "client": ("127.0.0.1", 1), "headers": headers,
    }  # fmt: skip


async def _seconds_per_call(app: Any, scope: dict[str, Any]) -> float:
    started = time.process_time()
    for _ in range(CALLS):
        await app(scope, None, None)
    return (time.process_time() - started) / CALLS


async def main() -> None:
    authenticator = Authenticator(lambda _: None, AuditLog(None))
    issued = [secrets.new_secret() for _ in range(TOKENS)]
    rules = [
        TokenRule(number, f"t{number}", ["predict"], ["m"], [TokenDigest(secrets.digest(secret.encode()))])
        for number, secret in enumerate(issued, 1)
    ]
    guarded = Authentication(_nothing, authenticator, TokenLimits(Settings()), _no_session, _nothing)
    scope = _scope(issued[-1])
    times: dict[str, list[float]] = {"none": [], "off": [], "on": []}
    for _ in range(ROUNDS):
        times["none"].append(await _seconds_per_call(_nothing, scope))
        for name, is_required in (("off", False), ("on", True)):
            authenticator.apply(AccessRules(is_required=is_required, tokens=rules))
            times[name].append(await _seconds_per_call(guarded, scope))
    base = statistics.median(times["none"])
    for name in ("off", "on"):
        cost = [1e6 * (each - base) for each in times[name]]
        median = statistics.median(cost)
        print(f"authentication {name}: {median:.2f} µs per request (least {min(cost):.2f}), {TOKENS} tokens")


if __name__ == "__main__":
    asyncio.run(main())
