"""Reads a delivery in three steps, from its body to events: `bulk`, `envelope`, `routing`. Does no I/O."""

from collections.abc import Mapping
from typing import Any

from wsbridge.core.events import Event, Rejected
from wsbridge.dapr.attributes import coordinates
from wsbridge.dapr.bulk import BulkEntry, read_entries
from wsbridge.dapr.envelope import Message, open_message
from wsbridge.dapr.routing import Router


class DeliveryReader:
    """Reads deliveries. The arguments are those of `Router`; `escaped_headers` counts for all Kafka headers."""

    def __init__(self, types: Mapping[str, str], user_field: str, max_bytes: int, *, escaped_headers: bool) -> None:
        self._router = Router(types, user_field, max_bytes, escaped_keys=escaped_headers)
        self._escaped = escaped_headers

    def read(
        self, body: bytes, topic: str, metadata: Mapping[str, Any], content_type: str | None = None
    ) -> Event | Rejected:
        """Read one message. `content_type` is that of the entry of a bulk, None for a single delivery."""
        message = self._open(body, topic, metadata, content_type)
        read = message if isinstance(message, Rejected) else self._router.route(message, topic, metadata)
        return read._replace(place=coordinates(topic, metadata)) if isinstance(read, Rejected) else read

    def ids(self, body: bytes, topic: str, metadata: Mapping[str, Any], *, is_single: bool) -> list[str]:
        """The id of each message of a delivery, "" if it has none. The topic may be one that `types` does not have."""
        entries = None if is_single else read_entries(body)
        if entries is None:
            return [_id_of(self._open(body, topic, metadata, None))]
        return [_id_of(self._opened(entry, topic)) for _, entry in entries]

    def read_bulk(self, body: bytes, topic: str) -> list[tuple[str, Event | Rejected]] | None:
        """Read a bulk: each entry's id with its event, in order; None if the body is not a bulk."""
        entries = read_entries(body)
        return None if entries is None else [(entry_id, self._read(entry, topic)) for entry_id, entry in entries]

    def _read(self, entry: BulkEntry | Rejected, topic: str) -> Event | Rejected:
        if isinstance(entry, Rejected):
            return entry
        return self.read(bytes(entry.event), topic, entry.metadata or {}, entry.content_type)

    def _open(
        self, body: bytes, topic: str, metadata: Mapping[str, Any], content_type: str | None
    ) -> Message | Rejected:
        return open_message(body, topic, metadata, content_type=content_type, escaped=self._escaped)

    def _opened(self, entry: BulkEntry | Rejected, topic: str) -> Message | Rejected:
        if isinstance(entry, Rejected):
            return entry
        return self._open(bytes(entry.event), topic, entry.metadata or {}, entry.content_type)


def _id_of(message: Message | Rejected) -> str:
    return message.event_id if isinstance(message, Rejected) else message.id
