"""The questions of other replicas, by their kind."""

import msgspec
import pytest

from tests.support.running import Running
from wsbridge.telemetry.stations.account import Account
from wsbridge.web.answers import answer
from wsbridge.web.console.numbers import Numbers
from wsbridge.web.console.replica import Look, Replica, Report
from wsbridge.web.event import Why
from wsbridge.web.users import End


async def test_answers_are_of_the_kind_of_the_question(bridge: Running) -> None:
    b = bridge.bridge
    replica = Replica("r1", Numbers(b.registry, b.bus, b.backlog, b.metrics, b.checks, b.admission), b.registry, b.tail)

    async def asked(question: Why | End | Look) -> bytes:
        return await answer(b.stations, b.registry, replica, msgspec.msgpack.encode(question))

    assert msgspec.msgpack.decode(await asked(Why("u1", "e1")), type=Account).replica == b.stations.replica
    assert msgspec.msgpack.decode(await asked(End("u1", "s1")), type=int) == 0
    assert msgspec.msgpack.decode(await asked(Look("c", ["numbers"])), type=Report).replica == "r1"
    with pytest.raises(msgspec.DecodeError):
        await answer(b.stations, b.registry, replica, b"\x00")
