"""The events of a siege."""

import asyncio
import json
import time
from collections import Counter

from tests.siege.bridge import Bridge
from tests.siege.plan import Plan
from tests.support.deliveries import enveloped

BULK, BULKS = 50, 10.0  # events in a delivery, deliveries a second
LARGE, LARGES = 50_000, 2.0  # bytes of an event for the peers that never read, and such events a second


class Publisher:
    """Publishes events for good clients, each user's in order, and large ones for the peers that never read."""

    def __init__(self, bridge: Bridge, plan: Plan) -> None:
        self.published: Counter[str] = Counter()
        self._bridge = bridge
        self._plan = plan
        self._next = 0
        self.stopped = False

    async def small(self) -> None:
        started, bulks = time.monotonic(), 0
        while not self.stopped:
            await self._bridge.post(*(self._event() for _ in range(BULK)))
            bulks += 1
            await asyncio.sleep(max(0.0, started + bulks / BULKS - time.monotonic()))

    async def large(self) -> None:
        users = [f"unread-{number}" for number in range(self._plan.bad.get("unread", 0))]
        serial = 0
        while users and not self.stopped:
            serial += 1
            data = json.dumps({"user_id": users, "text": "x" * LARGE}).encode()
            await self._bridge.post(enveloped(data, id=f"large-{serial}", source="siege"))
            await asyncio.sleep(1 / LARGES)  # the rate: LARGES large events a second

    def _event(self) -> bytes:
        user = f"good-{self._next % self._plan.good}"
        self._next += 1
        self.published[user] += 1
        number = self.published[user]
        data = json.dumps({"user_id": user, "n": number, "sent": time.monotonic(), "text": "x" * 300}).encode()
        return enveloped(data, id=f"{user}-{number}", source="siege")
