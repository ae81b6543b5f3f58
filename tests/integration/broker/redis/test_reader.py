"""Reading histories from a real server, in portions. test_base.py covers the answers of `resume`."""

from pathlib import Path

import pytest

from tests.support.bench import event, on_redis
from tests.support.valkey import Valkey
from wsbridge.core.events import Position
from wsbridge.core.recovery import Gap

LARGE = '{"x":"%s"}' % ("x" * 40_000)


async def test_reader_takes_no_more_than_a_portion_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsbridge.broker.redis.reader.LOADED", 100_000)
    async with Valkey(tmp_path) as valkey, on_redis(valkey.url) as bench:
        await bench.take(*(event(data=LARGE) for _ in range(5)))
        epoch = (await bench.top("u")).epoch
        first = await bench.resume("u", f"{epoch}:0")
        assert (len(first.entries), first.rest) == (2, 3)
        assert len((await bench.resume_all("u", f"{epoch}:0")).entries) == 5


async def test_reader_of_data_that_the_server_has_lost_answers_a_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wsbridge.broker.redis.bodies.CACHE", 0)
    async with Valkey(tmp_path) as valkey, on_redis(valkey.url, prefix="p") as bench:
        await bench.take(event(data=LARGE))
        for key in await valkey.ask("KEYS", "p:b:*"):
            await valkey.ask("DEL", key.decode())
        epoch = (await bench.top("u")).epoch
        assert (await bench.resume("u", f"{epoch}:0")).gap == Gap(Position(epoch, 0), "expired")
