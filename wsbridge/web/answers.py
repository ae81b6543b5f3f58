"""The answers of this replica to the questions of all replicas."""

import msgspec

from wsbridge.sessions.registry import Registry
from wsbridge.telemetry.stations.ring import Stations
from wsbridge.web import event, users
from wsbridge.web.console.replica import Look, Replica

_question = msgspec.msgpack.Decoder(event.Why | users.End | Look)


async def answer(stations: Stations, registry: Registry, replica: Replica, question: bytes) -> bytes:
    asked = _question.decode(question)
    match asked:
        case event.Why():
            return await event.answer(stations, registry, asked)
        case users.End():
            return await users.answer(registry, asked)
    return await replica.answer(asked)
