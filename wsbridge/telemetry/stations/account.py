"""The records of one replica about one event of one user. Accounts of several replicas add up."""

from collections.abc import Iterable, Sequence

import msgspec

from wsbridge.core.events import Position
from wsbridge.telemetry.stations.records import (
    EVENTS,
    RECEIVED,
    SESSIONS,
    Closed,
    Received,
    Refused,
    Relayed,
    Resumed,
)
from wsbridge.telemetry.stations.ring import Stations

MOST = 200  # receipts, relays or connections in one account; older ones are left out


class Arrival(msgspec.Struct):
    """A delivery of the event by the sidecar. `place` is topic/partition/offset, as far as it is known."""

    at: float
    place: str
    status: str  # stored, duplicate, retried or dropped
    is_for_user: bool = True
    users: int = 1
    produced: float | None = None
    reason: str | None = None
    detail: str = ""


class Relay(msgspec.Struct):
    """The event was passed to the user's sessions on a replica."""

    at: float
    position: Position


class Read(msgspec.Struct):
    """A session read the history: it got `replayed` entries after `position`, or a `gap` that ends at `position`."""

    at: float
    is_start: bool
    asked: str | None
    position: Position
    replayed: int
    gap: str | None


class Connection(msgspec.Struct):
    """A session. `position` is that of the last entry that was passed to it; `close` is None while it is open."""

    session: str
    transport: str
    opened_at: float
    position: Position
    unsent: int = 0
    is_live: bool = True  # False while it reads the history
    handled: Position | None = None  # the last one that the client has reported, or after which it resumed
    reads: list[Read] = []
    closed_at: float | None = None
    close: str | None = None
    replica: str = ""


class Account(msgspec.Struct):
    """The records begin at `since`. If `may_be_left_out`, the replica did not record every event since then."""

    replica: str
    since: float
    is_on: bool
    may_be_left_out: bool = False
    receipts: list[Arrival] = []
    relays: list[Relay] = []
    connections: list[Connection] = []
    partitions: list[str] = []  # topics and partitions of the user's last events on this replica, newest first
    deliveries: dict[str, float] = {}  # topic and partition → time of the last delivery
    denials: int = 0  # calls to routes of the sidecar that were refused, and the time of the last one
    denied_at: float = 0.0
    drops: int = 0  # events that can never be accepted; time, reason and text of the last one
    last_drop: tuple[float, str, str] | None = None


async def collect(stations: Stations, user: str, event_id: str, connected: Sequence[Connection]) -> Account:
    """Search the records of this replica. `connected` are the user's open sessions on it."""
    account = Account(
        stations.replica, stations.since(), stations.is_on, deliveries=dict(stations.deliveries),
        denials=stations.denials, denied_at=stations.denied_at, drops=stations.drops, last_drop=stations.last_drop,
    )  # fmt: skip
    async for record in stations.search(event_id, EVENTS):
        match record:
            case Received():
                account.receipts += _receipts(record, user, event_id)
            case Refused(event_id=found) if found == event_id:
                place = record.place or record.topic
                account.receipts.append(
                    Arrival(record.at, place, record.status, reason=record.reason, detail=record.text)
                )
            case Relayed():
                account.relays += [
                    Relay(record.at, Position(record.epochs[place], record.offsets[place]))
                    for place in _places(record.ids, event_id)
                    if record.users[place] == user
                ]
            case _:
                pass
    account.connections = await _connections(stations, user, connected)
    account.receipts, account.relays = account.receipts[:MOST][::-1], account.relays[:MOST][::-1]
    if not account.receipts and not account.relays:
        account.partitions = await _partitions(stations, user)
        account.may_be_left_out = stations.has_sampled
    return account


def _places(ids: Iterable[str], event_id: str) -> list[int]:
    return [place for place, found in enumerate(ids) if found == event_id]


def _receipts(record: Received, user: str, event_id: str) -> list[Arrival]:
    found = []
    for place in _places(record.ids, event_id):
        status, reason, detail = record.outcomes[place] if record.outcomes else ("stored", None, "")
        where = "/".join(map(str, filter(None, (record.topic, record.partitions[place], record.offsets[place]))))
        users = record.users[place]
        found.append(
            Arrival(record.at, where, status, user in users, len(users), record.produced[place], reason, detail)
        )
    return found


async def _connections(stations: Stations, user: str, connected: Sequence[Connection]) -> list[Connection]:
    """The open and closed sessions of the user, by time."""
    found = {connection.session: connection for connection in connected}
    async for record in stations.search(user, SESSIONS):  # newest first, so the end of a session precedes its start
        if isinstance(record, Resumed | Closed) and record.user == user:
            connection = found.setdefault(
                record.session, Connection(record.session, record.transport, record.opened_at, record.position)
            )
            if isinstance(record, Closed):
                connection.closed_at, connection.close = record.at, f"{record.code} {record.reason}".strip()
                connection.handled = record.handled
            else:
                read = Read(record.at, record.is_start, record.asked, record.position, record.replayed, record.gap)
                connection.reads.insert(0, read)
        if len(found) > MOST:
            break
    for connection in found.values():
        connection.replica = stations.replica
        # It is reckoned from a later time, and the clock may have been set forward between the two.
        connection.opened_at = min([connection.opened_at, *(read.at for read in connection.reads)])
    return sorted(found.values(), key=lambda connection: connection.opened_at)


async def _partitions(stations: Stations, user: str) -> list[str]:
    """Topics and partitions of the user's last `MOST` records, newest first."""
    found, searched = dict[str, None](), 0
    async for record in stations.search(user, RECEIVED):
        if isinstance(record, Received):
            for users, partition in zip(reversed(record.users), reversed(record.partitions), strict=True):
                if partition and user in users:
                    found[f"{record.topic}/{partition}"] = None
        searched += 1
        if searched == MOST:
            break
    return list(found)
