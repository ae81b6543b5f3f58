"""Checks through the ingress, as a client: WebSocket, histories, origin, closed routes. `streams` has those of SSE."""

import asyncio
import json
import time
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode, urlsplit

import aiohttp
from aiohttp import hdrs

from wsbridge.cli.doctor.deployment import TIMEOUT, Deployment
from wsbridge.cli.doctor.findings import Finding, NotChecked, failure, ok, warning
from wsbridge.cli.doctor.tokens import mismatches
from wsbridge.cli.http import Unreachable, why_unreachable
from wsbridge.core.close_codes import LOST, NO_STATUS, ORIGIN_FORBIDDEN, TOKEN_MISSING
from wsbridge.core.events import Position

USER = "wsbridge-doctor"
PROXY = "docs/ingress.md"
ANONYMOUS = "a session needs --token"
UPGRADE = f"let it pass on Upgrade and Connection, with HTTP/1.1 ({PROXY})"
CUTTING = (
    "raise the ingress' idle time-out above WSBRIDGE_PING_INTERVAL, to 75 s for example (nginx: proxy_read_timeout; "
    f"HAProxy: timeout tunnel, for streams client and server; {PROXY}). If it is that long already, remove the limit "
    "of a request's duration"
)
DURATION = f"remove the ingress' limit of a request's duration ({PROXY}): its idle time-out is long enough"
LATE = 3.0  # seconds for which a ping may be late
SAMPLES = 8  # connections that look for further replicas
GUARDED = ("/stats", "/metrics", "/dapr/subscribe")

_PROXIES = (LOST.code, NO_STATUS.code, aiohttp.WSCloseCode.GOING_AWAY)  # codes of a close that the bridge has not made


def public_url(d: Deployment, path: str) -> str:
    """The URL of a route for a client. A token in the header names the user."""
    if d.public_url is None:
        raise NotChecked("--public-url needs the URL that browsers use")
    return d.public_url.rstrip("/") + path + ("" if d.token else f"?{urlencode({'user_id': USER})}")


def token_headers(d: Deployment) -> dict[str, str]:
    return {hdrs.AUTHORIZATION: f"Bearer {d.token}"} if d.token else {}


def _open(d: Deployment, origin: str | None = None) -> Any:
    return d.http.ws_connect(public_url(d, "/ws"), headers=token_headers(d), origin=origin, timeout=_CLOSE)


_CLOSE = aiohttp.ClientWSTimeout(ws_close=1.0)  # seconds for the server's part of a close


async def _first(ws: aiohttp.ClientWebSocketResponse) -> dict[str, Any]:
    """The first message. If the bridge refuses the session, its type is the close code and reason."""
    first: dict[str, Any] = {"type": "goodbye"}
    while first["type"] == "goodbye":  # a close follows
        message = await ws.receive(TIMEOUT)
        if message.type is not aiohttp.WSMsgType.TEXT:
            return {"type": f"{ws.close_code or 1006} {message.extra or ''}".rstrip()}
        first = json.loads(message.data)
    return first


async def _connected(ws: aiohttp.ClientWebSocketResponse, d: Deployment) -> dict[str, Any]:
    """The first message of a session. Raises `NotChecked` if the bridge refuses the session, or no message comes."""
    try:
        first = await _first(ws)
    except TimeoutError:
        raise NotChecked("the WebSocket got no message: see websocket") from None
    if first["type"] == "connected":
        return first
    if _lacks_token(str(first["type"]), d):
        raise NotChecked(ANONYMOUS)
    raise NotChecked(f"the bridge closed the WebSocket with {first['type']}: see websocket")


def _lacks_token(kind: str, d: Deployment) -> bool:
    return kind.startswith(str(TOKEN_MISSING.code)) and not d.token


async def websocket(d: Deployment) -> Finding:
    """Whether a WebSocket opens through the ingress."""
    try:
        async with _open(d) as ws:
            first = str((await _first(ws))["type"])
    except aiohttp.WSServerHandshakeError as error:
        return failure(f"the ingress does not open a WebSocket: it answers {error.status}", UPGRADE)
    except TimeoutError:
        return failure(f"the WebSocket opened, but got no message within {TIMEOUT:g} s", UPGRADE)
    except (aiohttp.ClientError, OSError) as error:
        return failure(f"no WebSocket at {d.public_url}: {why_unreachable(error, TIMEOUT)}", "check --public-url")
    return _opened(d, first)


