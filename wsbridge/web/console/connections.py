"""The table of one replica's connections for one console: rows that are new, cells that changed, rows that ended."""

import asyncio
import time
from typing import Any

from wsbridge.sessions.registry import Registry
from wsbridge.sessions.session import Session

SLICE = 500  # sessions that are compared before other tasks run
NEW_ROWS = 2_000  # in one answer, at most; the next one has further ones
ROWS = 10_000  # of a replica, at most; further connections are only counted
_Cells = tuple[str, int, int, float | None]  # epoch and offset of the position, unsent bytes, round trip


class Table:
    """The state of one console's table: the cells that were sent, for each session."""

    def __init__(self) -> None:
        self._sent: dict[str, _Cells] = {}  # by session id

    async def changes(self, registry: Registry) -> dict[str, Any]:
        """Return the fields of the line `connections` since the last call.

        `left_out` is the number of connections without a row.
        """
        opened: list[list[Any]] = []
        changed: list[list[Any]] = []
        seen: set[str] = set()
        offset = time.time() - time.monotonic()
        for batch in registry.slices(SLICE):
            self._compare(batch, opened, changed, seen, offset)
            await asyncio.sleep(0)
        closed = [name for name in self._sent if name not in seen]
        for name in closed:
            del self._sent[name]
        left_out = max(0, len(registry) - len(self._sent))
        return {"opened": opened, "changed": changed, "closed": closed, "left_out": left_out}

    def _compare(
        self, batch: list[Session], opened: list[list[Any]], changed: list[list[Any]], seen: set[str], offset: float
    ) -> None:
        sent = self._sent
        for session in batch:
            name = session.id
            cells = (session.epoch, session.offset, session.unsent(), session.round_trip)
            before = sent.get(name)
            if before is None:
                if len(opened) >= NEW_ROWS or len(sent) >= ROWS:
                    continue
                opened.append([*_shown(name, cells), *_constant(session, offset)])
            elif before != cells:
                changed.append(_shown(name, cells))
            sent[name] = cells
            seen.add(name)


def _shown(name: str, cells: _Cells) -> list[Any]:
    epoch, offset, unsent, round_trip = cells
    return [name, f"{epoch}:{offset}" if epoch else "", unsent, round_trip and round(round_trip * 1_000, 1)]


def _constant(session: Session, offset: float) -> list[Any]:
    connection = session.connection
    return [session.user, connection.transport_name, session.opened_at + offset, session.peer, session.agent]
