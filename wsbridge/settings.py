"""The environment, read once into a frozen value. Knows what is allowed; does nothing with it.

Every setting is one field with its expectation and its help as data: the messages, `wsbridge check` and the test of
docs/configuration.md are made from it.
"""

import difflib
import functools
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec

PREFIX = "WSBRIDGE_"
UNPREFIXED = {"APP_API_TOKEN"}  # Dapr's own name: the sidecar and the app share one variable
SECRET_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}  # RFC 7518 §3.2: a key at least as long as the hash
RESERVED_TYPES = frozenset({"connected", "pong", "authenticated", "gap", "error", "goodbye", "ping", "auth"})
ALGORITHMS = ("HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA")
_NAME = re.compile(r"[^\s\"\\]+")  # in a dotted path; msgspec takes no others
ORIGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<host>\*\.)?(?P<name>[^/?#@*\s]+)")


class SettingsError(Exception):
    """One line for each mistake; each names its variable and says what is expected."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


@dataclass(frozen=True)
class Kind:
    """How a text becomes a value, and how to say what was expected."""

    expected: str
    parse: Callable[[str], Any]


def _convert(expected: str, kind: Any) -> Kind:
    return Kind(expected, lambda text: msgspec.convert(text.strip(), kind, strict=False))


def _whole(low: int, high: int = 2**53) -> Kind:
    top = f"from {low} to {high}" if high < 2**53 else f"of {low} or more"
    return _convert(f"a whole number {top}", Annotated[int, msgspec.Meta(ge=low, le=high)])


def _seconds(low: float, high: float) -> Kind:
    return _convert(f"seconds, from {low:g} to {high:g}", Annotated[float, msgspec.Meta(ge=low, le=high)])


def _one_of(*allowed: str) -> Kind:
    return _convert("one of " + ", ".join(allowed), Literal[allowed])


def _word(text: str) -> str:
    text = text.strip()
    if not (text and text.isprintable()):
        raise ValueError
    return text


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in (part.strip() for part in text.split(",")) if word)


def _algorithms(text: str) -> tuple[str, ...]:
    words = _words(text)
    if not words or not set(words) <= set(ALGORITHMS):
        raise ValueError
    return words


def _origins(text: str) -> tuple[str, ...]:
    words = tuple(word.lower().rstrip("/") for word in _words(text))
    if not all(word == "*" or ORIGIN.fullmatch(word) for word in words):
        raise ValueError
    return words


def _topics(text: str) -> tuple[tuple[str, str], ...]:
    pairs = tuple((topic.strip(), kind.strip()) for topic, _, kind in (w.partition("=") for w in _words(text)))
    topics = {topic for topic, _ in pairs}
    good = all(re.fullmatch(r"[\w.-]+", topic) and re.fullmatch(r"[a-z]\w*", kind) for topic, kind in pairs)
    if not pairs or not good or len(topics) != len(pairs) or any(kind in RESERVED_TYPES for _, kind in pairs):
        raise ValueError
    return pairs


def _user_field(text: str) -> str:
    text = _word(text)
    names = text.split(".")
    if text not in ("@subject", "@key") and (text.startswith("@") or not all(map(_NAME.fullmatch, names))):
        raise ValueError
    return text


def _http_url(text: str) -> str:
    url = urlsplit(text.strip())
    if url.scheme not in ("http", "https") or not url.hostname or url.port == 0:  # `port` raises if it is none
        raise ValueError
    return text.strip()


def _pem(text: str) -> str:
    text = text.replace("\\n", "\n")  # as it often stands in an environment file
    if "-----BEGIN " not in text:
        raise ValueError
    return text


def _secret(text: str) -> str:
    text = text.strip("\r\n")
    if not text:
        raise ValueError
    return text


TEXT = Kind("a word", _word)
PORT = _whole(0, 65535)
SECRET = Kind("a secret that is not empty", _secret)
ALGORITHM_LIST = Kind("a comma-separated list out of " + ", ".join(ALGORITHMS), _algorithms)
ORIGIN_LIST = Kind("comma-separated origins such as https://app.example.com or https://*.example.com, or *", _origins)
TOPIC_LIST = Kind(
    "comma-separated topic=message_type pairs, each topic once, no type of the protocol's own ("
    + ", ".join(sorted(RESERVED_TYPES))
    + ")",
    _topics,
)


def _setting(default: Any, kind: Kind, text: str, *, secret: bool = False, file: bool = False) -> Any:
    return field(default=default, metadata={"kind": kind, "help": text, "secret": secret, "file": file or secret})


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """What PROTOCOL.md's section 6 lists; durations in seconds, sizes in bytes."""

    host: str = _setting("127.0.0.1", TEXT, "address to listen on")
    port: int = _setting(8004, PORT, "port to listen on; 0 picks a free one")
    internal_port: int | None = _setting(
        None, PORT, "second port for everything but /ws and /sse"
    )
    pubsub_name: str = _setting("pubsub-kafka", TEXT, "name of the Dapr pub/sub component")
    topics: tuple[tuple[str, str], ...] = _setting(
        (("task-updates", "task_update"),), TOPIC_LIST, "topic=message type, comma-separated"
    )
    user_id_field: str = _setting(
        "user_id",
        Kind("a dotted path, @subject or @key", _user_field),
        "where the user is: a dotted path in the data, @subject of the CloudEvent, or @key of the Kafka message",
    )
    dead_letter_topic: str | None = _setting(None, TEXT, "topic for events answered DROP")
    auth: str | None = _setting(
        None,
        _one_of("required", "none"),
        "required if a key is set, else none (and that on a loopback host only)",
    )
    jwt_secret: str | None = _setting(None, SECRET, "secret for HS256, HS384, HS512; 32 bytes or more", secret=True)
    jwt_secret_previous: str | None = _setting(None, SECRET, "also accepted, during a rotation", secret=True)
    jwt_public_key: str | None = _setting(
        None, Kind("one or more public keys in PEM", _pem), "PEM of RSA, EC or Ed25519 public keys", file=True
    )
    jwt_jwks_url: str | None = _setting(None, Kind("an http or https URL", _http_url), "URL of a JSON Web Key Set")
    jwt_algorithms: tuple[str, ...] = _setting((), ALGORITHM_LIST, "allowed algorithms; by default those of the key")
    jwt_audience: str | None = _setting(None, TEXT, "audience that a token must name; not checked unless set")
    jwt_issuer: str | None = _setting(None, TEXT, "issuer that a token must name; not checked unless set")
    jwt_leeway: float = _setting(10.0, _seconds(0, 3600), "clock difference that is forgiven")
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
    history_size: int = _setting(100, _whole(0, 100_000), "events kept for each user")
    history_ttl: float = _setting(300.0, _seconds(0, 604_800), "how long an event is kept")
    history_max_bytes: int = _setting(268_435_456, _whole(0), "memory for all histories in process")
    dedupe_ttl: float = _setting(3600.0, _seconds(0, 604_800), "how long an event's id is remembered")
    max_connections: int = _setting(0, _whole(0), "connections to this replica; 0 is no limit")
    max_connections_per_user: int = _setting(20, _whole(0), "connections of one user to this replica; 0 is no limit")
    max_event_bytes: int = _setting(1_048_576, _whole(1, 2**30), "a larger event is dropped")
    max_backlog_bytes: int = _setting(4_194_304, _whole(1, 2**31), "unsent bytes at which a socket is too slow")
    queue_size: int = _setting(10_000, _whole(1), "events in the bus before RETRY")
    ping_interval: float = _setting(25.0, _seconds(0.05, 3600), "time between two pings")
    ping_timeout: float = _setting(10.0, _seconds(0.05, 3600), "silence after a ping that ends a session")
    drain_timeout: float = _setting(20.0, _seconds(0, 3600), "how long a shutdown takes its leave")
    log_level: str = _setting("info", _one_of("debug", "info", "warning", "error"), "least level that is logged")
    log_format: str | None = _setting(None, _one_of("json", "console"), "json; console if not set and on a terminal")

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
    if f.name == "topics":
        return ",".join("=".join(pair) for pair in value)
    if f.name == "jwt_public_key":
        return f"{value.count('-----BEGIN ')} key(s)"
    if f.name == "jwt_jwks_url":
        return without_password(value)
    if isinstance(value, float):
        return str(value).removesuffix(".0")
    return ",".join(value) if isinstance(value, tuple) else str(value)


NAMES = frozenset(_name(f).removeprefix(PREFIX) for f in fields(Settings))
HELP = {_name(f).removeprefix(PREFIX): str(f.metadata["help"]) for f in fields(Settings)}


def load(environ: Mapping[str, str]) -> tuple[Settings, list[str]]:
    """The settings and the warnings about unknown names.

    Raises:
        SettingsError: one line for each malformed value or contradiction.

    """
    values: dict[str, Any] = {}
    mistakes: list[str] = []
    for f in fields(Settings):
        try:
            text = _text(environ, f)
            if text is not None:
                values[f.name] = _parse(f, text)
        except SettingsError as error:
            mistakes += error.lines
    if mistakes:
        raise SettingsError(*mistakes)
    settings = _with_auth(Settings(**values))
    mistakes = _contradictions(settings)
    if mistakes:
        raise SettingsError(*mistakes)
    return settings, _unknown(environ)


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


def _with_auth(settings: Settings) -> Settings:
    """`AUTH` has a default that depends on the key and on the host."""
    if settings.auth is not None:
        return settings
    has_key = settings.jwt_secret or settings.jwt_public_key or settings.jwt_jwks_url
    values = {f.name: getattr(settings, f.name) for f in fields(settings)}
    if has_key:
        return Settings(**{**values, "auth": "required"})
    if is_loopback(settings.host):
        return Settings(**{**values, "auth": "none"})
    raise SettingsError(
        f"{PREFIX}AUTH: no key is set and {PREFIX}HOST={settings.host} is reachable from outside; set one of "
        f"{PREFIX}JWT_SECRET, {PREFIX}JWT_PUBLIC_KEY, {PREFIX}JWT_JWKS_URL, or say {PREFIX}AUTH=none"
    )


def _contradictions(s: Settings) -> list[str]:
    keys = [n for n in ("JWT_SECRET", "JWT_PUBLIC_KEY", "JWT_JWKS_URL") if getattr(s, n.lower())]
    found = []
    if len(keys) > 1:
        found.append(f"{PREFIX}{keys[0]} and {PREFIX}{keys[1]} are both set: at most one key source is allowed")
    if s.auth == "required" and not keys:
        found.append(
            f"{PREFIX}AUTH=required needs one of {PREFIX}JWT_SECRET, {PREFIX}JWT_PUBLIC_KEY, {PREFIX}JWT_JWKS_URL"
        )
    if s.jwt_secret_previous and not s.jwt_secret:
        found.append(f"{PREFIX}JWT_SECRET_PREVIOUS is set without {PREFIX}JWT_SECRET")
    for name in ("jwt_secret", "jwt_secret_previous"):
        secret = getattr(s, name)
        least = min(SECRET_BYTES.get(algorithm, 32) for algorithm in s.jwt_algorithms or ("HS256",))
        if secret and len(secret.encode()) < least:
            found.append(
                f"{PREFIX}{name.upper()}: expected {least} bytes or more, got {len(secret.encode())}; "
                "make one with: openssl rand -base64 48"
            )
    if s.internal_port and s.internal_port == s.port:
        found.append(f"{PREFIX}INTERNAL_PORT: expected another port than {PREFIX}PORT ({s.port})")
    if s.redis_url:
        found.append(f"{PREFIX}REDIS_URL: this version keeps its history in process only; unset it and run one replica")
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
