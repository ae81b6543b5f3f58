"""The parsers, each wrapped into a function of bytes that checks the result."""

import base64
import contextlib
import hashlib
import hmac
import json
import struct
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeVar, cast

import msgspec
from aiohttp import web
from multidict import CIMultiDict, MultiDict

from wsbridge.auth.authenticator import offered_tokens
from wsbridge.auth.jwks import HMAC, Key
from wsbridge.auth.keys import FixedKeys
from wsbridge.auth.origins import Origins
from wsbridge.auth.tokens import TokenVerifier
from wsbridge.broker.redis.codec import decode_entries, parse_position
from wsbridge.config.env import read as read_environment
from wsbridge.config.settings import Settings
from wsbridge.core.close_codes import Refused
from wsbridge.core.events import Entry, Event, Position, Rejected
from wsbridge.core.messages import read_message
from wsbridge.core.reasons import Drop
from wsbridge.core.recovery import decide_resume
from wsbridge.core.user_ids import is_user
from wsbridge.dapr.delivery import DeliveryReader
from wsbridge.telemetry.redaction import scrubbed, shown_path, shown_query

T = TypeVar("T")
CORPUS = Path(__file__).parent / "corpus"
TOPIC = "task-updates"
SECRET = "a secret of thirty-two bytes or more"
AT = {"__key": "k", "__partition": "3", "__offset": "41", "__timestamp": "1795948413123"}


class Target(NamedTuple):
    """A parser; `named` are the exceptions that it documents for bad input."""

    work: Callable[[bytes], object]
    named: tuple[type[Exception], ...] = ()

    def run(self, data: bytes) -> None:
        """Parse. Raises an undocumented exception or a failed check."""
        with contextlib.suppress(*self.named):
            self.work(data)


def seeds(name: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]


# Events.

READERS = [
    DeliveryReader({TOPIC: "task_update"}, field, 10_000, escaped_headers=escaped)
    for field, escaped in (("user_id", False), ("a.b", False), ("@subject", True), ("@key", True))
]


def event(data: bytes) -> None:
    for reader in READERS:
        check(reader.read(data, TOPIC, AT))


def message(data: bytes) -> None:
    """A raw message. Its headers come first, one a line, then an empty line."""
    head, _, body = data.partition(b"\n\n")
    headers = dict(line.partition("=")[::2] for line in text_of(head).split("\n"))
    entry = {"entryId": "0", "event": base64.b64encode(body).decode(), "contentType": "application/octet-stream"}
    bulk = msgspec.json.encode({"type": "com.dapr.event.sent.bulk", "entries": [entry]})
    for reader in READERS:
        check(reader.read(body, TOPIC, headers))
        found = reader.read_bulk(bulk, TOPIC)
        assert found is not None
        assert [entry_id for entry_id, _ in found] == ["0"]


def bulk(data: bytes) -> None:
    for entry_id, found in READERS[0].read_bulk(data, TOPIC) or []:
        entry_id.encode()
        check(found)


def check(found: Event | Rejected) -> None:
    """Check that the event can be passed on, logged and stored."""
    if isinstance(found, Rejected):
        assert found.reason in Drop
        found.event_id.encode()
        return
    assert all(map(is_user, found.users))
    assert isinstance(json.loads(found.data, parse_int=str), dict)
    (found.id + found.key).encode()


# Clients.

VERIFIER = TokenVerifier(FixedKeys([Key(SECRET, HMAC)]), Settings(jwt_audience=("a",), jwt_user_claim="user.id"))
ORIGINS = [Origins(allowed, development=False) for allowed in ((), ("https://*.example.com", "https://bücher.example"))]


def result(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        value: T = end.value
        return value
    raise AssertionError("it waited")


def token(data: bytes) -> None:
    """A verbatim token; or a header and claims, one a line, with a valid signature."""
    head, newline, claims = data.partition(b"\n")
    text = signed(head, claims) if newline else text_of(data)
    identity = result(VERIFIER.verify(text))
    assert newline, "nobody signed it"
    assert is_user(identity.user)
    assert identity.expires < time.time() + 1e9


def signed(header: bytes, claims: bytes) -> str:
    content = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in (header, claims))
    mac = hmac.new(SECRET.encode(), content, hashlib.sha256).digest()
    return (content + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


def request(data: bytes, *names: str) -> web.Request:
    """A request with headers of these names, whose values are the lines."""
    headers = CIMultiDict[str]()
    for name, line in zip(names, text_of(data).split("\n"), strict=False):
        headers.add(name, line)
    return cast("web.Request", SimpleNamespace(headers=headers, query=MultiDict[str]()))  # parsers read nothing else


def cookie(data: bytes) -> None:
    names = ("Cookie", "Cookie", "Sec-WebSocket-Protocol", "Authorization", "Sec-WebSocket-Protocol")
    for found in offered_tokens(request(data, *names), "session"):
        assert found


def origin(data: bytes) -> None:
    for origins in ORIGINS:
        found = request(data, "Origin", "Host")
        assert ("Access-Control-Allow-Origin" in origins.cors(found)) == (
            "Origin" in found.headers and origins.allows(found)
        )


def client_message(data: bytes) -> None:
    read_message(text_of(data))


def resume_position(data: bytes) -> None:
    text = text_of(data)
    found = Position.parse(text)
    assert found is None or str(found) == text
    resume = decide_resume(text, Position("abc", 10), 5, 2)
    assert resume.recovered is None or resume.recovered is (resume.gap is None)


# Operators, the log, Redis.


def settings(data: bytes) -> None:
    """Lines such as NAME=value; files are not read."""
    pairs = (line.partition("=") for line in text_of(data).replace("\0", "").split("\n"))
    environ = {name: value for name, _, value in pairs if "_FILE" not in name}
    reading = read_environment(environ)
    reading.settings.masked()


def log_line(data: bytes) -> None:
    text = text_of(data)
    scrubbed(text)
    shown_path(text, is_route=False)
    shown_query(MultiDict({text: text}))


def redis_entries(data: bytes) -> None:
    for entry in decode_entries("u", data, lambda _: 0.0):
        assert (entry if isinstance(entry, Entry) else entry.entry).user == "u"


def redis_position(data: bytes) -> None:
    parse_position(data)


def text_of(data: bytes) -> str:
    """Decode headers as aiohttp does."""
    return data.decode(errors="surrogateescape")


TARGETS = {
    "event": Target(event),
    "message": Target(message),
    "bulk": Target(bulk),
    "token": Target(token, (Refused,)),
    "cookie": Target(cookie),
    "origin": Target(origin),
    "client_message": Target(client_message),
    "resume_position": Target(resume_position),
    "settings": Target(settings),
    "log_line": Target(log_line),
    "redis_entries": Target(redis_entries, (struct.error, msgspec.DecodeError, UnicodeDecodeError)),
    "redis_position": Target(redis_position),
}
