"""The settings: name, type, default and help text of each.

The command line (`--max-queue 50`) takes precedence over the environment (`TFSERVE_MAX_QUEUE=50`), which takes
precedence over the default. `make docs` generates the settings page from this list.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tfserve import sizes, written_numbers
from tfserve.errors import Invalid
from tfserve.remote_sources import RemoteSource, parse

#: as a file name: log to standard output
STANDARD_OUTPUT = "-"
MIB = 1024 * 1024
Network = IPv4Network | IPv6Network
MAX_PORT = 65535
AUTH = ("auto", "on", "off")
#: set for web processes, so that they do not recreate a deleted database file, empty
DATABASE_MUST_EXIST = "TFSERVE_DATABASE_MUST_EXIST"
#: where the operator has set what: the processes of a server get all settings in the environment


def setting(default: Any, help_text: str, *, flag: bool = True) -> Any:
    return field(default=default, metadata={"help": help_text, "flag": flag})


@dataclass(frozen=True)
class Settings:
    """The server's configuration. Sizes are in bytes, times in seconds."""

    host: str = setting("127.0.0.1", "address to listen on")
    port: int = setting(8000, "port of the pages and APIs; 0 picks a free port")
    data_dir: str = setting(".tfserve", "folder for persistent data: database, workspaces, job output, logs")
    roots: str = setting("", "readable folders, separated as in PATH (default: working directory and data folder)")
    models: str = setting("", "TOML file that declares models and workspaces; applied whenever it changes")
    database_url: str = setting("", "PostgreSQL URL; empty: SQLite in the data folder", flag=False)
    standby: bool = setting(False, "wait until another server on the data folder or database ends, then take over")
    auth: str = setting(
        "auto", "whether requests need a token: on, off, or auto (on if a token exists or the address is not loopback)"
    )
    allow_unauthenticated: bool = setting(False, "allow auth=off on an address that other machines can reach")
    allowed_hosts: str = setting("", "additional allowed Host header values, comma-separated")
    allowed_origins: str = setting("", "origins whose web pages may use the APIs (CORS), comma-separated")
    trusted_proxies: str = setting("", "addresses and networks whose forwarded headers are trusted, comma-separated")

    tls_cert: str = setting("", "TLS certificate file for HTTP and gRPC (PEM, with its chain); empty: no TLS")
    tls_key: str = setting("", "key file of the TLS certificate (PEM, not encrypted)")
    tls_client_ca: str = setting("", "CA file (PEM); clients must present a certificate signed by one of its CAs")
    tls_self_signed: bool = setting(False, "use TLS with a self-signed certificate, kept in the data folder")

    web_processes: int = setting(1, "number of HTTP server processes")
    warm_spare: bool = setting(True, "keep a spare process with TensorFlow already loaded")
    max_workspaces: int = setting(200, "maximum workspaces; beyond it: 429")
    max_queue: int = setting(10_000, "maximum queued jobs per workspace; beyond it: 503")
    max_queue_bytes: int = setting(256 * MIB, "maximum total size of queued requests per workspace; beyond it: 503")
    train_workers: int = setting(1, "maximum training tasks running at a time")
    train_nice: int = setting(5, "niceness of training processes, 0 (normal priority) to 19 (lowest)")
    max_tasks: int = setting(100, "maximum queued and running training tasks; beyond it: 429")
    training_port: int = setting(0, "additional port for the training API (older clients expect 2333); 0: off")
    v1_port: int = setting(0, "additional port for TensorFlow Serving clients (they expect 8501); 0: off")
    grpc_port: int = setting(0, "port of the gRPC APIs (v2 and TensorFlow Serving); 0: off")
    callback_url: str = setting("", "URL that receives a training task's JSON by POST whenever its state changes")
    callback_allow: str = setting(
        "", "hosts and networks besides public addresses that job callbacks may be sent to, comma-separated"
    )
    callback_attempts: int = setting(12, "maximum attempts to deliver a job's callback, with growing delays")
    max_deferred: int = setting(1000, "maximum queued and running deferred predictions and batches; beyond it: 429")
    max_deferred_bytes: int = setting(
        1024 * MIB, "maximum total size of the bodies of queued and running deferred predictions; beyond it: 429"
    )
    batch_workers: int = setting(2, "maximum batches running at a time, at most half of them for one model")
    keep_jobs: int = setting(10_000, "finished jobs kept per workspace")
    keep_days: int = setting(30, "retention of finished jobs in days of server uptime")
    max_output_bytes: int = setting(64 * MIB, "maximum output kept per job; a marker shows where it was truncated")
    cancel_grace_s: float = setting(5.0, "grace period before the processes of a cancelled script are killed")
    drain_s: float = setting(10.0, "grace period for running jobs when the server stops")

    cluster: str = setting(
        "",
        "add machines with Ray: ray starts a Ray for it, ray://HOST:PORT uses the one with its GCS there; empty: off",
    )
    cluster_host: str = setting("0.0.0.0", "address of the port at which nodes of the cluster connect")  # noqa: S104
    cluster_port: int = setting(7700, "port at which nodes of the cluster connect; 0 picks a free port")
    cluster_http_port: int = setting(7701, "port at which nodes forward requests to the head; 0 picks a free port")
    head_runs_workers: bool = setting(True, "run workers on the machine of the head too")
    head_grace_s: float = setting(30.0, "how long workers on nodes wait for a head that is gone, and serve meanwhile")
    shared_dir: str = setting("", "folder that all machines see at the same path, so that its files are not copied")
    node_cache: str = setting("20GiB", "size of the files that a node keeps of the head's models, uploads and projects")

    autoscale_down_s: float = setting(
        60.0, "how long the load of a model with autoscale must be lower before it gets fewer replicas"
    )
    idle_after: float = setting(
        0.0, "seconds without a prediction after which a model releases its processes until the next one; 0: never"
    )
    max_awake_models: int = setting(
        0, "maximum models with processes: the least recently used one sleeps before another one starts; 0: no limit"
    )
    min_free_memory: str = setting(
        "256MiB", "free memory below which the least recently used model sleeps before another one starts; empty: off"
    )
    convert: bool = setting(True, "look for a faster runtime when a model is deployed with runtime auto")
    workspace_memory: str = setting(
        "75%", "memory of each worker of a workspace with its child processes, such as 4GiB, or a share of the machine"
    )
    workspace_threads: int = setting(0, "processors that each worker of a workspace may use; 0: all")
    workspace_processes: int = setting(512, "processes of each worker of a workspace; 0: no limit")
    workspace_disk: str = setting(
        "20GiB", "size of a workspace's folder; beyond it, scripts are ended; empty: no limit"
    )
    max_job_s: float = setting(0.0, "maximum running time of a script; 0: no limit")
    device_memory: str = setting("", "GPU memory limit of a process, such as 2GiB; empty: grows as needed")
    allow_unsafe_ops: bool = setting(
        False, "load models whose operations read or write files, call Python or open connections"
    )
    predict_timeout_s: float = setting(60.0, "timeout of a prediction, including its time in the queue")
    max_predictions: int = setting(
        1000, "maximum queued and running predictions per model and web process; beyond it: 503"
    )

    max_body_bytes: int = setting(64 * MIB, "maximum request body size after decompression; beyond it: 413")
    max_response_bytes: int = setting(64 * MIB, "maximum size of a result or variable; beyond it: 413")
    max_upload_bytes: int = setting(
        16 * 1024 * MIB, "maximum size of an uploaded file, and of the content of an archive; beyond it: 413"
    )
    upload_quota_bytes: int = setting(
        32 * 1024 * MIB, "maximum total size of the uploads and stored files of one owner; beyond it: 507"
    )
    all_uploads_bytes: int = setting(
        0, "maximum total size of the uploads and stored files of all owners; beyond it: 507; 0: no limit"
    )
    upload_days: int = setting(7, "retention of unused uploads in days of server uptime")
    remote_sources: str = setting(
        "",
        "addresses that paths may begin with to fetch files from other servers, such as https://models.example.com,"
        " s3://bucket, gs://bucket or hf://organisation; separated by commas",
    )
    header_timeout_s: float = setting(15.0, "timeout for receiving the request headers")
    body_timeout_s: float = setting(30.0, "timeout for receiving a request body, plus 1 s per MiB received")
    keep_alive_s: float = setting(75.0, "how long an idle connection is kept open")
    max_requests: int = setting(2000, "maximum concurrent requests per web process; beyond it: 503")

    tracing: bool = setting(
        False, "send OpenTelemetry spans of HTTP requests, configured by OTEL_… variables (extra: tracing)"
    )
    audit_log: str = setting("audit.jsonl", "audit log file, relative to the data folder; empty: off")
    token_requests_per_s: float = setting(0.0, "maximum requests per second and token; beyond it: 429; 0: no limit")
    token_bytes_in_flight: int = setting(
        512 * MIB, "maximum total size of a token's requests in progress, per web process; beyond it: 429; 0: no limit"
    )
    token_jobs: int = setting(20_000, "maximum queued and running jobs per token; beyond it: 429; 0: no limit")
    access_log: str = setting("", "access log file, one JSON object per request; -: standard output; empty: off")

    @property
    def data_path(self) -> Path:
        return Path(self.data_dir).resolve()

    @property
    def uploads_path(self) -> Path:
        """The folder of the uploads."""
        return self.data_path / "uploads"

    @property
    def root_paths(self) -> list[Path]:
        """The readable folders, resolved. Uploads can always be read."""
        roots = self.configured_roots or [Path.cwd().resolve(), self.data_path]
        is_inside = any(self.uploads_path.is_relative_to(root) for root in roots)
        return roots if is_inside else [*roots, self.uploads_path]

    @property
    def remote_source_list(self) -> list[RemoteSource]:
        """The servers from which files may be fetched."""
        return [parse(each, "remote_sources") for each in _listed(self.remote_sources)]

    @property
    def configured_roots(self) -> list[Path]:
        """The configured roots, which every process of a server inherits. Empty in a process without a server."""
        return [Path(root).resolve() for root in self.roots.split(os.pathsep) if root]

    @property
    def access_log_path(self) -> Path | None:
        """The path of the access log, if it goes to a file."""
        return Path(self.access_log).absolute() if self.access_log not in ("", STANDARD_OUTPUT) else None

    @property
    def audit_log_path(self) -> Path | None:
        return self.data_path / self.audit_log if self.audit_log else None

    @property
    def origins(self) -> frozenset[str]:
        """The origins that may use the APIs, as browsers send them. Raises `Invalid`."""
        return frozenset(map(_origin, _listed(self.allowed_origins)))

    @property
    def proxies(self) -> tuple[Network, ...]:
        """The networks of trusted proxies. Raises `Invalid`."""
        return tuple(map(_network, _listed(self.trusted_proxies)))

    @property
    def callback_allowed(self) -> tuple[frozenset[str], tuple[Network, ...]]:
        """The hosts and the networks in `callback_allow`."""
        entries = _listed(self.callback_allow)
        networks = {entry: network for entry in entries if (network := _network_or_none(entry)) is not None}
        hosts = frozenset(entry.lower().rstrip(".") for entry in entries if entry not in networks)
        return hosts, tuple(networks.values())

    @property
    def scheme(self) -> str:
        return "https" if self.tls_cert or self.tls_self_signed else "http"

    @property
    def workspace_memory_share(self) -> float:
        """The share of the machine's memory that a worker may use, if the limit is not a size; otherwise 0."""
        return sizes.parse_share(self.workspace_memory, "workspace_memory")

    @property
    def workspace_memory_bytes(self) -> int:
        """0 for no limit, or if it is a share."""
        return 0 if self.workspace_memory_share else sizes.parse(self.workspace_memory, "workspace_memory")

    @property
    def workspace_disk_bytes(self) -> int:
        """0 for no limit."""
        return sizes.parse(self.workspace_disk, "workspace_disk")

    @property
    def device_memory_bytes(self) -> int:
        """0 for no limit."""
        return sizes.parse(self.device_memory, "device_memory")

    @property
    def min_free_memory_bytes(self) -> int:
        """0 to ignore how much memory is free."""
        return sizes.parse(self.min_free_memory, "min_free_memory")

    @property
    def node_cache_bytes(self) -> int:
        """0 for no limit."""
        return sizes.parse(self.node_cache, "node_cache")

    @property
    def shared_path(self) -> Path | None:
        """The folder that all machines see at the same path."""
        return Path(self.shared_dir).resolve() if self.shared_dir else None

    @property
    def is_loopback(self) -> bool:
        return self.host in ("localhost", "::1") or self.host.startswith("127.")


