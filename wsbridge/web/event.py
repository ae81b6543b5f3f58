"""The route that explains why an event has reached a user's connections or not."""

import contextlib
import time

import msgspec
from aiohttp import web

from wsbridge.broker.base import Broker, BrokerUnavailable
from wsbridge.core.event_ids import shortened
from wsbridge.sessions.registry import Registry
from wsbridge.sessions.session import Session
from wsbridge.sessions.state import State
from wsbridge.sessions.stations import described
from wsbridge.telemetry.stations.account import Account, Connection, collect
from wsbridge.telemetry.stations.ring import Stations
from wsbridge.telemetry.stations.timeline import timeline
from wsbridge.telemetry.stations.verdict import Case, judge
from wsbridge.web.all_replicas import AllReplicas
from wsbridge.web.parameters import asked_for


class Why(msgspec.Struct, tag="why"):
    """Asks a replica for its records about an event of a user."""

    user: str
    event_id: str


_account = msgspec.msgpack.Decoder(Account)


class EventHandler:
    """`GET /user/events` and `GET /users/{user_id}/events/{event_id}`."""

    def __init__(self, broker: Broker, replicas: AllReplicas, ttl: float) -> None:
        """`ttl` is as in `Case`."""
        self._broker = broker
        self._replicas = replicas
        self._ttl = ttl

    async def why(self, request: web.Request) -> web.Response:
        user, event_id = asked_for(request, "user_id"), shortened(asked_for(request, "event_id"))
        answers = await self._replicas.ask(msgspec.msgpack.encode(Why(user, event_id)))
        accounts = [_account.decode(found) for found in answers.found]
        case = Case(user, event_id, accounts, None, time.time(), answers.text)
        with contextlib.suppress(BrokerUnavailable):
            kept, top = await self._broker.find(user, event_id), await self._broker.position(user)
            case = case._replace(kept=kept, top=top, ttl=self._ttl)
        verdict = judge(case)
        body = {
            "user_id": user,
            "event_id": event_id,
            "code": verdict.code,
            "answer": verdict.text,
            "replicas": [account.replica for account in accounts],
            "stations": timeline(accounts, case.kept),
        }
        return web.Response(body=msgspec.json.encode(body), content_type="application/json")


async def answer(stations: Stations, registry: Registry, question: Why) -> bytes:
    """The records of this replica, and the present state of the user's sessions on it."""
    connections = [_connection(session) for session in registry.of(question.user)]
    return msgspec.msgpack.encode(await collect(stations, question.user, question.event_id, connections))


def _connection(session: Session) -> Connection:
    _, name, transport, opened_at = described(session)
    return Connection(
        name, transport, opened_at, session.position, session.unsent(), is_live=session.state is State.LIVE,
        handled=session.handled,
    )  # fmt: skip
