"""A client of `wsbridge verify` with a real bridge: what it notes of each connection."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from tests.support.running import Running, until
from tests.support.verify_record import Told
from wsbridge.cli.verify.follower import Follower
from wsbridge.cli.verify.record import Record
from wsbridge.client import Client
from wsbridge.core.close_codes import FORCE_DISCONNECT, INTERNAL


@contextlib.asynccontextmanager
async def following(bridge: Running, record: Record) -> AsyncIterator[Follower]:
    follower = Follower(Client(f"{bridge.url}/ws", "u1", new_delays=lambda: iter([0.001] * 9)), record)
    task = asyncio.create_task(follower.follow())
    try:
        await until(lambda: follower.track.connected)
        yield follower
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def publish(bridge: Running, record: Record, serial: int) -> None:
    data = b'{"user_id":"u1","verify":{"n":%d,"run":"r","user":"u1"}}' % serial
    record.ledger.sending("u1", serial, data, record.now())
    await bridge.publish({"user_id": "u1", "verify": {"n": serial, "run": "r", "user": "u1"}})
    record.ledger.answered("u1", serial, record.now(), success=True)


async def test_follower_notes_arrivals_and_the_time_without_a_connection(bridge: Running) -> None:
    record = Told().record
    async with following(bridge, record) as follower:
        await publish(bridge, record, 1)
        await until(lambda: len(record.latencies) == 1)
        for session in bridge.bridge.registry.of("u1"):
            session.end(INTERNAL)
        await until(lambda: follower.track.dark)
        await publish(bridge, record, 2)
        await until(lambda: len(record.latencies) == 2)
    assert record.flaws == {}
    assert (len(record.after), follower.track.lost) == (2, 0)
    (cut,) = follower.track.cuts
    assert (cut.close, cut.expected) == (INTERNAL, False)
    assert follower.track.dark_ms > 0


async def test_follower_that_is_sent_away_notes_the_reason(bridge: Running) -> None:
    record = Told().record
    async with following(bridge, record) as follower:
        for session in bridge.bridge.registry.of("u1"):
            session.end(FORCE_DISCONNECT)
        await until(lambda: follower.track.ended)
        follower.finish(follower.track.cuts[0].at + 1)
    assert follower.track.ended.startswith("4509 force_disconnect")
    assert follower.track.dark_ms == 1000
