"""Routes for operators about one user: the sessions, an event, and ending one session or all."""

from dataclasses import dataclass

import msgspec
from aiohttp import web

from wsbridge.auth.access import Caller, Handler
from wsbridge.broker.base import Broker, BrokerUnavailable
from wsbridge.connections.client_address import address_of
from wsbridge.core.timestamps import timestamp
from wsbridge.sessions.registry import REGISTRY, Registry
from wsbridge.sessions.session import Session
from wsbridge.sessions.stations import described
from wsbridge.telemetry.log import log
from wsbridge.web.all_replicas import AllReplicas
from wsbridge.web.event import EventHandler
from wsbridge.web.parameters import asked_for

_USER_ID = "{user_id:[^/]+}"  # any text, because aiohttp's default pattern excludes braces
_EVENT_ID = r"{event_id:[\s\S]+}"  # with slashes, as in topic/partition/offset


class End(msgspec.Struct, tag="end"):
    """Tells a replica to end one session of a user, if it has that session."""

    user: str
    session: str


def routes(broker: Broker, replicas: AllReplicas, ttl: float) -> list[tuple[str, str, Caller, Handler]]:
    """Each route in two forms. The query can name every user; URL parsers change a path with `..` or `%2e` in it.

    `ttl` is the seconds that Redis keeps events; 0 without Redis.
    """
    users, event = UsersHandler(broker, replicas), EventHandler(broker, replicas, ttl)
    return [
        ("GET", "/user", Caller.VIEWER, users.sessions),
        ("GET", "/user/events", Caller.VIEWER, event.why),
        ("POST", "/user/disconnect", Caller.OPERATOR, users.disconnect),
        ("GET", f"/users/{_USER_ID}", Caller.VIEWER, users.sessions),
        ("GET", f"/users/{_USER_ID}/events/{_EVENT_ID}", Caller.VIEWER, event.why),
        ("POST", f"/users/{_USER_ID}/disconnect", Caller.OPERATOR, users.disconnect),
    ]


@dataclass(eq=False)
class UsersHandler:
    broker: Broker
    replicas: AllReplicas

    async def sessions(self, request: web.Request) -> web.Response:
        """One user's sessions on this replica."""
        user = asked_for(request, "user_id")
        try:
            position = await self.broker.position(user)
        except BrokerUnavailable:
            position = None
        sessions = [_shown(session) for session in request.app[REGISTRY].of(user)]
        return _json({"user_id": user, "sessions": sessions, "last_event_id": position and str(position)})

    async def disconnect(self, request: web.Request) -> web.Response:
        """End all sessions of a user, or the one with the `session_id` in the query."""
        user = asked_for(request, "user_id")
        if "session_id" in request.query:
            return await self._end_one(request, user, asked_for(request, "session_id"))
        return await self._end_all(request, user)

    async def _end_one(self, request: web.Request, user: str, session: str) -> web.Response:
        """End a session on whichever replica has it. 404 if none has; 503 if a replica that may have it is silent."""
        answers = await self.replicas.ask(msgspec.msgpack.encode(End(user, session)))
        count = sum(msgspec.msgpack.decode(found, type=int) for found in answers.found)
        log.info("user.disconnected", user=user, session=session, sessions=count, peer=address_of(request))
        if count:
            return _json({"user_id": user, "session_id": session, "disconnected": count}, status=202)
        if answers.text:
            raise web.HTTPServiceUnavailable(text=f"This connection was not found, but {answers.text}. Try again.")
        raise web.HTTPNotFound(text="The user does not have this connection, or not any more.")

    async def _end_all(self, request: web.Request, user: str) -> web.Response:
        """End them first here, then on the other replicas. 503 if the broker is unavailable."""
        count = request.app[REGISTRY].disconnect(user)
        log.info("user.disconnected", user=user, sessions=count, peer=address_of(request))
        try:
            await self.broker.disconnect(user)
        except BrokerUnavailable as unavailable:
            text = f"Closed {count} sessions on this replica, but could not reach the others: {unavailable}. Try again."
            raise web.HTTPServiceUnavailable(text=text) from None
        return _json({"user_id": user, "disconnected": count}, status=202)


async def answer(registry: Registry, question: End) -> bytes:
    """The number of sessions that this replica has ended."""
    return msgspec.msgpack.encode(registry.disconnect(question.user, question.session))


def _shown(session: Session) -> dict[str, object]:
    return {
        "session_id": session.id,
        "transport": session.connection.transport_name,
        "since": timestamp(described(session).opened_at),
        "address": session.peer,
        "user_agent": session.agent,
        "last_event_id": str(session.position),
        "handled": session.handled and str(session.handled),
        "unsent_bytes": session.unsent(),
    }


def _json(body: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=msgspec.json.encode(body), content_type="application/json")
