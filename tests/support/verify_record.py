"""A record of `wsbridge verify`, told step by step."""

from typing import Any

import msgspec

from wsbridge.cli.verify.ledger import Ledger
from wsbridge.cli.verify.record import Cut, Gap, Record, Track
from wsbridge.cli.verify.viewer import Viewer
from wsbridge.cli.verify.visit import Visit
from wsbridge.client import read
from wsbridge.core.close_codes import LOST, Close

EVENTS = 10  # published for each user, one a second


class Told:
    """Events for each user, from second 1 on. The clients are connected from second 0, at offset 0 of their epoch."""

    def __init__(self, *users: str) -> None:
        ledger = Ledger(ttl=600, size=1000, run="r", verbatim=False)
        self.record = Record(ledger, users, ended=EVENTS + 1.0)
        for user in users:
            for serial in range(1, EVENTS + 1):
                ledger.sending(user, serial, msgspec.json.encode(data(user, serial)), float(serial))
                ledger.answered(user, serial, float(serial), success=True)

    def client(self, user: str, epoch: str = "e", *, late: float = 0.002) -> Track:
        """A client that gets nothing yet."""
        viewer = Viewer(self.record.ledger, user, f"client {len(self.record.tracks) + 1}", self.record.broken)
        self._visit, self._epoch, self._late = Visit(viewer, 0.0), epoch, late
        self._take({"type": "connected", "user_id": user, "last_event_id": f"{epoch}:0"}, 0.0)
        self.record.saw(user, epoch, 0.0)
        self.record.tracks.append(Track(viewer))
        return self.record.tracks[-1]

    def sees(self, *serials: int, skipping: bool = False) -> None:
        """The last client gets events. `skipping`: its positions are those of all events."""
        user = self.record.tracks[-1].viewer.user
        for place, serial in enumerate(serials, 1):
            now = serial + self._late
            position = f"{self._epoch}:{serial if skipping else place}"
            self._take({"type": "task_update", "id": position, "event": data(user, serial)}, now)
            self.record.arrived(user, serial, now, now, stamp=serial + 0.001, live=True)
            self.record.saw(user, self._epoch, now)

    def sees_all(self) -> None:
        self.sees(*range(1, EVENTS + 1))

    def _take(self, message: Any, now: float) -> None:
        self._visit.take(read(msgspec.json.encode(message)), now)


def data(user: str, serial: int) -> dict[str, Any]:
    return {"verify": {"n": serial, "run": "r", "user": user}}


def cut(at: float, idle: float, close: Close = LOST) -> Cut:
    return Cut(at, close, age=at, idle=idle, expected=False)


def gap(reason: str, *, explained: bool) -> Gap:
    return Gap(5.0, reason, explained)
