"""The decisions of access control: scopes, limits, delays and durations."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tfserve.access import durations, local_token, secrets
from tfserve.access.principals import (
    ADDRESS,
    ANONYMOUS,
    EVERYBODY,
    PRINCIPAL,
    Principal,
    Scope,
    ScopeRequired,
    expanded,
)
from tfserve.config import Settings
from tfserve.errors import Invalid, NotFound
from tfserve.ipc.messages import AccessRules, TokenDigest, TokenRule, TokensUsed
from tfserve.supervisor.audit_rotation import KEPT, rotate
from tfserve.web.access import allowances
from tfserve.web.access.audit_log import AuditLog
from tfserve.web.access.authenticator import Authenticator, TokenRefused
from tfserve.web.access.failed_attempts import (
    FREE,
    MAX_DELAY_S,
    MAX_RECORDS,
    MAX_WAITING_OF_ADDRESS,
    RECORD_ALL,
    FailedAttempts,
    TooManyFailures,
    delay_after,
    network_of,
)
from tfserve.web.access.token_limits import COUNTED_BYTES, TokenLimits, TooManyBytes, TooManyPerSecond


def principal(*scopes: Scope, owner: str = "token:1") -> Principal:
    return Principal("t", owner, expanded(scopes), frozenset({"shop"}))


# --- principals


def test_scopes_include_others() -> None:
    assert expanded([Scope.SUBMIT]) == {Scope.SUBMIT, Scope.PREDICT, Scope.UPLOAD}
    assert expanded([Scope.ADMIN]) == set(Scope)
    assert expanded([Scope.TRAIN]) == {Scope.TRAIN, Scope.UPLOAD}
    with pytest.raises(ScopeRequired, match="'admin'; 't' has predict, submit"):
        principal(Scope.SUBMIT).require(Scope.ADMIN)


def test_what_belongs_to_others_is_not_visible() -> None:
    sender = principal(Scope.TRAIN)
    assert [sender.sees_owned_by(owner) for owner in ("", "token:1", "token:2", "user:admin")] == [
        True,
        True,
        False,
        False,
    ]
    assert principal(Scope.ADMIN).sees_owned_by("token:2")
    assert sender.visible(["garden", "shop"]) == ["shop"]
    assert EVERYBODY.visible(["garden", "shop"]) == ["garden", "shop"]
    assert ANONYMOUS.visible(["garden", "shop"]) == []


# --- credentials


def authenticator(*digests: TokenDigest, is_required: bool = True) -> Authenticator:
    made = Authenticator(lambda _: None, AuditLog(None))
    rule = TokenRule(1, "t", ["predict"], None, list(digests))
    made.apply(AccessRules(is_required=is_required, tokens=[rule]))
    return made


def test_a_token_is_known_until_its_end_and_only_as_it_is() -> None:
    asyncio.run(_known_until_its_end())


async def _known_until_its_end() -> None:
    secret = secrets.new_secret().encode()
    digest = secrets.digest(secret)
    open_end = authenticator(TokenDigest(digest))
    found = open_end.principal(b"Bearer " + secret, None)
    assert found is not None
    assert found.name == "t"
    assert open_end.principal(None, secret) == found
    assert open_end.principal(None, None) is None
    for wrong in (secret[:-1], secret + b"x", secret.upper(), digest, digest.hex().encode(), b""):
        with pytest.raises(TokenRefused):
            open_end.principal(b"Bearer " + wrong, None)
    with pytest.raises(TokenRefused, match="Bearer <token>"):
        open_end.principal(b"Basic " + secret, None)
    with pytest.raises(TokenRefused):
        authenticator(TokenDigest(digest, time.time() - 1)).principal(None, secret)
    assert authenticator(is_required=False).principal(b"Bearer nonsense", None) is EVERYBODY


def test_uses_are_reported_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tfserve.web.access.authenticator.REPORT_USE_S", 0.0)
    assert asyncio.run(_reported_uses()) == {1}


async def _reported_uses() -> set[int]:
    reported: asyncio.Queue[TokensUsed] = asyncio.Queue()
    secret = secrets.new_secret().encode()
    made = Authenticator(reported.put_nowait, AuditLog(None))
    rule = TokenRule(1, "t", ["predict"], None, [TokenDigest(secrets.digest(secret))])
    made.apply(AccessRules(is_required=True, tokens=[rule]))
    for _ in range(5):
        made.principal(None, secret)
    used = (await reported.get()).used
    assert reported.empty()
    return set(used)


def test_delays_grow_and_stay_bounded() -> None:
    delays = [delay_after(failures) for failures in (1, FREE, FREE + 1, FREE + 2, FREE + 3, 10_000)]
    assert delays == [0.0, 0.0, 0.25, 0.5, 1.0, MAX_DELAY_S]


def test_many_failures_do_not_fill_the_audit_log(tmp_path: Path) -> None:
    audit = AuditLog(tmp_path / "audit.jsonl")

    async def fail(times: int) -> int:
        """How many of that many failures at once are refused without a delay."""
        failures = FailedAttempts(audit)
        tasks = [asyncio.create_task(failures.note("refused token")) for _ in range(times)]
        await asyncio.sleep(0)
        refused = sum(isinstance(task.exception(), TooManyFailures) for task in tasks if task.done())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return refused

    ADDRESS.set("2001:db8::1")
    assert asyncio.run(fail(1000)) == 1000 - FREE - MAX_WAITING_OF_ADDRESS
    assert len(audit.last(1000)) == RECORD_ALL


def test_failures_from_many_addresses_do_not_fill_the_audit_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tfserve.web.access.failed_attempts.RECORDS_S", 0.5)
    audit = AuditLog(tmp_path / "audit.jsonl")

    async def fail(times: int) -> None:
        failures = FailedAttempts(audit)
        for number in range(times):
            ADDRESS.set(f"2001:db8:0:{number:x}::1")
            failures.record("refused token", f"network {number}")
        await asyncio.sleep(0.6)  # the summary follows at the end of the interval, on its own

    asyncio.run(fail(1000))
    last, *others = audit.last(2000)
    assert (len(others), last.error, last.client) == (MAX_RECORDS, "900 more, from any address, are not recorded", "")


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"), ("::ffff:192.0.2.7", "192.0.2.7"), ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"), ("fe80::1%eth0", "fe80::/64"), ("unknown", "unknown"),
    ],
)  # fmt: skip
def test_an_ipv6_network_counts_as_one_client(address: str, network: str) -> None:
    assert network_of(address) == network


def test_health_probes_are_not_limited_by_what_others_without_a_token_send() -> None:
    limits = TokenLimits(Settings(token_requests_per_s=1.0))
    assert [limits.begin(ANONYMOUS, 0) for _ in range(5)] == [0] * 5


def test_large_bodies_without_a_token_are_limited_together_and_small_ones_are_not() -> None:
    limits = TokenLimits(Settings(token_bytes_in_flight=100_000))
    assert limits.begin(ANONYMOUS, 100_000) == 100_000
    with pytest.raises(TooManyBytes):
        limits.begin(ANONYMOUS, COUNTED_BYTES)
    assert [limits.begin(ANONYMOUS, COUNTED_BYTES - 1) for _ in range(20)] == [0] * 20
    assert limits.begin(principal(Scope.PREDICT), 100_000) == 100_000


def test_a_server_starts_although_the_local_token_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "local_token.new").mkdir()  # as root, no permission could be missing
    first, second = local_token.begin(tmp_path), local_token.begin(tmp_path)
    assert first != second
    assert not (tmp_path / "local_token").exists()
    (tmp_path / "local_token.new").rmdir()
    assert local_token.begin(tmp_path) == (tmp_path / "local_token").read_text()
    assert (tmp_path / "local_token").stat().st_mode & 0o777 == 0o600


# --- limits


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_requests_per_second_allow_a_burst_and_then_the_rate() -> None:
    clock = Clock()
    limits = TokenLimits(Settings(token_requests_per_s=4.0), clock)
    one, other = principal(Scope.PREDICT), principal(Scope.PREDICT, owner="token:2")
    for _ in range(4):
        limits.begin(one, 0)
    with pytest.raises(TooManyPerSecond, match="more than 4 requests per second"):
        limits.begin(one, 0)
    limits.begin(other, 0)
    clock.now += 0.25
    limits.begin(one, 0)
    with pytest.raises(TooManyPerSecond):
        limits.begin(one, 0)
    clock.now += 3600
    for _ in range(4):
        limits.begin(one, 0)
    with pytest.raises(TooManyPerSecond):
        limits.begin(one, 0)


def test_web_processes_count_the_requests_of_a_token_together(tmp_path: Path) -> None:
    clock = Clock()
    settings = Settings(token_requests_per_s=4.0, web_processes=2, data_dir=str(tmp_path))
    first, second = TokenLimits(settings, clock), TokenLimits(settings, clock)
    one, other = principal(Scope.PREDICT), principal(Scope.PREDICT, owner="token:2")
    for limits in (first, second, first, first):
        limits.begin(one, 0)
    for limits in (first, second):
        with pytest.raises(TooManyPerSecond, match="more than 4 requests per second"):
            limits.begin(one, 0)
    first.begin(other, 0)
    clock.now += 0.25
    second.begin(one, 0)
    with pytest.raises(TooManyPerSecond):
        first.begin(one, 0)
    clock.now = 5.0  # after a restart of the machine
    TokenLimits(settings, clock).begin(one, 0)


def test_without_a_shared_file_each_web_process_has_a_share(tmp_path: Path) -> None:
    (tmp_path / allowances.FILE).mkdir()
    limits = TokenLimits(Settings(token_requests_per_s=4.0, web_processes=2, data_dir=str(tmp_path)), Clock())
    for _ in range(2):
        limits.begin(principal(Scope.PREDICT), 0)
    with pytest.raises(TooManyPerSecond, match="more than 4 requests per second"):
        limits.begin(principal(Scope.PREDICT), 0)


def test_more_tokens_than_slots_are_still_limited(tmp_path: Path) -> None:
    clock = Clock()
    shared = allowances.SharedAllowances(tmp_path / "a", 10.0, clock)
    for number in range(2 * allowances.SLOTS):
        clock.now += 0.001
        shared.write(f"token:{number}", allowances.Allowance(1.0, clock.now))
    last = f"token:{2 * allowances.SLOTS - 1}"
    assert shared.read(last) == (1.0, clock.now)
    shared.write(last, allowances.Allowance(0.5, clock.now))
    assert shared.read(last) == (0.5, clock.now)
    clock.now += 10.0
    assert shared.read(last) is None


def test_bytes_in_flight_are_given_back_and_one_request_always_fits() -> None:
    limits = TokenLimits(Settings(token_bytes_in_flight=100_000))
    sender = principal(Scope.PREDICT)
    first = limits.begin(sender, 500_000)
    with pytest.raises(TooManyBytes):
        limits.begin(sender, 20_000)
    with pytest.raises(TooManyBytes):
        limits.begin(sender, None)
    assert limits.begin(sender, 0) == 0
    limits.end(sender, first)
    sizes = [limits.begin(sender, 50_000), limits.begin(sender, 50_000)]
    with pytest.raises(TooManyBytes):
        limits.begin(sender, 20_000)
    for size in sizes:
        limits.end(sender, size)
    assert limits.begin(sender, 100_000) == 100_000


# --- the audit log


def test_the_outcome_of_an_action_is_recorded(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    ADDRESS.set("192.0.2.1")
    PRINCIPAL.set(principal(Scope.SUBMIT))
    with log.action("deploy", {"name": "shop", "path": None}):
        pass
    with pytest.raises(NotFound), log.action("undeploy", {"name": "x" * 1000}):
        raise NotFound("nothing there")
    failed, done = log.last(10)
    assert (done.who, done.action, done.outcome, done.client, done.resource) == (
        "t",
        "deploy",
        "ok",
        "192.0.2.1",
        {"name": "shop"},
    )
    assert (failed.outcome, failed.error, len(failed.resource["name"])) == ("not_found", "nothing there", 200)
    with (tmp_path / "audit.jsonl").open("ab") as file:
        file.write(b'{"time": "cut off')
    assert [entry.action for entry in log.last(10)] == ["undeploy", "deploy"]
    PRINCIPAL.set(EVERYBODY)


def test_a_log_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "missing" / "audit.jsonl")
    with log.action("deploy", {}):
        pass
    assert log.last(10) == []


def test_large_audit_logs_are_rotated(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    for number in range(KEPT + 3):
        path.write_text(f"{number}" * 100)
        rotate(path, 50)
        assert not path.exists()
    kept = sorted(each.name for each in tmp_path.iterdir())
    assert kept == [f"audit.jsonl.{number}" for number in range(1, KEPT + 1)]
    assert path.with_name("audit.jsonl.1").read_text().startswith("7")
    path.write_text("small")
    rotate(path, 50)
    assert path.exists()


# --- durations and names


@pytest.mark.parametrize(
    ("text", "seconds"), [("90d", 7_776_000), ("12h", 43_200), ("30m", 1800), (" 45s ", 45), ("2w", 1_209_600)]
)
def test_durations(text: str, seconds: int) -> None:
    assert durations.seconds(text, "expires") == seconds


@pytest.mark.parametrize("text", ["", "0d", "-1d", "90", "d", "1.5h", "1y", "999999999w", "1d1h", "９d"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(Invalid, match="expires must be a duration such as 90d"):
        durations.seconds(text, "expires")