def load(values: Mapping[str, Any] | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Settings from the given values, then the environment, then the defaults. Raises `Invalid`."""
    given = {name: value for name, value in (values or {}).items() if value is not None}
    for each in dataclasses.fields(Settings):
        raw = environ.get(environment_name(each.name))
        if each.name not in given and raw is not None:
            given[each.name] = parse_setting(each, raw)
    settings = Settings(**given)
    _check(settings)
    return settings


def _check(settings: Settings) -> None:
    """Raises `Invalid` for values that would otherwise only fail in use."""
    for each in dataclasses.fields(Settings):
        value = getattr(settings, each.name)
        if isinstance(value, float) and not math.isfinite(value):
            raise Invalid(f"{each.name} must be a finite number, got {value}")
        if each.name.endswith("port") and not 0 <= value <= MAX_PORT:
            raise Invalid(f"{each.name} must be from 0 to {MAX_PORT}, got {value}")
    if settings.auth not in AUTH:
        raise Invalid(f"auth must be one of {', '.join(AUTH)}; got {settings.auth!r}")
    for name in (
        "device_memory_bytes", "workspace_memory_bytes", "workspace_disk_bytes", "min_free_memory_bytes",
        "node_cache_bytes",
    ):  # fmt: skip
        getattr(settings, name)  # raises `Invalid` for a size that can't be read
    for name in ("callback_attempts", "batch_workers", "max_deferred"):
        if getattr(settings, name) < 1:
            raise Invalid(f"{name} must be at least 1, got {getattr(settings, name)}")
    for name in ("workspace_threads", "workspace_processes", "max_job_s", "all_uploads_bytes", "max_awake_models"):
        if getattr(settings, name) < 0:
            raise Invalid(f"{name} must be 0 (no limit) or more, got {getattr(settings, name)}")
    if not 0 <= settings.idle_after < math.inf:
        raise Invalid(f"idle_after must be 0 (never) or a number of seconds, got {settings.idle_after}")
    if settings.database_url and not settings.database_url.startswith(("postgres://", "postgresql://")):
        raise Invalid("database_url must be a URL such as postgresql://user:password@host:5432/name")
    if settings.callback_url and not _is_web_address(settings.callback_url):
        raise Invalid(f"callback_url must be a URL such as http://127.0.0.1:8080/hook, got {settings.callback_url!r}")

    _check_tls(settings)
    _check_cluster(settings)
    _ = settings.origins, settings.proxies, settings.remote_source_list


def _check_tls(settings: Settings) -> None:
    if bool(settings.tls_cert) != bool(settings.tls_key):
        raise Invalid("tls_cert and tls_key must be set together")
    if settings.tls_client_ca and settings.scheme == "http":
        raise Invalid("tls_client_ca requires TLS: set tls_cert and tls_key as well")


def _check_cluster(settings: Settings) -> None:
    if not re.fullmatch(r"(ray(://[^/:@\s]+:[1-9][0-9]{0,4})?)?", settings.cluster):
        raise Invalid(f"cluster must be ray, or an address such as ray://10.0.0.1:6379; got {settings.cluster!r}")
    if not settings.head_runs_workers and not settings.cluster:
        raise Invalid("head_runs_workers can only be off in a cluster: set cluster as well")
    if not 0 <= settings.head_grace_s < math.inf:
        raise Invalid(f"head_grace_s must be a number of seconds, got {settings.head_grace_s}")


def _listed(text: str) -> list[str]:
    return [each.strip() for each in text.split(",") if each.strip()]


def _origin(text: str) -> str:
    """An origin as browsers send it: in lower case, without the default port. Raises `Invalid`."""
    parts = urlsplit(text.lower()) if _is_web_address(text) and text.isascii() else None
    if parts is None or parts.path not in ("", "/") or parts.query or parts.fragment or "@" in parts.netloc:
        raise Invalid(f"allowed_origins must list origins such as https://app.example.com, got {text!r}")
    default = {"http": ":80", "https": ":443"}[parts.scheme]
    return f"{parts.scheme}://{parts.netloc.removesuffix(default)}"


def _network(text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError:
        raise Invalid(
            f"trusted_proxies must list addresses or networks such as 10.0.0.2 or 10.0.0.0/8, got {text!r}"
        ) from None


def _network_or_none(text: str) -> Network | None:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None


def _is_web_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and text.isprintable()
    except ValueError:  # invalid port or unbalanced brackets
        return False


def environment_name(name: str) -> str:
    return f"TFSERVE_{name.upper()}"


def to_environment(settings: Settings) -> dict[str, str]:
    """The environment variables with which `load` in a child process gives the same settings."""
    return {environment_name(each.name): str(getattr(settings, each.name)) for each in dataclasses.fields(settings)}


def parse_address(address: str) -> dict[str, Any]:
    """`8001`, `127.0.0.1:8001`, `[::1]:8001` → host and port. Raises `Invalid`."""
    host, _, port = address.rpartition(":")
    if not port.isascii() or not port.isdigit() or int(port) > MAX_PORT:
        raise Invalid(f"expected [addr:]port, for example 127.0.0.1:8000, got {address!r}")
    return {"port": int(port), **({"host": host.strip("[]")} if host else {})}


def parse_setting(each: dataclasses.Field[Any], raw: str) -> Any:
    """The value of an environment variable. Raises `Invalid`."""
    kind: type = type(each.default)
    try:
        if kind is bool:
            return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False, "": False}[
                raw.lower()
            ]
        if kind in (int, float):
            number = written_numbers.integer(raw) if kind is int else written_numbers.finite(raw)
            if number is None:
                raise ValueError
            return number
        return kind(raw)
    except (ValueError, KeyError) as error:
        name = environment_name(each.name)
        raise Invalid(f"{name} must be {kind.__name__}, got {raw!r}") from error
