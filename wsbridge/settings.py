"""The environment, read once into a frozen value. Knows what is allowed; does nothing with it.

Every setting is one field with its expectation and its help as data: the messages, `wsbridge check` and the test of
docs/configuration.md are made from it.
"""

import difflib
import functools
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from wsbridge.kinds import (
    ALGORITHM_LIST,
    HTTP_URL,
    ORIGIN_LIST,
    PEM,
    PORT,
    SECRET,
    TEXT,
    TOPIC_LIST,
    USER_FIELD,
    Kind,
    one_of,
    seconds,
    whole,
)

PREFIX = "WSBRIDGE_"
UNPREFIXED = {"APP_API_TOKEN"}  # Dapr's own name: the sidecar and the app share one variable
SECRET_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}  # RFC 7518 §3.2: a key at least as long as the hash


class SettingsError(Exception):
    """One line for each mistake; each names its variable and says what is expected."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


def _setting(default: Any, kind: Kind, text: str, *, secret: bool = False, file: bool = False) -> Any:
    return field(default=default, metadata={"kind": kind, "help": text, "secret": secret, "file": file or secret})


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What PROTOCOL.md's section 6 lists; durations in seconds, sizes in bytes."""

    host: str = _setting("127.0.0.1", TEXT, "address to listen on")
    port: int = _setting(8004, PORT, "port to listen on; 0 picks a free one")
    internal_port: int | None = _setting(None, PORT, "second port for everything but /ws and /sse")
    pubsub_name: str = _setting("pubsub-kafka", TEXT, "name of the Dapr pub/sub component")
    topics: tuple[tuple[str, str], ...] = _setting(
        (("task-updates", "task_update"),), TOPIC_LIST, "topic=message type, comma-separated"
    )
    user_id_field: str = _setting(
        "user_id",
        USER_FIELD,
        "where the user is: a dotted path in the data, @subject of the CloudEvent, or @key of the Kafka message",
    )
    dead_letter_topic: str | None = _setting(None, TEXT, "topic for events answered DROP")
    auth: str | None = _setting(
        None,
        one_of("required", "none"),
        "required if a key is set, else none (and that on a loopback host only)",
    )
    jwt_secret: str | None = _setting(None, SECRET, "secret for HS256, HS384, HS512; 32 bytes or more", secret=True)
    jwt_secret_previous: str | None = _setting(None, SECRET, "also accepted, during a rotation", secret=True)
    jwt_public_key: str | None = _setting(None, PEM, "PEM of RSA, EC or Ed25519 public keys", file=True)
    jwt_jwks_url: str | None = _setting(None, HTTP_URL, "URL of a JSON Web Key Set")
    jwt_algorithms: tuple[str, ...] = _setting((), ALGORITHM_LIST, "allowed algorithms; by default those of the key")
    jwt_audience: str | None = _setting(None, TEXT, "audience that a token must name; not checked unless set")
    jwt_issuer: str | None = _setting(None, TEXT, "issuer that a token must name; not checked unless set")
    jwt_leeway: float = _setting(10.0, seconds(0, 3600), "clock difference that is forgiven")
    jwt_user_claim: str = _setting("sub", TEXT, "claim that holds the user")
    jwt_cookie: str | None = _setting(None, TEXT, "cookie that may hold the token")
    allowed_origins: tuple[str, ...] = _setting(
        (), ORIGIN_LIST, "origins of pages that may connect; same origin if empty"
    )
    admin_token: str | None = _setting(None, SECRET, "bearer token for /stats and /users", secret=True)
    metrics_token: str | None = _setting(None, SECRET, "bearer token for /metrics", secret=True)
    app_api_token: str | None = _setting(None, SECRET, "token that the sidecar sends (Dapr's own name)", secret=True)
    redis_url: str | None = _setting(None, SECRET, "Redis or Valkey shared by all replicas", secret=True)
    redis_prefix: str = _setting("wsbridge", TEXT, "prefix of all keys and channels in Redis")
    history_size: int = _setting(100, whole(0, 100_000), "events kept for each user")
    history_ttl: float = _setting(300.0, seconds(0, 604_800), "how long an event is kept")
    history_max_bytes: int = _setting(268_435_456, whole(65_536), "memory for all histories in process")
    dedupe_ttl: float = _setting(3600.0, seconds(0, 604_800), "how long an event's id is remembered")
    max_connections: int = _setting(0, whole(0), "connections to this replica; 0 is no limit")
    max_connections_per_user: int = _setting(20, whole(0), "connections of one user to this replica; 0 is no limit")
    max_event_bytes: int = _setting(1_048_576, whole(1, 2**30), "a larger event is dropped")
    max_backlog_bytes: int = _setting(4_194_304, whole(1, 2**31), "unsent bytes at which a socket is too slow")
    queue_size: int = _setting(10_000, whole(1), "events in the bus before RETRY")
    ping_interval: float = _setting(25.0, seconds(0.05, 3600), "time between two pings")
    ping_timeout: float = _setting(10.0, seconds(0.05, 3600), "silence after a ping that ends a session")
    drain_timeout: float = _setting(20.0, seconds(0, 3600), "how long a shutdown takes its leave")
    log_level: str = _setting("info", one_of("debug", "info", "warning", "error"), "least level that is logged")
    log_format: str | None = _setting(None, one_of("json", "console"), "json; console if not set and on a terminal")

    @property
    def authenticates(self) -> bool:
        return self.auth == "required"

    @property
    def development(self) -> bool:
        """No authentication, and nobody but this machine can reach us."""
        return not self.authenticates and is_loopback(self.host)

    def masked(self) -> dict[str, str]:
        """Name → text for logs and `wsbridge check`; secrets as `***`, what is not set as `-`."""
        return {_name(f): _show(f, getattr(self, f.name)) for f in fields(self)}

    def changed(self) -> dict[str, str]:
        """As `masked`, but only what is not at its default."""
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


