"""A bounded queue between the broker and the sockets, and the broadcaster that drains it. Never awaits a socket."""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass

from wsbridge.core.events import Entry
from wsbridge.core.traceparents import trace_id
from wsbridge.sessions.connection import Connection
from wsbridge.sessions.registry import Registry
from wsbridge.sessions.run import Run, run_of
from wsbridge.sessions.session import Session
from wsbridge.telemetry.log import debugging, log
from wsbridge.telemetry.metrics import Metrics
from wsbridge.telemetry.stations.ring import Stations
from wsbridge.telemetry.traces.tracing import Traces

MINUTE = 60.0  # seconds
PORTION = 65_536  # bytes of data, counted for each user, whose frames are in memory at once; 4 MiB take twice the time
UNPAUSED = 4_194_304  # the same, delivered before other tasks run
Group = tuple[Sequence[Entry], Sequence[Session]]  # the entries of one user, and the sessions


@dataclass(eq=False)
class Bus:
    """Holds at most `size` entries with `max_bytes` of data. When it is full, the broker answers RETRY."""

    registry: Registry
    metrics: Metrics
    _: KW_ONLY
    size: int
    max_bytes: int
    clock: Callable[[], float] = time.monotonic
    stations: Stations | None = None
    traces: Traces | None = None

    def __post_init__(self) -> None:
        self._queue: asyncio.Queue[tuple[Sequence[Entry], int]] = asyncio.Queue()  # bounded by the two numbers below
        self._queued: dict[float, float] = {}  # receipt of entries → when they were last put
        self.depth = self.bytes = 0
        self._most = self._most_before = 0  # entries: the maximum of this minute or longer, and of the one before
        self._turned = self.clock()

    @property
    def fullness(self) -> float:
        return max(self.depth / self.size, self.bytes / self.max_bytes)

    def most(self) -> int:
        """The maximum of entries since the last call, or of the last minute if that is longer."""
        most = max(self._most, self._most_before)
        if self.clock() - self._turned >= MINUTE:
            self._most_before, self._most, self._turned = self._most, self.depth, self.clock()
        return most

    def room(self) -> int:
        return self.size - self.depth

    def room_bytes(self) -> int:
        return self.max_bytes - self.bytes

    def is_empty(self) -> bool:
        return self.depth == 0

    def put(self, entries: Sequence[Entry]) -> None:
        self.depth += len(entries)
        self._most = max(self._most, self.depth)
        size = data_bytes(entries)
        self.bytes += size
        now = self.clock()
        for entry in entries:
            self._queued[entry.received_at] = now
        self._queue.put_nowait((entries, size))

    def is_connected(self, user: str) -> bool:
        return self.registry.has(user)

    def disconnect(self, user: str) -> None:
        self.registry.disconnect(user)

    async def broadcast(self) -> None:
        """Deliver, for as long as the bridge runs. All entries queued at a wake-up are one batch, flushed once."""
        while True:
            batch, size = await self._next_batch()
            queued, self._queued = self._queued, {}
            try:
                await self._deliver_all(batch, queued)
            finally:
                self.depth -= len(batch)
                self.bytes -= size
                del batch  # otherwise its data would stay in memory until the next event

    async def _next_batch(self) -> tuple[list[Entry], int]:
        """Wait for an entry. Returns all queued entries, and the bytes of their data."""
        entries, size = await self._queue.get()
        batch = list(entries)
        while not self._queue.empty():
            more, more_size = self._queue.get_nowait()
            size += more_size
            batch += more
        return batch, size

    async def _deliver_all(self, batch: Sequence[Entry], queued: Mapping[float, float]) -> None:
        """Deliver in portions: frames copy the data, and those of a portion are sent before the next are made."""
        delivered = 0
        for start, end, size in portions(batch):
            if delivered + size > UNPAUSED and delivered:
                await asyncio.sleep(0)
                delivered = 0
            delivered += size
            try:
                self._deliver(batch[start:end] if end - start < len(batch) else batch, queued)
            except Exception as error:  # the task boundary: one bad batch must not stop the others
                self.metrics.internal("broadcast", error, what="")

    def _deliver(self, batch: Sequence[Entry], queued: Mapping[float, float]) -> None:
        """Write the entries of a portion to the sessions of their users. Each session gets one write.

        All frames are made before the first write: writes close together take less time in the kernel.
        """
        groups = [(entries, found) for user, entries in by_user(batch).items() if (found := self.registry.of(user))]
        for session, run in [pair for group in groups for pair in self._runs(*group)]:
            try:
                self.metrics.deliveries += session.deliver(run)
            except Exception as error:  # an error with one session must not affect the others
                self.metrics.internal("deliver", error, what=session.id)
                session.drop("internal")
        now = self.clock()
        for received, times in produced_by_receipt(groups).items():
            self.metrics.delivered(now, received, queued[received], times)
        if self.stations is not None and self.stations.is_on:
            self.stations.relayed(batch)
        if self.traces is not None and (traced := list(_traced(groups))):
            self.traces.delivered([(entry, taken, now - queued[entry.received_at]) for entry, taken in traced])
        if debugging():
            _log_delivered(groups)

    def _runs(self, entries: Sequence[Entry], sessions: Sequence[Session]) -> Iterator[tuple[Session, Run]]:
        """Each session of a user with its run, which is made once for each transport."""
        runs: dict[str, Run] = {}
        for session in sessions:
            connection = session.connection
            run = runs.get(connection.transport_name)
            if run is None:
                run = runs[connection.transport_name] = self._run(entries, connection)
            yield session, run

    def _run(self, entries: Sequence[Entry], connection: Connection) -> Run:
        """The entries with their frames, except for those whose frame cannot be made."""
        made: list[Entry] = []
        frames: list[bytes] = []
        for entry in entries:
            try:
                frames.append(connection.update(entry))
            except Exception as error:  # an error with one event must not affect the others
                self.metrics.internal("frame", error, what=entry.event_id)
            else:
                made.append(entry)
        return run_of(made, frames)


