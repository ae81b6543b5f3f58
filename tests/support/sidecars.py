"""A publisher that acts like Dapr's sidecars: partitions in order, one request at a time, repeated until SUCCESS.

Knows the bridges by their URLs, and keeps the oracle's ledger.
"""

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any, NamedTuple

import aiohttp

from tests.support.deliveries import bulk_bytes, enveloped
from wsbridge.cli.verify.ledger import Ledger
from wsbridge.cli.verify.viewer import Broken

PATIENCE = 10.0  # seconds that a sidecar waits for an answer
IMPATIENT = 0.01  # share of the requests that the client abandons before the answer
FORGETFUL = 0.05  # of the events with SUCCESS are delivered again, as by a consumer that left before it committed
RECUT = 0.3  # of the failed events are delivered again in other batches
REBALANCED = 0.02  # of the requests, and half of the failed ones, go to another bridge than the one before
_PAUSE = 0.05  # seconds before a failed event is delivered again
_FORGOTTEN = 3.0  # seconds, at most, before an event with SUCCESS is delivered again
_TITLES = ("Buy milk", "Zoë", "買う", "a\u2028b", '"quoted"', "😀" * 3)


class Message(NamedTuple):
    """An event of a partition."""

    user: str
    serial: int
    data: bytes

    @property
    def body(self) -> bytes:
        return enveloped(self.data, id=f"{self.user}-{self.serial}", source="chaos")


class Sidecars:
    """The state that all partitions share."""

    def __init__(self, urls: Sequence[str], ledger: Ledger, tally: Counter[str], http: aiohttp.ClientSession) -> None:
        self.urls = [f"{url}/events/task-updates" for url in urls]
        self.ledger = ledger
        self.tally = tally
        self.stopped = False  # no new events; those that were begun still get their SUCCESS
        self.paused = False  # no new events for a while
        self.waited = 0.0  # seconds for which the events waited in Kafka, by their timestamp
        self.calm = False  # no event with SUCCESS is delivered again, and no request is abandoned
        self.careless = 0  # number of events with SUCCESS that are being delivered again
        self._http = http

    async def calm_down(self) -> None:
        """Stop redeliveries before Redis loses its ids: to a Redis that lost them, a redelivery is a new event."""
        self.calm = True
        while self.careless:  # noqa: ASYNC110 - several partitions count in it
            await asyncio.sleep(_PAUSE)

    async def post_aside(self, place: int, data: bytes, count: int = 1) -> set[str]:
        """Post this many events with the data, which are not in the ledger. Return their statuses."""
        async with self._http.post(
            self.urls[place],
            data=bulk_bytes(*(enveloped(data) for _ in range(count))),
            headers={"content-type": "application/json"},
            timeout=aiohttp.ClientTimeout(total=PATIENCE),
        ) as response:
            return {entry["status"] for entry in (await response.json())["statuses"]}

    async def post(self, place: int, batch: Sequence[Message], timeout: float) -> list[str]:  # noqa: ASYNC109
        """Return the status of each event; empty without a proper answer."""
        self.tally["requests"] += 1
        single = len(batch) == 1
        kind = "application/cloudevents+json" if single else "application/json"
        stamp = {"__timestamp": str(round((time.time() - self.waited) * 1_000))}
        async with self._http.post(
            self.urls[place],
            data=batch[0].body if single else bulk_bytes(*(message.body for message in batch), **stamp),
            headers={"content-type": kind} | (stamp if single else {}),
            timeout=aiohttp.ClientTimeout(total=timeout),
        ) as response:
            if response.status != 200:
                self.tally[f"requests answered {response.status}"] += 1
                return []
            answer = await response.json()
            return statuses([answer | {"entryId": "0"}] if single else answer["statuses"], batch)


