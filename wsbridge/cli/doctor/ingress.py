"""Checks through the ingress, as a client: WebSocket, stream, idle connections, origin, closed routes."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode, urlsplit

import aiohttp
from aiohttp import hdrs

from wsbridge.cli.doctor.deployment import MOST_BYTES, TIMEOUT, Deployment
from wsbridge.cli.doctor.findings import Finding, NotChecked, failure, ok
from wsbridge.cli.http import Unreachable, why_unreachable
from wsbridge.core.close_codes import LOST, NO_STATUS, ORIGIN_FORBIDDEN
from wsbridge.transports.sse import COMMENT_INTERVAL

USER = "wsbridge-doctor"
PROXY = "docs/replicas.md#in-front-of-it"
UPGRADE = f"let it pass on Upgrade and Connection, with HTTP/1.1 ({PROXY})"
EVENT_STREAM = "text/event-stream"
GUARDED = ("/stats", "/metrics", "/dapr/subscribe")

_PROXIES = (LOST.code, NO_STATUS.code, aiohttp.WSCloseCode.GOING_AWAY)  # codes of a close that the bridge has not made


def _public(d: Deployment, path: str) -> str:
    """The URL of a route for a client. A token in the header names the user."""
    if d.public_url is None:
        raise NotChecked("--public-url needs the URL that browsers use")
    return d.public_url.rstrip("/") + path + ("" if d.token else f"?{urlencode({'user_id': USER})}")


def _headers(d: Deployment) -> dict[str, str]:
    return {hdrs.AUTHORIZATION: f"Bearer {d.token}"} if d.token else {}


def _open(d: Deployment, origin: str | None = None) -> Any:
    return d.http.ws_connect(_public(d, "/ws"), headers=_headers(d), origin=origin, timeout=_CLOSE)


_CLOSE = aiohttp.ClientWSTimeout(ws_close=1.0)  # seconds for the server's part of a close


async def _first(ws: aiohttp.ClientWebSocketResponse) -> str:
    """The type of the first message, or the close code and reason if the bridge refuses the session."""
    kind = "goodbye"
    while kind == "goodbye":  # a close follows
        message = await ws.receive(TIMEOUT)
        if message.type is not aiohttp.WSMsgType.TEXT:
            return f"{ws.close_code or 1006} {message.extra or ''}".rstrip()
        kind = str(json.loads(message.data)["type"])
    return kind


async def websocket(d: Deployment) -> Finding:
    """Whether a WebSocket opens through the ingress."""
    try:
        async with _open(d) as ws:
            first = await _first(ws)
    except aiohttp.WSServerHandshakeError as error:
        return failure(f"the ingress does not open a WebSocket: it answers {error.status}", UPGRADE)
    except TimeoutError:
        return failure(f"the WebSocket opened, but got no message within {TIMEOUT:g} s", UPGRADE)
    except (aiohttp.ClientError, OSError) as error:
        return failure(f"no WebSocket at {d.public_url}: {why_unreachable(error, TIMEOUT)}", "check --public-url")
    if first == "connected":
        return ok("a WebSocket opens through the ingress")
    if first.startswith("4401") and not d.token:
        return ok("a WebSocket opens through the ingress; a session needs --token")
    cure = "see auth.failed in the bridge's log" if first.startswith("4401") else "see docs/protocol.md for the code"
    return failure(f"the bridge closed the WebSocket with {first}", cure)


async def _chunks(d: Deployment) -> AsyncIterator[bytes]:
    """Open a stream, and yield what arrives. Raises `NotChecked` if the bridge requires a token."""
    headers = {hdrs.ACCEPT: EVENT_STREAM} | _headers(d)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT)
    async with d.http.get(_public(d, "/sse"), headers=headers, timeout=timeout) as response:
        if response.status == HTTPStatus.UNAUTHORIZED:
            raise NotChecked("the bridge requires a token: --token")
        response.raise_for_status()
        if response.content_type != EVENT_STREAM:  # a page of the application, for example
            kind, status = response.content_type, response.status
            raise aiohttp.ContentTypeError(response.request_info, (), status=status, message=kind)
        async for chunk in response.content.iter_any():
            yield chunk


async def stream(d: Deployment) -> Finding:
    """Whether the bridge's comments in a stream arrive: not if the ingress buffers responses.

    The first message alone proves nothing: a proxy may pass it on with the header, and buffer what follows.
    """
    wait = min(d.settings.ping_interval, COMMENT_INTERVAL) + TIMEOUT
    received = b""
    try:
        async with asyncio.timeout(wait):
            async for chunk in _chunks(d):
                received = (received + chunk)[-MOST_BYTES:]
                if b"\n:" in received:
                    return ok("a stream arrives unbuffered through the ingress")
        return failure("the ingress ended the stream", PROXY)
    except TimeoutError:
        text = f"a stream got no comment of the bridge within {wait:g} s: the ingress buffers responses"
        return failure(text, f"let it respect X-Accel-Buffering, or turn buffering off for /sse ({PROXY})")
    except aiohttp.ClientResponseError as error:
        return failure(
            f"/sse answers {error.status} ({error.message}) through the ingress",
            f"pass on /sse to the bridge ({PROXY})",
        )
    except (aiohttp.ClientError, OSError) as error:
        return failure(f"no stream at {d.public_url}: {why_unreachable(error, TIMEOUT)}", "check --public-url")


async def idle_websocket(d: Deployment) -> Finding:
    """Whether the ingress keeps a WebSocket without events."""
    started = time.monotonic()
    try:
        async with asyncio.timeout(d.idle), _open(d) as ws:
            first = await _first(ws)
            if first != "connected":
                raise NotChecked(f"a session needs --token ({first})")
            async for _ in ws:  # events of the user
                pass
            code = ws.close_code or LOST.code
    except TimeoutError:
        return ok(f"a WebSocket without events lasted {d.idle:g} s")
    except (aiohttp.ClientError, OSError):
        raise NotChecked("no WebSocket opens") from None
    if code in _PROXIES:
        return _cut("a WebSocket", started)
    raise NotChecked(f"the bridge closed the WebSocket with {code}")


async def idle_stream(d: Deployment) -> Finding:
    """Whether the ingress keeps a stream without events."""
    started, chunk = time.monotonic(), b""
    try:
        async with asyncio.timeout(d.idle):
            async for chunk in _chunks(d):  # noqa: B007 - the last one is needed
                pass
    except TimeoutError:
        return ok(f"a stream without events lasted {d.idle:g} s")
    except aiohttp.ClientPayloadError:
        pass
    except (aiohttp.ClientError, OSError):
        raise NotChecked("no stream opens") from None
    if b"event: goodbye" in chunk:
        raise NotChecked("the bridge closed the stream")
    return _cut("a stream", started)


def _cut(what: str, started: float) -> Finding:
    text = f"{what} without events was cut after {time.monotonic() - started:.0f} s"
    return failure(text, f"raise the ingress' idle time-out, and remove its limit of a request's duration ({PROXY})")


async def origin(d: Deployment) -> Finding:
    """Whether a page may connect. The bridge compares its origin with `Host`, which some proxies replace."""
    public = urlsplit(_public(d, "/"))
    listed = next((o for o in d.settings.allowed_origins if "*" not in o and "://" in o), None)
    page = d.origin or listed or f"{public.scheme}://{public.netloc}"
    try:
        async with _open(d, page) as ws:
            first = await _first(ws)
    except (aiohttp.ClientError, OSError):  # a time-out is an OSError
        raise NotChecked("no WebSocket opens") from None
    if first.startswith(str(ORIGIN_FORBIDDEN.code)):
        cure = f"let the ingress keep Host, or add {page} to WSBRIDGE_ALLOWED_ORIGINS; for other pages use --origin"
        return failure(f"pages of {page} may not connect", cure)
    return ok(f"pages of {page} may connect")


async def guarded_routes(d: Deployment) -> Finding:
    """Whether the routes for operators, Prometheus and the sidecar are closed to the public.

    A page is not the bridge's answer: many applications serve one at every path.
    """
    if d.public_url == d.url:
        raise NotChecked("--public-url names the bridge itself, not an ingress")
    opened = []
    for path in GUARDED:
        try:
            answer = await d.send(_public(d, path), "HEAD")
        except Unreachable:
            raise NotChecked("the ingress does not answer") from None
        if answer.status == HTTPStatus.OK and "html" not in answer.headers.get(hdrs.CONTENT_TYPE, ""):
            opened.append(path)
    if opened:
        cure = "set WSBRIDGE_INTERNAL_PORT and the tokens, and pass on only /ws, /sse and /client.js"
        return failure(f"everybody can call {', '.join(opened)} through the ingress", cure)
    return ok(f"{', '.join(GUARDED)} are closed to the public")
