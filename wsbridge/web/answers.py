"""The answers of this replica to the questions of all replicas."""

import msgspec

from wsbridge.sessions.registry import Registry
from wsbridge.telemetry.stations.ring import Stations
from wsbridge.web import event
from wsbridge.web.console.replica import Look, Replica

_question = msgspec.msgpack.Decoder(event.Why | Look)


async def answer(stations: Stations, registry: Registry, replica: Replica, question: bytes) -> bytes:
    asked = _question.decode(question)
    return await (event.answer(stations, registry, asked) if isinstance(asked, event.Why) else replica.answer(asked))
