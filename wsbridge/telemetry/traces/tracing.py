"""The interface of traces. A bridge without traces has none of them, and then nothing is computed."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec.structs import replace

from wsbridge.core.events import Entry, Event, Rejected
from wsbridge.core.traceparents import trace_id
from wsbridge.telemetry.stations.records import Outcome

Read = Sequence[Event | Rejected]
Delivered = tuple[Entry, int, float]  # an entry, the number of its sessions, and the seconds since it was queued


class Delivery:
    """The events of one delivery. `read` has the `span` of each event that is traced or whose frames carry one.

    `outcomes` are those of its events, in order; None if the broker raised.
    """

    def __init__(self, read: Read) -> None:
        self.read = read
        self.outcomes: Sequence[Outcome] | None = None

    def end(self) -> None:
        """End the spans."""


class Traces(Protocol):
    """No method raises or blocks."""

    def begin(self, topic: str, read: Read, headers: Mapping[str, str]) -> Delivery:
        """Begin a span for each event or rejection of a delivery. `headers` are those of its request."""
        ...

    def delivered(self, entries: Sequence[Delivered]) -> None:
        """Record entries with a span that were just passed to sessions."""


class PassedOn:
    """Makes no spans. Frames carry the `traceparent` of the publisher."""

    def begin(self, topic: str, read: Read, headers: Mapping[str, str]) -> Delivery:
        return Delivery([replace(e, span=e.trace) if type(e) is Event and trace_id(e.trace) else e for e in read])

    def delivered(self, entries: Sequence[Delivered]) -> None: ...
