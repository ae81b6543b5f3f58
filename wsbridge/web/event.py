"""The route that explains why an event has reached a user's connections or not."""

import time
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from wsbridge.broker.base import Broker, BrokerUnavailable, Poll
from wsbridge.core.events import Position
from wsbridge.sessions.registry import REGISTRY, Registry
from wsbridge.sessions.session import Session
from wsbridge.sessions.state import State
from wsbridge.sessions.stations import described
from wsbridge.telemetry.stations.account import Account, Connection, collect
from wsbridge.telemetry.stations.ring import Stations
from wsbridge.telemetry.stations.timeline import timeline
from wsbridge.telemetry.stations.verdict import Case, judge

Poller = Callable[[bytes], Awaitable[Poll]]


class _Question(msgspec.Struct):
    user: str
    event_id: str


_question, _account = msgspec.msgpack.Decoder(_Question), msgspec.msgpack.Decoder(Account)


class EventHandler:
    """`GET /users/{user_id}/events/{event_id}`."""

    def __init__(self, broker: Broker, stations: Stations, poll: Poller | None) -> None:
        """`poll` asks all replicas, this one included; None if this is the only one."""
        self._broker = broker
        self._stations = stations
        self._poll = poll

    async def why(self, request: web.Request) -> web.Response:
        user, event_id = request.match_info["user_id"], request.match_info["event_id"]
        accounts, missing = await self._accounts(request, _Question(user, event_id))
        kept = await self._kept(user, event_id)
        verdict = judge(Case(user, event_id, accounts, kept, time.time(), missing))
        body = {
            "user_id": user,
            "event_id": event_id,
            "code": verdict.code,
            "answer": verdict.text,
            "replicas": [account.replica for account in accounts],
            "stations": timeline(accounts, kept),
        }
        return web.Response(body=msgspec.json.encode(body), content_type="application/json")

    async def _accounts(self, request: web.Request, question: _Question) -> tuple[list[Account], str]:
        """The accounts of the replicas, and a text about the missing ones."""
        if self._poll is not None:
            try:
                poll = await self._poll(msgspec.msgpack.encode(question))
            except BrokerUnavailable as unavailable:
                missing = f"the other replicas could not be asked: {unavailable}"
            else:
                silent = poll.asked - len(poll.answers)
                accounts = [_account.decode(found) for found in poll.answers]
                if accounts:
                    return accounts, f"{silent} of {poll.asked} replicas did not answer" if silent > 0 else ""
                missing = "the other replicas did not answer"
        else:
            missing = ""
        return [await _account_of(self._stations, request.app[REGISTRY], question)], missing

    async def _kept(self, user: str, event_id: str) -> Position | None:
        try:
            return await self._broker.find(user, event_id)
        except BrokerUnavailable:
            return None


async def answer(stations: Stations, registry: Registry, question: bytes) -> bytes:
    """Answer the question of a replica."""
    return msgspec.msgpack.encode(await _account_of(stations, registry, _question.decode(question)))


async def _account_of(stations: Stations, registry: Registry, question: _Question) -> Account:
    """The records of this replica, and the present state of the user's sessions on it."""
    connections = [_connection(session) for session in registry.of(question.user)]
    return await collect(stations, question.user, question.event_id, connections)


def _connection(session: Session) -> Connection:
    _, name, transport, opened_at = described(session)
    return Connection(
        name, transport, opened_at, session.position, session.unsent(), is_live=session.state is State.LIVE
    )
