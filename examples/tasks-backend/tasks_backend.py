"""A backend for trying wsbridge: `POST /api/tasks` publishes `task.created` through the Dapr sidecar beside it.

A task is acknowledged once Kafka has its event, not before. The backend stores it nowhere else.
"""

import os
import re
import secrets
import socket
import sys
import uuid
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import jwt
import msgspec
import structlog
from aiohttp import web

PUBSUB, TOPIC = "pubsub-kafka", "task-updates"
TIMEOUT = aiohttp.ClientTimeout(total=5)  # seconds; the sidecar answers when Kafka has acknowledged
SECRET_BYTES, MAX_USER_BYTES = 32, 256  # the same as in the bridge
MAX_BODY = 16_384  # bytes
_TRACEPARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class Task(msgspec.Struct, forbid_unknown_fields=True):
    """The body of a request."""

    title: Annotated[str, msgspec.Meta(min_length=1, max_length=500)]


class Backend:
    """The routes, and the connections to the sidecar at the URL `sidecar`, which may require `api_token`."""

    def __init__(self, secret: str, sidecar: str, api_token: str | None = None) -> None:
        self._secret = secret
        self._url = sidecar
        self._headers = {"dapr-api-token": api_token} if api_token else {}
        self._sidecar: aiohttp.ClientSession  # while it runs

    def application(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY, middlewares=[problems])
        app.add_routes([web.post("/api/tasks", self.create), web.get("/health", self.health)])
        app.cleanup_ctx.append(self._run)
        return app

    async def _run(self, _: web.Application) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(self._url, headers=self._headers, timeout=TIMEOUT) as self._sidecar:
            yield

    async def create(self, request: web.Request) -> web.Response:
        """201 with the event's data, once Kafka has it."""
        user = user_of(request.headers.get("Authorization", ""), self._secret)
        try:
            task = msgspec.json.decode(await request.read(), type=Task)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise web.HTTPBadRequest(text=f'Expected {{"title": "Buy milk"}}: {error}.') from None
        event = created(task, user, continued(request.headers.get("traceparent", "")))
        await self._publish(event, user)
        return web.Response(status=201, body=msgspec.json.encode(event["data"]), content_type="application/json")

    async def _publish(self, event: Mapping[str, Any], user: str) -> None:
        """Publish with the user as key: all events of a user are then in one partition, and so in order.

        Raises:
            HTTPServiceUnavailable: Kafka may not have the event.

        """
        line = {"topic": TOPIC, "event_id": event["id"], "user": user, "traceparent": event["traceparent"]}
        try:
            async with self._sidecar.post(
                f"/v1.0/publish/{PUBSUB}/{TOPIC}",
                params={"metadata.partitionKey": user},
                data=msgspec.json.encode(event),
                headers={"Content-Type": "application/cloudevents+json", "traceparent": event["traceparent"]},
            ) as answer:
                why = "" if answer.ok else f"{answer.status} {await answer.text()}"
        except (aiohttp.ClientError, TimeoutError) as error:
            why = str(error) or type(error).__name__
        if why:
            log.error("task.unpublished", why=why[:500], **line)
            raise web.HTTPServiceUnavailable(text="It may not be published. Try again.", headers={"Retry-After": "1"})
        log.info("task.published", **line)

    async def health(self, _: web.Request) -> web.Response:
        """200 if tasks can be created: the sidecar is running and has its components."""
        try:
            async with self._sidecar.get("/v1.0/healthz/outbound") as answer:
                answer.raise_for_status()
        except (aiohttp.ClientError, TimeoutError):
            raise web.HTTPServiceUnavailable(text="The Dapr sidecar is unavailable or not ready.") from None
        return web.json_response({"status": "healthy"})


def user_of(authorization: str, secret: str) -> str:
    """The token's user, verified like in the bridge and with the same secret.

    Raises:
        HTTPUnauthorized: the token is missing or invalid.

    """
    scheme, _, token = authorization.partition(" ")
    options: Any = {"require": ["exp", "sub"], "verify_aud": False, "verify_sub": False}  # integers are users too
    try:
        user = jwt.decode(token, secret, ["HS256", "HS384", "HS512"], options, leeway=10)["sub"]
        if scheme.lower() == "bearer" and type(user) in (str, int) and 0 < len(str(user).encode()) <= MAX_USER_BYTES:
            return str(user)
        why = "the token has no valid user"
    except Exception as error:  # untrusted input: any error of the parser means that it is not a token
        why = type(error).__name__
    log.warning("auth.failed", why=why)
    detail = "Send `Authorization: Bearer <a valid token>`."
    raise web.HTTPUnauthorized(text=f"{detail} ({why})", headers={"WWW-Authenticate": "Bearer"})


def created(task: Task, user: str, traceparent: str) -> dict[str, Any]:
    """A CloudEvent with the Distributed Tracing extension. Its id is in this log and in the bridge's."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    data = {"event_type": "task.created", "user_id": user, "task_id": uuid.uuid4().hex, "title": task.title}
    return {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "source": "tasks-backend",
        "type": "task.created",
        "time": now,
        "datacontenttype": "application/json",
        "traceparent": traceparent,
        "traceid": traceparent,  # Dapr's older name: without it the sidecar replaces both with its own
        "data": data | {"timestamp": now},
    }


def continued(traceparent: str) -> str:
    """The next step of the caller's trace, or the first step of a new trace (W3C Trace Context)."""
    known = _TRACEPARENT.fullmatch(traceparent)
    trace, flags = (traceparent[3:35], traceparent[-2:]) if known else (secrets.token_hex(16), "01")
    return f"00-{trace}-{secrets.token_hex(8)}-{flags}"


@web.middleware
async def problems(request: web.Request, handler: Any) -> web.StreamResponse:
    """Errors are problem documents (RFC 9457)."""
    try:
        response: web.StreamResponse = await handler(request)
    except web.HTTPException as error:
        body = {"type": "about:blank", "title": error.reason, "status": error.status, "detail": error.text}
        kept = {name: value for name, value in error.headers.items() if not name.startswith("Content-")}
        return web.json_response(body, status=error.status, headers=kept, content_type="application/problem+json")
    return response


def main(environ: Mapping[str, str]) -> None:
    file = environ.get("JWT_SECRET_FILE")  # the form in which Kubernetes mounts a Secret
    secret = Path(file).read_text(encoding="utf-8").rstrip("\n") if file else environ.get("JWT_SECRET", "")
    if len(secret.encode()) < SECRET_BYTES:
        sys.exit(f"JWT_SECRET or JWT_SECRET_FILE: expected a secret of {SECRET_BYTES} bytes or more")
    structlog.configure(
        [
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=lambda fields, **_: msgspec.json.encode(fields)),
        ],
        logger_factory=structlog.BytesLoggerFactory(),
    )
    sidecar = f"http://127.0.0.1:{environ.get('DAPR_HTTP_PORT', '3500')}"
    app = Backend(secret, sidecar, environ.get("DAPR_API_TOKEN")).application()
    listening = socket.create_server((environ.get("HOST", "127.0.0.1"), int(environ.get("PORT", "8000"))))
    log.info("server.started", port=listening.getsockname()[1], sidecar=sidecar)
    web.run_app(app, sock=listening, access_log=None, print=None)


if __name__ == "__main__":
    main(os.environ)
