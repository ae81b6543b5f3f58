"""Receipts on a real server: what is left there. The contract is in the folder above."""

import pytest
from redis.asyncio import Redis

from tests.support.valkey import Valkey
from wsbridge.broker.base import BrokerUnavailable
from wsbridge.broker.redis.pipeline import Pipeline
from wsbridge.broker.redis.receipts import SHARDS, RedisReceipts
from wsbridge.broker.redis.topology import create_server
from wsbridge.config.redis_url import parse
from wsbridge.core.events import Position
from wsbridge.core.receipts import LONGEST, Awaited, Reached

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("right", ["zcard", "zrangebyscore", "zscore"])
async def test_receipts_without_a_right_change_nothing(valkey: Valkey, right: str) -> None:
    server = create_server(parse(valkey.url))
    pipeline = Pipeline(server)
    now = [1_000]
    store = RedisReceipts(pipeline=pipeline, prefix=right, known_ttl=60_000, now=lambda: now[0])
    one = Awaited("a", "u1", Position("e", 1), "", "", "t", 1.0, 0.0)
    try:
        await store.due()
        await valkey.ask("ACL", "SETUSER", "default", f"-{right}")
        with pytest.raises(BrokerUnavailable, match="has no permissions"):
            await (store.due() if right == "zrangebyscore" else store.expect([one]))
        await valkey.ask("ACL", "SETUSER", "default", f"+{right}")
        assert await valkey.ask("KEYS", f"{right}:*") == []
    finally:
        await valkey.ask("ACL", "SETUSER", "default", f"+{right}")
        await pipeline.close()
        await server.close()


async def test_keys_of_receipts_expire_or_vanish_with_them(valkey: Valkey) -> None:
    server = create_server(parse(valkey.url))
    pipeline = Pipeline(server)
    store = RedisReceipts(pipeline=pipeline, prefix="kept", known_ttl=60_000, now=lambda: "")
    receipts = [Awaited(str(n), f"u{n}", Position("e", 1), "", "", "t", 1.0, 0.0) for n in range(200)]
    try:
        await store.expect(receipts)
        await store.note({one.user: Reached("e", 1, 1) for one in receipts})
        client: Redis = valkey.client()
        keys = [key.decode() async for key in client.scan_iter("kept:*")]
        lifetimes = {key: await client.pttl(key) for key in keys if not key.endswith(":due")}
        assert len({key.partition("}")[0] for key in keys}) == SHARDS
        assert all(0 < ms <= (60_000 if key.endswith(":known") else (LONGEST + 600) * 1000)
                   for key, ms in lifetimes.items())  # fmt: skip
        await store.done(receipts)
        assert not [key async for key in client.scan_iter("kept:*:due")]
    finally:
        await pipeline.close()
        await server.close()
