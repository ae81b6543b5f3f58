"""Checks of Server-Sent Events through the ingress: whether it buffers them, and whether it cuts idle ones."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from http import HTTPStatus

import aiohttp
from aiohttp import hdrs

from wsbridge.cli.doctor.deployment import MOST_BYTES, TIMEOUT, Deployment
from wsbridge.cli.doctor.findings import Finding, NotChecked, failure, ok
from wsbridge.cli.doctor.ingress import ANONYMOUS, CUTTING, PROXY, cut, lasted, public_url, token_headers
from wsbridge.cli.http import why_unreachable
from wsbridge.transports.sse import COMMENT_INTERVAL

BUFFERING = f"let it respect X-Accel-Buffering, or turn buffering off for /sse ({PROXY})"
EVENT_STREAM = "text/event-stream"
_EVENT = b"event: "
_PING_INTERVAL = re.compile(rb'"ping_interval_ms":(\d+)')
_GOODBYE = _EVENT + b"goodbye\ndata: "


async def _chunks(d: Deployment) -> AsyncIterator[bytes]:
    """Open a stream, and yield what arrives. Raises `NotChecked` if the bridge requires a token."""
    headers = {hdrs.ACCEPT: EVENT_STREAM} | token_headers(d)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT)
    async with d.http.get(public_url(d, "/sse"), headers=headers, timeout=timeout) as response:
        if response.status == HTTPStatus.UNAUTHORIZED:
            raise NotChecked("the bridge refuses the token: see websocket" if d.token else ANONYMOUS)
        response.raise_for_status()
        if response.content_type != EVENT_STREAM:  # a page of the application, for example
            kind, status = response.content_type, response.status
            raise aiohttp.ContentTypeError(response.request_info, (), status=status, message=kind)
        async for chunk in response.content.iter_any():
            yield chunk


def _interval(received: bytes) -> float:
    """Seconds between two comments, by the first message of the bridge; without it, the longest possible time."""
    found = _PING_INTERVAL.search(received)
    return min(int(found[1]) / 1000, COMMENT_INTERVAL) if found else COMMENT_INTERVAL


async def stream(d: Deployment) -> Finding:
    """Whether the bridge's comments in a stream arrive: not if the ingress buffers responses.

    The first message alone proves nothing: a proxy may pass it on with the header, and buffer what follows.
    """
    longest, received, started = COMMENT_INTERVAL + TIMEOUT, b"", time.monotonic()
    try:
        async with asyncio.timeout(longest):
            async for chunk in _chunks(d):
                received = (received + chunk)[-MOST_BYTES:]
                if b"\n:" in received:
                    return ok("a stream arrives unbuffered through the ingress")
    except (aiohttp.ClientConnectorError, aiohttp.ServerTimeoutError) as error:
        return failure(f"no stream at {d.public_url}: {why_unreachable(error, TIMEOUT)}", "check --public-url")
    except TimeoutError:
        text = f"a stream got no comment of the bridge within {longest:g} s: the ingress buffers responses"
        return failure(text, BUFFERING)
    except aiohttp.ClientResponseError as error:
        return failure(
            f"/sse answers {error.status} ({error.message}) through the ingress",
            f"pass on /sse to the bridge ({PROXY})",
        )
    except (aiohttp.ClientError, OSError):  # in the middle of the response
        pass
    if goodbye := _goodbye(received):
        raise NotChecked(f"the bridge closed the stream with {goodbye}")
    return _ended(received, time.monotonic() - started)


def _ended(received: bytes, seconds: float) -> Finding:
    """A stream that the ingress has ended before the first comment arrived. It may buffer as well."""
    interval, text = _interval(received), f"the ingress cut a stream after {seconds:.1f} s"
    if received and seconds <= interval:
        why = f"{text}, before the first comment of the bridge, which comes after {interval:g} s"
        return failure(f"{why}: after the cure, run this again to see whether the ingress also buffers", CUTTING)
    passed_on = "nothing" if not received else f"no comment, although one comes every {interval:g} s"
    return failure(f"{text} and had passed on {passed_on}: it buffers and cuts", f"{BUFFERING}. Also {CUTTING}")


def _goodbye(received: bytes) -> str:
    """Code and reason of the goodbye with which the bridge ends a stream; "" if there is none."""
    _, mark, rest = received.rpartition(_GOODBYE)
    message = json.loads(rest.partition(b"\n")[0]) if mark else {}
    return f"{message.get('code', '')} {message.get('reason', '')}".strip()


async def idle_stream(d: Deployment) -> Finding:
    """Whether the ingress keeps a stream without events."""
    started, received, events = time.monotonic(), b"", -1  # the first one is `connected`
    try:
        async with asyncio.timeout(d.idle):
            async for chunk in _chunks(d):
                received = (received + chunk)[-MOST_BYTES:]
                events += chunk.count(_EVENT)
    except TimeoutError:
        return lasted("a stream", max(events, 0), d.idle)
    except aiohttp.ClientPayloadError:
        pass
    except (aiohttp.ClientError, OSError):
        raise NotChecked("no stream opens: see stream") from None
    if goodbye := _goodbye(received):
        raise NotChecked(f"the bridge closed the stream with {goodbye}")
    return cut("a stream", started, _interval(received))