class Partition:
    """Users whose events have one order, some busier than others. The seed repeats the content, but not the times."""

    def __init__(self, sidecars: Sidecars, users: Sequence[str], seed: str) -> None:
        self._sidecars = sidecars
        self._users = users
        self._weights = [1 / place for place, _ in enumerate(users, 1)]
        self._serials = dict.fromkeys(users, 0)
        self._dice = Random(seed)
        self._luck = Random(f"{seed} luck")  # a separate generator: the number of its calls depends on the faults
        self._place = self._luck.randrange(len(sidecars.urls))

    async def publish(self, rate: float) -> None:
        """Publish `rate` batches a second until the sidecars are stopped."""
        async with asyncio.TaskGroup() as tasks:
            while not self._sidecars.stopped:
                if self._sidecars.paused:
                    await asyncio.sleep(_PAUSE)
                    continue
                batch = [self._next() for _ in range(self._dice.choice([1, 1, 1, 2, 5, 20]))]
                await self._deliver(batch)
                if not self._sidecars.calm and self._luck.random() < FORGETFUL:
                    self._sidecars.careless += 1
                    tasks.create_task(self._forget(batch))
                await asyncio.sleep(self._dice.expovariate(rate))

    def _next(self) -> Message:
        [user] = self._dice.choices(self._users, self._weights)
        self._serials[user] += 1
        mark = {"run": "", "user": user, "n": self._serials[user]}
        data = {"user_id": user, "verify": mark, "title": self._dice.choice(_TITLES)}
        data["padding"] = "x" * self._dice.randrange(300)
        separators = self._dice.choice([(",", ":"), (", ", ": "), (" ,\t", " :\n")])
        text = json.dumps(data, ensure_ascii=self._dice.random() < 0.5, separators=separators)
        return Message(user, self._serials[user], text.encode())

    async def _deliver(self, batch: Sequence[Message]) -> None:
        """Deliver a batch until all of it has SUCCESS."""
        while not await self._attempt(batch):
            self._sidecars.tally["events redelivered"] += len(batch)
            await asyncio.sleep(_PAUSE)
            if len(batch) > 1 and self._luck.random() < RECUT:
                cut = self._luck.randrange(1, len(batch))
                await self._deliver(batch[:cut])
                batch = batch[cut:]

    async def _attempt(self, batch: Sequence[Message]) -> bool:
        """Return whether all of it had SUCCESS."""
        impatient = not self._sidecars.calm and self._luck.random() < IMPATIENT
        timeout = self._luck.uniform(0.001, 0.1) if impatient else PATIENCE
        found = await self._post(batch, timeout)
        if self._luck.random() < (REBALANCED if found else 0.5):
            self._place = self._luck.randrange(len(self._sidecars.urls))
        return all(status == "SUCCESS" for status in found) and bool(found)

    async def _post(self, batch: Sequence[Message], timeout: float) -> list[str]:  # noqa: ASYNC109
        """Post a batch and note the result in the ledger, even after an error."""
        ledger, found = self._sidecars.ledger, list[str]()
        for message in batch:
            ledger.sending(*message, time.monotonic())
        try:
            found = await self._sidecars.post(self._place, batch, timeout)
        except TimeoutError:
            self._sidecars.tally["requests without an answer in time"] += 1
        except (aiohttp.ClientError, OSError):
            self._sidecars.tally["requests on a broken connection"] += 1
        finally:
            now = time.monotonic()
            for message, status in itertools.zip_longest(batch, found):
                ledger.answered(message.user, message.serial, now, success=status == "SUCCESS")
        self._sidecars.tally["events answered RETRY"] += found.count("RETRY")
        return found

    async def _forget(self, batch: Sequence[Message]) -> None:
        """Deliver it again a little later, to any bridge."""
        try:
            await asyncio.sleep(self._luck.uniform(0, _FORGOTTEN))
            if not self._sidecars.calm:
                self._place = self._luck.randrange(len(self._sidecars.urls))
                self._sidecars.tally["events sent again after SUCCESS"] += len(batch)
                await self._post(batch, PATIENCE)
        finally:
            self._sidecars.careless -= 1


def statuses(entries: Sequence[dict[str, Any]], batch: Sequence[Message]) -> list[str]:
    """The status of each event of the batch, as Dapr reads the answer.

    A missing or unknown status fails the whole batch.
    """
    found = {entry["entryId"]: entry["status"] for entry in entries}
    if len(entries) != len(batch) or found.keys() != {str(place) for place in range(len(batch))}:
        raise Broken(f"a bulk of {len(batch)} was answered for the entries {[entry['entryId'] for entry in entries]}")
    retried = set()
    for place, message in enumerate(batch):
        status = found[str(place)]
        if status not in ("SUCCESS", "RETRY"):
            raise Broken(f"event {message.serial} of {message.user} was answered {status}")
        if status == "SUCCESS" and message.user in retried:
            raise Broken(
                f"event {message.serial} of {message.user} was answered SUCCESS after one with RETRY before it"
            )
        if status == "RETRY":
            retried.add(message.user)
    return [found[str(place)] for place in range(len(batch))]
