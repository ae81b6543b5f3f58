"""The answers of this replica to the questions of all replicas."""

from collections.abc import Collection, Mapping, Sequence

import msgspec

from wsbridge.core.receipts import Reached
from wsbridge.sessions.registry import Registry
from wsbridge.sessions.reports import Reports
from wsbridge.telemetry.stations.ring import Stations
from wsbridge.web import event, users
from wsbridge.web.all_replicas import AllReplicas
from wsbridge.web.console.replica import Look, Replica


class Reach(msgspec.Struct, tag="reach"):
    """Asks a replica how far the connections of users have got."""

    users: list[str]


_question = msgspec.msgpack.Decoder(event.Why | users.End | Look | Reach)
_reached = msgspec.msgpack.Decoder(dict[str, list[Reached]])


async def answer(stations: Stations, registry: Registry, replica: Replica, reports: Reports, question: bytes) -> bytes:
    asked = _question.decode(question)
    match asked:
        case event.Why():
            return await event.answer(stations, registry, asked)
        case users.End():
            return await users.answer(registry, asked)
        case Reach():
            return msgspec.msgpack.encode(reports.reached(asked.users))
    return await replica.answer(asked)


async def ask_reached(replicas: AllReplicas, names: Collection[str]) -> Mapping[str, Sequence[Reached]]:
    """How far the connections of the users with these names have got, on all replicas that answer."""
    found: dict[str, list[Reached]] = {}
    for one in (await replicas.ask(msgspec.msgpack.encode(Reach(list(names))))).found:
        for user, reached in _reached.decode(one).items():
            found.setdefault(user, []).extend(reached)
    return found