def by_user(batch: Sequence[Entry]) -> dict[str, list[Entry]]:
    """The entries of each user, in order."""
    found: dict[str, list[Entry]] = {}
    for entry in batch:
        if entry.user in found:
            found[entry.user].append(entry)
        else:
            found[entry.user] = [entry]
    return found


def produced_by_receipt(groups: Iterable[Group]) -> dict[float, list[float | None]]:
    """The times of the entries in Kafka, by the time of their receipt. Those of one request are adjacent."""
    found: dict[float, list[float | None]] = {}
    receipt = math.nan
    times: list[float | None] = []
    for entries, _ in groups:
        for entry in entries:
            if entry.received_at != receipt:
                receipt = entry.received_at
                times = found.setdefault(receipt, [])
            times.append(entry.produced)
    return found


def _traced(groups: Iterable[Group]) -> Iterator[tuple[Entry, int]]:
    """The entries with a span, and how many sessions have taken each."""
    for entries, sessions in groups:
        for entry in entries:
            if entry.span:
                yield entry, sum(session.is_at(entry) for session in sessions)


def _log_delivered(groups: Iterable[Group]) -> None:
    for entries, sessions in groups:
        ids = [session.id for session in sessions]
        for entry in entries:
            trace = {"trace_id": trace_id(entry.span)} if entry.span else {}
            position = f"{entry.epoch}:{entry.offset}"
            log.debug(
                "event.delivered", event_id=entry.event_id, user=entry.user, **trace, position=position, sessions=ids
            )


def portions(batch: Sequence[Entry]) -> Iterator[tuple[int, int, int]]:
    """The begin, the end and the bytes of data of each portion: `PORTION` at most, or one entry."""
    start = size = 0
    for place, entry in enumerate(batch):
        size += len(entry.data)
        if size > PORTION and place > start:
            yield start, place, size - len(entry.data)
            start, size = place, len(entry.data)
    yield start, len(batch), size


def data_bytes(entries: Iterable[Entry]) -> int:
    """The size of their data. Entries of one event are adjacent and share it, so it counts once."""
    size, last = 0, None
    for entry in entries:
        if entry.data is not last:
            last = entry.data
            size += len(last)
    return size
