"""The URL of Redis: one server, a Unix socket, sentinels or a cluster.

redis-py's `from_url` has no sentinels and no list of nodes, and it accepts mistakes: an unescaped / in a password can
make it connect to localhost, a mistyped database means 0, and its errors show parts of the password. Options after `?`
are passed to redis-py.
"""

import ipaddress
import re
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import parse_qsl, quote, unquote

_SHAPE = re.compile(
    r"(?P<scheme>[A-Za-z+]+)://((?P<credentials>[^@/?#]*)@)?(?P<hosts>[^@/?#]*)(?P<path>/[^@?#]*)?(\?(?P<query>[^@#]*))?"
)
_HOST = re.compile(r"(?P<host>[\w.-]+|\[[0-9A-Fa-f:.]+\])(:(?P<port>[0-9]{1,5}))?")
_DB = r"[0-9]{1,9}"
_SERVICE = r"[A-Za-z0-9._-]+"  # Redis' rule for names of services
_ELSEWHERE = {"host", "port", "path"}  # options of redis-py that are before the query in a URL


class Mode(StrEnum):
    STANDALONE = "standalone"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


_SCHEMES = {"unix": (Mode.STANDALONE, False)} | {
    f"{name}{suffix}": (mode, tls)
    for name, tls in (("redis", False), ("rediss", True), ("valkey", False), ("valkeys", True))
    for suffix, mode in (("", Mode.STANDALONE), ("+sentinel", Mode.SENTINEL), ("+cluster", Mode.CLUSTER))
}


class RedisUrlError(ValueError):
    """What is wrong, without any part of the text: it may be a password in the wrong place."""


def _require(condition: object, otherwise: str) -> None:
    if not condition:
        raise RedisUrlError(otherwise)


@dataclass(frozen=True, kw_only=True, slots=True)
class RedisUrl:
    """The parts, percent-decoded. `str` is for people and logs: without credentials and values of options."""

    mode: Mode = Mode.STANDALONE
    tls: bool = False
    hosts: tuple[tuple[str, int], ...] = ()  # none for a Unix socket; IPv6 without brackets
    path: str = ""  # of the Unix socket
    service: str = ""  # name of the service at the sentinels
    db: int = 0
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    options: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # the query, for redis-py

    def __str__(self) -> str:
        scheme = "unix" if self.path else ("rediss" if self.tls else "redis")
        if self.mode is not Mode.STANDALONE:
            scheme += f"+{self.mode}"
        credentials = "***@" if self.username or self.password else ""
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        place = {Mode.STANDALONE: f"/{self.db}", Mode.SENTINEL: f"/{self.service}/{self.db}", Mode.CLUSTER: ""}
        query = [f"db={self.db}"] if self.path and self.db else []
        query += [f"{name}=***" for name, _ in self.options]
        where = quote(self.path) or hosts + place[self.mode]
        return f"{scheme}://{credentials}{where}{'?' if query else ''}{'&'.join(query)}"


def parse(text: str) -> RedisUrl:
    """`redis[s]://`, `unix://`, `redis[s]+sentinel://` or `redis[s]+cluster://`; `valkey` means the same as `redis`.

    As in redis-py, the query may hold `db`, `username` and `password`. Raises `RedisUrlError` if it is none of these,
    or ambiguous.
    """
    parts = _split(text.strip())
    scheme, path = parts["scheme"].lower(), unquote(parts["path"])
    _require(scheme in _SCHEMES, "its scheme is not one of these")
    mode, tls = _SCHEMES[scheme]
    words, port = parts["hosts"].split(","), 26379 if mode is Mode.SENTINEL else 6379
    _require(len(words) == 1 or mode is not Mode.STANDALONE, "only +sentinel and +cluster have several hosts")
    is_path = not parts["hosts"] and path.strip("/") and path.isprintable()
    _require(scheme != "unix" or is_path, "unix:// needs the path of a socket, such as unix:///run/redis.sock")
    username, _, password = map(unquote, parts["credentials"].partition(":"))
    service, db = ("", "") if scheme == "unix" else _place(mode, path)
    options = _options(parts["query"])
    given = {"db": db, "username": username, "password": password}
    for name in given.keys() & options.keys():
        _require(not given[name], f"{name} is set before the query and in it")
        given[name] = options.pop(name)
    return RedisUrl(
        mode=mode,
        tls=tls,
        hosts=() if scheme == "unix" else tuple(_host(word, port) for word in words),
        path=path if scheme == "unix" else "",
        service=service,
        db=_db(mode, given["db"]),
        username=given["username"] or None,
        password=given["password"] or None,
        options=tuple(options.items()),
    )


def _split(text: str) -> dict[str, str]:
    _require(text.isprintable() and " " not in text, "it contains white space or a control character")
    _require(re.match(r"[A-Za-z+]+://", text), "it does not begin with a scheme and ://")
    found = _SHAPE.fullmatch(text)
    if not found or re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise RedisUrlError("write @ / ? # % in a user or a password as %40 %2F %3F %23 %25")
    try:
        unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise RedisUrlError("its percent-encoded text is not UTF-8") from None
    return found.groupdict("")


def _host(word: str, default: int) -> tuple[str, int]:
    found = _HOST.fullmatch(word)
    if not found:
        raise RedisUrlError("a host is missing or malformed")
    host, port = found["host"], int(found["port"] or default)
    if host.startswith("["):
        host = host.strip("[]")
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise RedisUrlError("the text in brackets is not an IPv6 address") from None
    _require(0 < port < 65536, "a port is not from 1 to 65535")  # noqa: PLR2004 - RFC 793: 16 bits
    return host, port


def _place(mode: Mode, path: str) -> tuple[str, str]:
    """Service and database; empty if missing."""
    if mode is not Mode.SENTINEL:
        return "", path.removeprefix("/")
    found = re.fullmatch(f"/({_SERVICE})(?:/({_DB})?)?", path)
    if not found:
        raise RedisUrlError("+sentinel needs /service or /service/db after its hosts")
    return found[1], found[2] or ""


def _db(mode: Mode, text: str) -> int:
    _require(re.fullmatch(_DB, text or "0"), "the database is not a whole number")
    db = int(text or 0)
    _require(db == 0 or mode is not Mode.CLUSTER, "a cluster has only database 0")
    return db


def _options(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError:  # its text shows the query
        raise RedisUrlError("after ? it needs name=value&name=value") from None
    options = dict(pairs)
    are_names = len(options) == len(pairs) and all(re.fullmatch("[a-z][a-z0-9_]*", name) for name in options)
    _require(are_names, "an option after ? is given twice or is not a name")
    _require(not options.keys() & _ELSEWHERE, "host, port and path belong before the ?")
    return options