def without_password(url: str) -> str:
    """For people and logs."""
    return re.sub(r"//[^/?#]*@", "//***@", url)


def _name(f: Field[Any]) -> str:
    name = f.name.upper()
    return name if name in UNPREFIXED else PREFIX + name


def _show(f: Field[Any], value: Any) -> str:
    if value is None or value == ():
        return "-"
    if f.metadata["secret"]:
        return "***"
    shown: dict[str, Callable[[Any], str]] = {
        "topics": lambda pairs: ",".join("=".join(pair) for pair in pairs),
        "jwt_public_key": lambda pem: f"{pem.count('-----BEGIN ')} key(s)",
        "jwt_jwks_url": without_password,
    }
    if f.name in shown:
        return shown[f.name](value)
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


_KEYS = ("JWT_SECRET", "JWT_PUBLIC_KEY", "JWT_JWKS_URL")
_AUTHENTICATION = {PREFIX + name for name in ("AUTH", "HOST", "JWT_ALGORITHMS", "JWT_SECRET_PREVIOUS", *_KEYS)}
NAMES = frozenset(_name(f).removeprefix(PREFIX) for f in fields(Settings))
HELP = {_name(f).removeprefix(PREFIX): str(f.metadata["help"]) for f in fields(Settings)}


class Reading(NamedTuple):
    """The environment, understood as far as it can be; what is wrong stands at its default."""

    settings: Settings
    wrong: dict[str, str]  # variable → the line that says what is wrong with it
    unknown: list[str]  # a line for each name that is none of ours


