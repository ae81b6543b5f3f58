"""Reads a delivery in three steps, from its body to events: `bulk`, `envelope`, `routing`. Does no I/O."""

from collections.abc import Mapping
from typing import Any

from wsbridge.core.events import Event, Rejected
from wsbridge.dapr.bulk import Entry, read_entries
from wsbridge.dapr.envelope import open_message
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
        message = open_message(body, topic, metadata, content_type=content_type, escaped=self._escaped)
        return message if isinstance(message, Rejected) else self._router.route(message, topic, metadata)

    def read_bulk(self, body: bytes, topic: str) -> list[tuple[str, Event | Rejected]] | None:
        """Read a bulk: each entry's id with its event, in order; None if the body is not a bulk."""
        entries = read_entries(body)
        return None if entries is None else [(entry_id, self._read(entry, topic)) for entry_id, entry in entries]

    def _read(self, entry: Entry | Rejected, topic: str) -> Event | Rejected:
        if isinstance(entry, Rejected):
            return entry
        return self.read(bytes(entry.event), topic, entry.metadata or {}, entry.content_type)
