"""The questions of other replicas, by their kind."""

import msgspec
import pytest

from tests.support.running import Running
from wsbridge.core.receipts import Reached
from wsbridge.telemetry.stations.account import Account
from wsbridge.web.answers import Reach, answer
from wsbridge.web.console.numbers import Numbers
from wsbridge.web.console.replica import Look, Replica, Report
from wsbridge.web.event import Why
from wsbridge.web.users import End


async def test_answers_are_of_the_kind_of_the_question(bridge: Running) -> None:
    b = bridge.bridge
    replica = Replica(
        "r1", Numbers(b.registry, b.bus, b.slow_consumers, b.metrics, b.checks, b.admission), b.registry, b.tail
    )

    async def asked(question: Why | End | Look | Reach) -> bytes:
        return await answer(b.stations, b.registry, replica, b.reports, msgspec.msgpack.encode(question))

    assert msgspec.msgpack.decode(await asked(Why("u1", "e1")), type=Account).replica == b.stations.replica
    assert msgspec.msgpack.decode(await asked(End("u1", "s1")), type=int) == 0
    assert msgspec.msgpack.decode(await asked(Look("c", ["numbers"])), type=Report).replica == "r1"
    await bridge.opened("u1")
    (reached,) = msgspec.msgpack.decode(await asked(Reach(["u1", "u2"])), type=dict[str, list[Reached]])["u1"]
    assert (reached.written, reached.handled) == (0, 0)
    with pytest.raises(msgspec.DecodeError):
        await answer(b.stations, b.registry, replica, b.reports, b"\x00")