def load(environ: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """The settings and the warnings about unknown names.

    Raises:
        SettingsError: one line for each malformed value or contradiction.

    """
    settings, wrong, unknown = read(environ)
    if wrong:
        raise SettingsError(*wrong.values())
    return settings, unknown


def read(environ: Mapping[str, str]) -> Reading:
    """Everything that is there to be said about the environment."""
    values: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    for f in fields(Settings):
        try:
            text = _text(environ, f)
            if text is not None:
                values[f.name] = _parse(f, text)
        except SettingsError as error:
            wrong[_name(f)] = str(error)
    settings = Settings(**values)
    if not wrong.keys() & _AUTHENTICATION:  # else the rest would only be their consequence
        settings = replace(settings, auth=settings.auth or _default_auth(settings))
        wrong |= _contradictions_of_keys(settings)
    if settings.internal_port and settings.internal_port == settings.port:
        line = f"expected another port than {PREFIX}PORT ({settings.port})"
        wrong[f"{PREFIX}INTERNAL_PORT"] = f"{PREFIX}INTERNAL_PORT: {line}"
    if settings.redis_url:
        line = "this version keeps its history in process only; unset it and run one replica"
        wrong[f"{PREFIX}REDIS_URL"] = f"{PREFIX}REDIS_URL: {line}"
    return Reading(settings, wrong, _unknown(environ))


def _text(environ: Mapping[str, str], f: Field[Any]) -> str | None:
    """The variable's text, from the environment or from the file that NAME_FILE names; empty is as if not set."""
    name = _name(f)
    direct, path = environ.get(name), environ.get(name + "_FILE") if f.metadata["file"] else None
    if direct and not _is_utf8(direct):
        raise SettingsError(f"{name}: expected UTF-8 text")
    if direct and path:
        raise SettingsError(f"{name} and {name}_FILE are both set: set one of them")
    if path:
        try:
            return Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise SettingsError(f"{name}_FILE: cannot read {path}: {why}") from None
    return direct or None


def _is_utf8(text: str) -> bool:
    try:
        return bool(text.encode())
    except UnicodeEncodeError:
        return False


def _parse(f: Field[Any], text: str) -> Any:
    name, kind = _name(f), f.metadata["kind"]
    try:
        return kind.parse(text)
    except (ValueError, msgspec.ValidationError):
        if text.startswith("tcp://"):
            why = "Kubernetes injects it for a Service of that name; set enableServiceLinks: false in the pod"
            raise SettingsError(f"{name}: expected {kind.expected}, got {text!r} ({why})") from None
        shown = "" if f.metadata["file"] else f", got {text[:80]!r}"
        raise SettingsError(f"{name}: expected {kind.expected}{shown}") from None


def _default_auth(settings: Settings) -> str | None:
    """`AUTH` depends on the key and on the host; None where it has to be said."""
    if any(getattr(settings, name.lower()) for name in _KEYS):
        return "required"
    return "none" if is_loopback(settings.host) else None


def _contradictions_of_keys(s: Settings) -> dict[str, str]:
    keys = [PREFIX + name for name in _KEYS if getattr(s, name.lower())]
    one_of_them = ", ".join(PREFIX + name for name in _KEYS)
    found = {}
    if len(keys) > 1:
        found[keys[0]] = f"{keys[0]} and {keys[1]} are both set: at most one key source is allowed"
    if s.auth is None:
        found[f"{PREFIX}AUTH"] = (
            f"{PREFIX}AUTH: no key is set and {PREFIX}HOST={s.host} is reachable from outside; set one of "
            f"{one_of_them}, or say {PREFIX}AUTH=none"
        )
    if s.auth == "required" and not keys:
        found[f"{PREFIX}AUTH"] = f"{PREFIX}AUTH=required needs one of {one_of_them}"
    if s.jwt_secret_previous and not s.jwt_secret:
        name = f"{PREFIX}JWT_SECRET_PREVIOUS"
        found[name] = f"{name} is set without {PREFIX}JWT_SECRET"
    least = min(SECRET_BYTES.get(algorithm, 32) for algorithm in s.jwt_algorithms or ("HS256",))
    for name, secret in (("JWT_SECRET", s.jwt_secret), ("JWT_SECRET_PREVIOUS", s.jwt_secret_previous)):
        if secret and len(secret.encode()) < least:
            found[PREFIX + name] = (
                f"{PREFIX}{name}: expected {least} bytes or more, got {len(secret.encode())}; "
                "make one with: openssl rand -base64 48"
            )
    return found


def _unknown(environ: Mapping[str, str]) -> list[str]:
    known = {_name(f) for f in fields(Settings)} | {_name(f) + "_FILE" for f in fields(Settings) if f.metadata["file"]}
    found = []
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name in known:
            continue
        if re.match(PREFIX + r"(PORT_\d|SERVICE_(HOST|PORT))", name):
            hint = "injected by Kubernetes; set enableServiceLinks: false in the pod"
        else:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
            hint = f"did you mean {near[0]}?"
        found.append(f"{name}: no such setting; {hint}")
    return found
