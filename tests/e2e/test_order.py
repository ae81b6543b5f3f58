"""Many events of many users over all partitions: each tab gets each event of its user once and in order."""

import asyncio
import re

import msgspec

from tests.e2e.chain import WITH_REDIS, App, Chain, Start
from tests.support.valkey import Valkey

USERS = [f"user-{number}" for number in range(500)]
TABS = 2  # of each user
EVENTS = 100  # of each user
TIMEOUT = 120.0  # seconds


class Data(msgspec.Struct):
    user_id: str
    n: int


class Message(msgspec.Struct):
    type: str
    id: str
    event: Data


async def read(chain: Chain, user: str, ready: asyncio.Barrier) -> list[Message]:
    """All messages of a tab up to the last event of its user."""
    async with chain.http.ws_connect(f"{chain.proxy.url}/ws", params={"user_id": user}) as ws:
        assert (await ws.receive_json())["type"] == "connected"
        await ready.wait()
        messages: list[Message] = []
        while not messages or messages[-1].event.n != EVENTS:
            messages.append(msgspec.json.decode(await ws.receive_str(), type=Message))
        return messages


async def publish(chain: Chain) -> None:
    """Publish round by round, so that the users' events are mixed as in a busy topic. A request has two rounds."""
    for start in range(1, EVENTS, 2):
        bulk = [(user, {"user_id": user, "n": n}) for n in (start, start + 1) for user in USERS]
        await chain.publisher.publish_bulk(bulk)


async def delivered(bridge: App) -> int:
    """The number of events that were written to sockets, including those that are closed now."""
    _, text = await bridge.internal.get("/metrics")
    [found] = re.findall(r"^wsbridge_deliveries_total (\S+)$", text, re.MULTILINE)
    return int(float(found))


async def test_chain_delivers_fifty_thousand_events_to_a_thousand_tabs_in_order(chained: Start, redis: Valkey) -> None:
    chain = await chained(WITH_REDIS, replicas=2, REDIS_URL=redis.url, LOG_LEVEL="info")
    before = await chain.kafka.ends()
    ready = asyncio.Barrier(len(USERS) * TABS + 1)
    async with asyncio.timeout(TIMEOUT), asyncio.TaskGroup() as tasks:
        tabs = [(user, tasks.create_task(read(chain, user, ready))) for user in USERS * TABS]
        await ready.wait()
        await publish(chain)
    for user, tab in tabs:
        messages = tab.result()
        assert {message.type for message in messages} == {"task_update"}
        assert [message.event for message in messages] == [Data(user, n) for n in range(1, EVENTS + 1)]
        first = int(messages[0].id.split(":")[1])
        assert [message.id.split(":")[1] for message in messages] == [str(first + n) for n in range(EVENTS)]
    shares = [after - start for start, after in zip(before, await chain.kafka.ends(), strict=True)]
    assert sum(shares) == len(USERS) * EVENTS
    assert min(shares) > 0.2 * len(USERS) * EVENTS
    assert sum([await delivered(bridge) for bridge in chain.bridges]) == len(USERS) * TABS * EVENTS