def _opened(d: Deployment, first: str) -> Finding:
    """`first` is the type of the first message, or the close code and reason."""
    if first == "connected":
        return ok("a WebSocket opens through the ingress" + _unchecked(d))
    if _lacks_token(first, d):
        return ok("a WebSocket opens through the ingress; a session needs --token")
    text = f"the bridge closed the WebSocket with {first}"
    if not first.startswith("4401"):
        return failure(text, "see docs/protocol.md for the code")
    s = d.settings
    if d.token and (s.jwt_secret or s.jwt_jwks_url or s.jwt_public_key):
        why = "; ".join(mismatches(d.token, s)) or "its aud, iss, alg and exp fit the settings of this environment"
        text += f"; of the token, not verified here: {why}"
    return failure(
        text,
        "let the identity provider correct the token, or change the WSBRIDGE_JWT_ setting; auth.failed in the bridge's "
        "log has the reason",
    )


def _unchecked(d: Deployment) -> str:
    """What a session with the token of doctor does not prove."""
    if not (d.token and d.is_own_token):
        return ""
    audience = f" (audience {d.settings.jwt_audience[0]})" if d.settings.jwt_audience else ""
    return (
        f", with a token that doctor made{audience}; whether your identity provider's tokens are accepted is not "
        "checked: give one with --token"
    )


async def histories(d: Deployment) -> Finding:
    """Whether all connections get the same history: not if they reach several replicas without Redis.

    Each process, and each Redis, has its own epoch in the positions of a user.
    """
    epochs = set()
    try:
        for _ in range(SAMPLES):
            async with _open(d) as ws:
                position = Position.parse(str((await _connected(ws, d)).get("last_event_id")))
                epochs.add(position and position.epoch)
    except (aiohttp.ClientError, OSError):  # a time-out is an OSError
        raise NotChecked("no WebSocket opens") from None
    if len(epochs) == 1:
        return ok(f"{SAMPLES} connections got the same history")
    return warning(
        f"{SAMPLES} connections got {len(epochs)} histories of one user: several replicas answer without a common "
        "Redis. Each client misses the events of the other replicas, unless each has a consumer group of its own",
        "run one replica, set WSBRIDGE_REDIS_URL for all, or give each a consumer group (docs/replicas.md)",
    )


async def idle_websocket(d: Deployment) -> Finding:
    """Whether the ingress keeps a WebSocket without events."""
    started, events = time.monotonic(), 0
    try:
        async with asyncio.timeout(d.idle), _open(d) as ws:
            interval = (await _connected(ws, d))["ping_interval_ms"] / 1000
            async for _ in ws:
                events += 1
            code = ws.close_code or LOST.code
    except TimeoutError:
        return lasted("a WebSocket", events, d.idle)
    except (aiohttp.ClientError, OSError):
        raise NotChecked("no WebSocket opens") from None
    if code in _PROXIES:
        return cut("a WebSocket", started, interval)
    raise NotChecked(f"the bridge closed the WebSocket with {code}")


def lasted(what: str, events: int, seconds: float) -> Finding:
    """A connection that lasted for so many seconds, in which so many events arrived."""
    if events:
        raise NotChecked(
            f"{what} got events of its user meanwhile ({events}), so it was not idle: give the --token of a user "
            "without events, or none if WSBRIDGE_JWT_SECRET is set here"
        )
    return ok(f"{what} without events lasted {seconds:g} s")


def cut(what: str, started: float, interval: float) -> Finding:
    """A connection that was cut. After the first ping, which comes within `interval`, that is no idle time-out."""
    seconds = time.monotonic() - started
    text = f"{what} without events was cut after {seconds:.0f} s"
    if seconds > interval + LATE:
        return failure(f"{text}, although the bridge sends a ping each {interval:g} s", DURATION)
    return failure(text, CUTTING)


async def origin(d: Deployment) -> Finding:
    """Whether a page may connect. The bridge compares its origin with `Host`, which some proxies replace."""
    public = urlsplit(public_url(d, "/"))
    listed = next((o for o in d.settings.allowed_origins if "*" not in o and "://" in o), None)
    page = d.origin or listed or f"{public.scheme}://{public.netloc}"
    try:
        async with _open(d, page) as ws:
            first = str((await _first(ws))["type"])
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
            answer = await d.send(public_url(d, path), "HEAD")
        except Unreachable:
            raise NotChecked("the ingress does not answer") from None
        if answer.status == HTTPStatus.OK and "html" not in answer.headers.get(hdrs.CONTENT_TYPE, ""):
            opened.append(path)
    if opened:
        cure = "set WSBRIDGE_INTERNAL_PORT and the tokens, and pass on only /ws, /sse and /client.js"
        return failure(f"everybody can call {', '.join(opened)} through the ingress", cure)
    return ok(f"{', '.join(GUARDED)} are closed to the public")
