"""Events, entries and sessions to record, with few arguments."""

from typing import Any

from wsbridge.core.events import Entry, Event, Position
from wsbridge.telemetry.stations.account import Connection, Read
from wsbridge.telemetry.stations.ring import Connected


def event(name: str, users: tuple[str, ...] = ("u1",), **fields: Any) -> Event:
    return Event(users, b"{}", "task_update", name, "", **fields)


def entry(name: str, user: str = "u1", offset: int = 1) -> Entry:
    return Entry(user, "e", offset, "task_update", b"{}", "", 0.0, name)


def connected(name: str) -> Connected:
    return Connected("u1", name, "sse", 0.5)


def at(offset: int, epoch: str = "e") -> Position:
    return Position(epoch, offset)


def read(position: Position, **fields: Any) -> Read:
    """The first read of a session, at 1 s, without a replay."""
    return Read(
        **{"at": 1.0, "is_start": True, "asked": None, "replayed": 0, "gap": None, **fields, "position": position}
    )


def connection(position: Position, *reads: Read, **fields: Any) -> Connection:
    """A session that was opened at 1 s."""
    return Connection(**{"session": "s", "transport": "sse", "opened_at": 1.0, "reads": list(reads), **fields},
                      position=position)  # fmt: skip
