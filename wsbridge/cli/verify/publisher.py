"""Publishes the events of a run: those of a user one after the other, each until it is accepted."""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from wsbridge.cli.options import Failed
from wsbridge.cli.publish import cloud_event
from wsbridge.cli.verify.record import Record

TYPE = "wsbridge.verify.canary"
AGAIN = 0.3  # seconds until an event that was not accepted is published again, with the same id
MOST_THREADS = 32
Post = Callable[[Mapping[str, Any], str], None]  # an event and its user; raises `Failed`


class Publisher:
    """Publishes `rate` events a second in total, until `stop` is called.

    The last user, if there are several, gets only two: at the start and after the end. Its clients show what happens
    to idle connections.
    """

    def __init__(self, record: Record, post: Post, *, rate: float, user_field: str) -> None:
        self._record = record
        self._post = post
        self._beat = max(1, len(record.users) - 1) / rate  # seconds between two events of a user
        self._user_field = user_field
        self._stopped = asyncio.Event()
        self._threads = ThreadPoolExecutor(min(MOST_THREADS, len(record.users)))

    def stop(self) -> None:
        self._stopped.set()

    def close(self) -> None:
        """Leave requests that have no answer yet; they time out."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def publish(self, user: str) -> None:
        """Publish the events of one user."""
        users = self._record.users
        place = users.index(user)
        is_idle = place > 0 and place == len(users) - 1
        serial, due = 0, self._record.now() + self._beat * place / len(users)
        while not await self._stopped_before(due):
            serial += 1
            await self._deliver(user, serial)
            due = float("inf") if is_idle else max(due + self._beat, self._record.now())
        if is_idle:
            await self._deliver(user, serial + 1)

    async def _stopped_before(self, due: float) -> bool:
        if self._stopped.is_set():
            return True
        wait = None if due == float("inf") else max(0.0, due - self._record.now())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await self._stopped.wait()
        return self._stopped.is_set()

    async def _deliver(self, user: str, serial: int) -> None:
        record, ledger = self._record, self._record.ledger
        mark = {"run": ledger.run, "user": user, "n": serial}
        event_id = record.event_id(user, serial)
        event = cloud_event(TYPE, [user], {"verify": mark}, event_id=event_id, user_field=self._user_field)
        data = msgspec.json.encode(event["data"])
        while not await self._attempt(event, user, serial, data):  # noqa: ASYNC110 - it is a retry
            await asyncio.sleep(AGAIN)

    async def _attempt(self, event: Mapping[str, Any], user: str, serial: int, data: bytes) -> bool:
        record, success = self._record, False
        record.ledger.sending(user, serial, data, record.now())
        try:
            await asyncio.get_running_loop().run_in_executor(self._threads, self._post, event, user)
            success = True
        except Failed as failed:
            record.problems[failed.message] += 1
        finally:
            record.ledger.answered(user, serial, record.now(), success=success)
        return success
