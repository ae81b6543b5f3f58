"""All settings as one frozen value.

Each field holds the type and the help of its setting. Error messages, `wsbridge check` and the test of
docs/configuration.md are made from them.
"""

# ruff: noqa: FBT003, RUF009 - `_env` makes fields of defaults

import functools
import ipaddress
from dataclasses import Field, dataclass, field, fields
from typing import Any

from wsbridge.config import value_types as types
from wsbridge.config.redis_url import RedisUrl

PREFIX = "WSBRIDGE_"
UNPREFIXED = {"APP_API_TOKEN", "DAPR_API_TOKEN", "DAPR_HTTP_PORT"}  # Dapr's own names, which the sidecar has as well
SECRET_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}  # RFC 7518 §3.2: a key at least as long as the hash
Words = tuple[str, ...]
Pairs = tuple[tuple[str, str], ...]
KEYS = ("JWT_SECRET", "JWT_PUBLIC_KEY", "JWT_JWKS_URL")  # settings of which one holds the key or keys for tokens


class SettingsError(Exception):
    """One line for each mistake, with the name of the variable and what to do."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def _env(default: Any, value_type: types.ValueType, text: str) -> Any:
    return field(default=default, metadata={"type": value_type, "help": text})


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """All settings, as docs/configuration.md lists them; durations in seconds, sizes in bytes."""

    host: str = _env("127.0.0.1", types.HOST, "address or name to listen on; :: is IPv6 and IPv4")
    port: int = _env(8004, types.PORT, "port to listen on; 0 picks a free one")
    internal_port: int | None = _env(None, types.PORT, "second port, for all routes but /ws, /sse and /client.*")
    pubsub_name: str = _env("pubsub-kafka", types.TEXT, "name of the Dapr pub/sub component")
    topics: Pairs = _env((("task-updates", "task_update"),), types.TOPIC_LIST, "topic=message type, comma-separated")
    user_id_field: str = _env(
        "user_id",
        types.USER_FIELD,
        "field that holds the user: a dotted path in the data, @subject of the CloudEvent or @key of the Kafka message",
    )
    escaped_headers: bool = _env(
        False, types.BOOLEAN, "true if the Kafka component sets escapeHeaders: keys and headers are decoded"
    )
    dead_letter_topic: str | None = _env(None, types.TEXT, "topic for events answered DROP")
    bulk_wait: float = _env(0.001, types.seconds(0.001, 10), "how long the sidecar may gather events for one request")
    trusted_proxies: Words = _env(
        ("private",),
        types.NETWORK_LIST,
        "addresses and networks whose X-Forwarded-For is trusted; private means all private networks",
    )
    failure_rate: int = _env(5, types.whole(0), "failed requests a second that one address may make; 0 is no limit")
    handshake_rate: int = _env(1000, types.whole(0), "new WebSockets and streams a second in all; 0 is no limit")
    max_header_bytes: int = _env(32_768, types.whole(4_096, 1_048_576), "a request with a larger header is refused")
    auth: str | None = _env(
        None,
        types.one_of("required", "none"),
        "required or none; default: required if a key is set, else none, but only on a loopback host",
    )
    demo: bool = _env(False, types.BOOLEAN, "demo page, and all routes open to everybody; needs AUTH=none")
    jwt_secret: str | None = _env(None, types.SECRET, "secret for HS256, HS384, HS512; 32 bytes or more")
    jwt_secret_previous: str | None = _env(None, types.SECRET, "second accepted secret, for a rotation")
    jwt_public_key: str | None = _env(None, types.PEM, "PEM of RSA, EC or Ed25519 public keys")
    jwt_jwks_url: str | None = _env(None, types.HTTP_URL, "URL of a JSON Web Key Set")
    jwt_algorithms: Words = _env((), types.ALGORITHM_LIST, "allowed algorithms; default: those of the key")
    jwt_audience: Words = _env((), types.TEXT_LIST, "accepted audiences, comma-separated; default: not checked")
    jwt_issuer: Words = _env((), types.TEXT_LIST, "accepted issuers, comma-separated; default: not checked")
    jwt_leeway: float = _env(10.0, types.seconds(0, 3600), "tolerated clock difference")
    jwt_user_claim: str = _env("sub", types.TEXT, "claim that holds the user id; a dotted path reads from an object")
    jwt_cookie: str | None = _env(None, types.TEXT, "cookie that may hold the token")
    allowed_origins: Words = _env(
        (), types.ORIGIN_LIST, "origins of pages that may connect; default: the bridge's own origin"
    )
    admin_token: str | None = _env(None, types.TOKEN, "bearer token for /console, /stats, /user and /users")
    viewer_token: str | None = _env(
        None, types.TOKEN, "bearer token for /console, /stats, /user and /users: read-only, no data of events"
    )
    metrics_token: str | None = _env(None, types.TOKEN, "bearer token for /metrics")
    app_api_token: str | None = _env(None, types.TOKEN, "token that the sidecar sends (Dapr's own name)")
    receipts: bool = _env(False, types.BOOLEAN, "true lets clients report up to which event they have handled")
    receipts_topic: str | None = _env(
        None, types.TEXT, "topic for the receipts of events that ask for one; sets RECEIPTS as well"
    )
    receipts_after: float = _env(
        30.0, types.seconds(1, 86_400), "time after which a receipt is published, if its event names none"
    )
    dapr_http_port: int = _env(3500, types.PORT, "port of the sidecar that publishes receipts (Dapr's own name)")
    dapr_api_token: str | None = _env(
        None, types.SECRET, "token that the sidecar requires of this app (Dapr's own name)"
    )
    redis_url: RedisUrl | None = _env(None, types.REDIS_URL, "Redis or Valkey shared by all replicas")
    redis_prefix: str = _env("wsbridge", types.KEY_PREFIX, "prefix of all keys and channels in Redis")
    history_size: int = _env(100, types.whole(0, 100_000), "events kept for each user")
    history_ttl: float = _env(300.0, types.seconds(0, 604_800), "how long an event is kept")
    history_max_bytes_per_user: int = _env(134_217_728, types.whole(65_536), "size of the events kept for each user")
    history_max_bytes: int = _env(268_435_456, types.whole(65_536), "memory for histories and ids, without Redis")
    dedupe_ttl: float = _env(3600.0, types.seconds(0, 604_800), "how long an event's id is remembered")
    max_connections: int = _env(0, types.whole(0), "connections to this replica; 0 is no limit")
    max_connections_per_user: int = _env(20, types.whole(0), "connections of one user to this replica; 0 is no limit")
    max_event_bytes: int = _env(1_048_576, types.whole(1, 2**30), "largest event; larger ones are dropped")
    max_backlog_bytes: int = _env(
        4_194_304, types.whole(1, 2**31), "unsent bytes of one session; over that, its client must make progress"
    )
    max_unsent_bytes: int = _env(
        134_217_728, types.whole(1), "unsent bytes of all sessions; over that, the slowest are closed"
    )
    queue_size: int = _env(
        10_000, types.whole(1), "entries in the queue, one for each user of an event; more are answered RETRY"
    )
    queue_max_bytes: int = _env(
        134_217_728,
        types.whole(65_536),
        "bytes in the queue; more are answered RETRY. A larger event waits for an empty queue",
    )
    stations_max_bytes: int = _env(
        8_388_608, types.whole(0), "bytes of memory for the records that `wsbridge why` reads; 0 records nothing"
    )
    send_traceparent: bool = _env(
        False, types.BOOLEAN, "true: updates carry the `traceparent` of their event, for traces that end in the page"
    )
    ping_interval: float = _env(25.0, types.seconds(0.05, 3600), "time between two pings")
    ping_timeout: float = _env(
        10.0, types.seconds(0.05, 3600), "a peer that is silent for this time after a ping is dropped"
    )
    drain_timeout: float = _env(20.0, types.seconds(0, 3600), "time within which a shutdown closes all connections")
    loop: str = _env(
        "auto",
        types.one_of("auto", "uvloop", "asyncio"),
        "event loop; auto is uvloop where it is installed, else asyncio",
    )
    log_level: str = _env("info", types.one_of("debug", "info", "warning", "error"), "lowest level that is logged")
    log_format: str | None = _env(
        None, types.one_of("json", "console"), "json or console; default: console on a terminal, else json"
    )

    @property
    def authenticates(self) -> bool:
        return self.auth == "required"

    @property
    def takes_reports(self) -> bool:
        """Whether clients may report what they have handled."""
        return self.receipts or self.receipts_topic is not None

    @property
    def keys(self) -> list[str]:
        """The variables of `KEYS` that are set."""
        return [PREFIX + name for name in KEYS if getattr(self, name.lower())]

    @property
    def development(self) -> bool:
        """No authentication, and only this machine can reach the bridge."""
        return not self.authenticates and is_loopback(self.host)

    def masked(self) -> dict[str, str]:
        """Variable → text for logs and `wsbridge check`; secrets are `***`, missing values `-`."""
        values = ((f, getattr(self, f.name)) for f in fields(self))
        return {variable(f): "-" if v is None or v == () else f.metadata["type"].show(v) for f, v in values}

    def changed(self) -> dict[str, str]:
        """As `masked`, without the values that are at their default."""
        defaults = Settings().masked()
        return {name: shown for name, shown in self.masked().items() if shown != defaults[name]}


@functools.lru_cache(1024)
def is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def variable(f: Field[Any]) -> str:
    name = f.name.upper()
    return name if name in UNPREFIXED else PREFIX + name


HELP = {variable(f).removeprefix(PREFIX): str(f.metadata["help"]) for f in fields(Settings)}
