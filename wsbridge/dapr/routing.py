"""Turns a message into an event: finds its users, and checks that its data may be sent to browsers."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from wsbridge.core.events import Event, Rejected
from wsbridge.core.reasons import Drop
from wsbridge.core.user_ids import MAX_USER_BYTES, is_user
from wsbridge.dapr.attributes import as_text, produced_at, short_id, unescaped
from wsbridge.dapr.envelope import Message
from wsbridge.dapr.payload import REFUSED, is_utf8, rejection, too_deep
from wsbridge.dapr.user_hints import why_no_user

MAX_USERS = 1_000  # of one event, which is stored once for each; an event with more is dropped
MAX_SENT = 1 << 30  # bytes, data times users; more is dropped. An event of the default size for all users is below it


class _AnyObject(msgspec.Struct, gc=False):
    """A JSON object with any fields."""


class Router:
    """Finds the users of a message.

    `types` maps topics to message types. `user_field` is a dotted path in the data, `@subject` of the CloudEvent or
    `@key` of the Kafka message. `max_bytes` bounds the data. `escaped_keys` is whether keys of Kafka messages arrive
    URL-encoded.
    """

    def __init__(self, types: Mapping[str, str], user_field: str, max_bytes: int, *, escaped_keys: bool) -> None:
        self._types = types
        self._field = user_field
        self._depth = 0 if user_field.startswith("@") else user_field.count(".") + 1
        self._data = _user_decoder(user_field)
        self._max_bytes = max_bytes
        self._escaped = escaped_keys

    def route(self, message: Message, topic: str, metadata: Mapping[str, Any]) -> Event | Rejected:
        """`metadata` holds `__key` and `__timestamp` of the Kafka message, if it has them."""
        users = self._users(message, metadata)
        if isinstance(users, Rejected):
            return users._replace(event_id=message.id, trace=message.trace)
        return Event(
            users, message.data, self._types[topic], message.id, message.key, message.trace, produced_at(metadata),
            short_id(metadata.get("__partition")), short_id(metadata.get("__offset")), message.receipt,
        )  # fmt: skip

    def _users(self, message: Message, metadata: Mapping[str, Any]) -> tuple[str, ...] | Rejected:
        data = message.data
        if len(data) > self._max_bytes:
            text = f"the data has {len(data)} bytes; WSBRIDGE_MAX_EVENT_BYTES allows {self._max_bytes}"
            return Rejected(Drop.TOO_LARGE, text)
        try:
            value = self._data.decode(data)
        except REFUSED as error:
            return rejection(data, error, self._field)
        if not is_utf8(data):  # msgspec skips unread fields; a browser would close its socket for one bad byte
            return Rejected(Drop.BAD_UTF8, "the data is not UTF-8; encode the JSON as UTF-8")
        if (rejected := too_deep(data)) is not None:
            return rejected
        for _ in range(self._depth):
            value = None if value is None else value.user
        if self._field == "@subject":
            value = message.subject
        elif self._field == "@key":
            value = metadata.get("__key")
            value = unescaped(value) if self._escaped and type(value) is str else value
        users = _checked(value, self._field, data)
        if not isinstance(users, Rejected) and len(data) * len(users) > MAX_SENT:
            text = f"{len(data)} bytes of data for {len(users)} users exceed {MAX_SENT} bytes in all; split the event"
            return Rejected(Drop.TOO_LARGE, text)
        return users


def _user_decoder(path: str) -> msgspec.json.Decoder[Any]:
    """A decoder that reads only the field that `path` names."""
    if path.startswith("@"):
        return msgspec.json.Decoder(_AnyObject)
    kind: Any = str | int | list[str | int]
    for name in reversed(path.split(".")):
        kind = msgspec.defstruct("Data", [("user", kind | None, None)], rename={"user": name}, gc=False)
    return msgspec.json.Decoder(kind)


def _checked(value: Any, field: str, data: bytes) -> tuple[str, ...] | Rejected:
    if type(value) is str and 0 < len(value) <= MAX_USER_BYTES and value.isascii():
        return (value,)  # nearly always
    if value in (None, "", []):
        return Rejected(Drop.NO_USER, why_no_user(data, field))
    values: Sequence[Any] = value if isinstance(value, list) else (value,)
    if len(values) > MAX_USERS:
        return Rejected(Drop.BAD_USER, f"{field} has {len(values)} users, more than {MAX_USERS}; split the event")
    users = tuple(dict.fromkeys(as_text(user) for user in values))
    if not all(is_user(user) for user in users):
        text = f"a user in {field} is neither a string of 1 to {MAX_USER_BYTES} bytes nor an integer"
        return Rejected(Drop.BAD_USER, text)
    return users
