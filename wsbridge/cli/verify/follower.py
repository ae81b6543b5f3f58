"""One client of a run: follows a user with `wsbridge.client`, and passes each message to the oracle."""

import time

from wsbridge import client
from wsbridge.cli.formatting import explain
from wsbridge.cli.http import why_unreachable
from wsbridge.cli.verify.record import Cut, Gap, Record, Track
from wsbridge.cli.verify.token_command import TokenFailed
from wsbridge.cli.verify.viewer import Flaw, Viewer
from wsbridge.cli.verify.visit import Visit
from wsbridge.client import Cause, Client, Ended, Message
from wsbridge.core.close_codes import Close
from wsbridge.core.timestamps import seconds_of


class Follower:
    """One client, for as long as `follow` runs."""

    def __init__(self, canary: Client, record: Record) -> None:
        name = f"client {len(record.tracks) + 1}"
        self.viewer = Viewer(record.ledger, canary.user or "", name, record.broken)
        self.track = Track(self.viewer)
        record.tracks.append(self.track)
        self._client = canary
        self._record = record
        self._visit = Visit(self.viewer, record.now())
        self._opened: float | None = None  # when the connection got `connected`
        self._opened_stamp = ""  # … on the bridge's clock
        self._heard = 0.0  # when the last message came
        self._goodbye = False
        canary.on_attempt, canary.on_disconnect = self._attempt, self._disconnected

    async def follow(self) -> None:
        """Follow until a close code or a status forbids reconnecting."""
        try:
            async with self._client:
                async for message in self._client:
                    self._take(message)
        except TokenFailed as failed:
            self.track.ended = str(failed)
        except Ended as ended:
            self._note(ended.cause)
            self.track.ended = self.track.trouble

    def finish(self, now: float) -> None:
        """End the period that is open at the end of the run."""
        if self.track.away is not None:
            self.track.dark.append((self.track.away, now))
        elif self.viewer.position:
            self._record.saw(self.viewer.user, self.viewer.position.epoch, now)

    def _attempt(self) -> None:
        self._visit = Visit(self.viewer, self._record.now())
        self._opened, self._goodbye = None, False

    def _take(self, message: Message) -> None:
        now, viewer, track = self._record.now(), self.viewer, self.track
        delivered, unexplained = viewer.tally["delivered"], self._record.flaws[Flaw.GAP]
        self._visit.take(message, now)
        self._heard = now
        if message.type == "connected":
            self._opened, self._opened_stamp, track.trouble = now, message.timestamp, ""
            if track.away is not None:
                track.dark.append((track.away, now))
                track.away = None
        elif message.type == "goodbye":
            self._goodbye = True
        elif message.type == "gap":
            track.gaps.append(Gap(now, message.reason, self._record.flaws[Flaw.GAP] == unexplained))
        if viewer.tally["delivered"] > delivered:
            stamp, live = message.timestamp, message.timestamp >= self._opened_stamp
            at = seconds_of(stamp) if stamp else None
            self._record.arrived(viewer.user, self._visit.serial, now, time.time(), stamp=at, live=live)
        if viewer.position and message.recovered is not False:  # otherwise its position is void
            self._record.saw(viewer.user, viewer.position.epoch, now)

    def _disconnected(self, cause: Cause, _seconds: float) -> None:
        self._note(cause)

    def _note(self, cause: Cause) -> None:
        now = self._record.now()
        if self.track.away is None and self.track.connected:
            self.track.away = now
        if isinstance(cause, Close):
            self.track.trouble = explain(cause)
            if self._opened is not None:
                cut = Cut(now, cause, now - self._opened, now - self._heard, self._goodbye)
                self.track.cuts.append(cut)
        elif isinstance(cause, Exception):
            self.track.trouble = why_unreachable(cause, client.CONNECT_TIMEOUT)
        else:
            self.track.trouble = f"HTTP status {cause}"
