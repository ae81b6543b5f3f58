"""`GET /console/stream`: one JSON object a line, each second, from all replicas. docs/console.md has the format."""

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from aiohttp import hdrs, web

from wsbridge.web.all_replicas import AllReplicas
from wsbridge.web.console.replica import PARTS, Look, Report

INTERVAL = 1.0  # seconds between two looks at all replicas
PATIENCE = 0.8  # seconds that a replica has for its answer
STREAMS = 16  # of this replica; further ones are refused
LINES = 50  # of the tail in one look, over all replicas
WRITE_TIMEOUT = 10.0  # seconds for a console that does not read
OUTCOMES = ("", "stored", "duplicate", "retried", "dropped")
_HEAD = {
    hdrs.CONTENT_TYPE: "application/x-ndjson",
    hdrs.CACHE_CONTROL: "no-store, no-transform",  # a proxy that compresses the stream would hold it back
    hdrs.X_CONTENT_TYPE_OPTIONS: "nosniff",
    "X-Accel-Buffering": "no",  # nginx would buffer it
}
_report = msgspec.msgpack.Decoder(Report)


class StreamHandler:
    """`hello` are the fields of the first line, besides the role of the caller."""

    def __init__(
        self, replicas: AllReplicas, may_write: Callable[[web.Request], bool], hello: Mapping[str, Any]
    ) -> None:
        self._replicas = replicas
        self._may_write = may_write
        self._hello = hello
        self._open = 0

    async def stream(self, request: web.Request) -> web.StreamResponse:
        look = _look(request)
        if self._open >= STREAMS:
            raise web.HTTPServiceUnavailable(
                text=f"{STREAMS} streams are open on this replica. Close one of them, or call another replica."
            )
        response = web.StreamResponse(headers=_HEAD)
        self._open += 1
        try:
            await response.prepare(request)
            role = "read-write" if self._may_write(request) else "read-only"
            await _write(response, _line({"type": "hello", "role": role, **self._hello}))
            await self._run(response, look)
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()  # otherwise the end of the response would wait for the console as well
        except ConnectionError:
            pass  # the console was closed
        finally:
            self._open -= 1
        return response

    async def _run(self, response: web.StreamResponse, look: Look) -> None:
        while True:
            began = time.monotonic()
            look.lines = max(1, LINES // max(1, len(look.seen)))
            answers = await self._replicas.ask(msgspec.msgpack.encode(look), PATIENCE)
            reports = [_report.decode(found) for found in answers.found]
            answered = {report.replica: report.number for report in reports}
            known = look.seen if answers.text else {}  # if none is missing, an unknown one has gone
            silent = sorted(known.keys() - answered.keys())
            look.seen = known | answered
            summary = {"answered": sorted(answered), "silent": silent, "missing": answers.missing, "text": answers.text}
            lines = [report.lines for report in reports]
            await _write(response, b"".join([*lines, _line({"type": "replicas", **summary})]))
            await asyncio.sleep(max(0.0, began + INTERVAL - time.monotonic()))


def _look(request: web.Request) -> Look:
    """The parts and the filter that the query asks for. Raises `web.HTTPBadRequest`."""
    query = request.query
    parts = query.get("show", ",".join(PARTS)).split(",")
    unknown = sorted(set(parts) - set(PARTS))
    if unknown:
        raise web.HTTPBadRequest(text=f"show={unknown[0][:80]}: expected some of {','.join(PARTS)}")
    if (outcome := query.get("outcome", "")) not in OUTCOMES:
        raise web.HTTPBadRequest(text=f"outcome={outcome[:80]}: expected one of {', '.join(OUTCOMES[1:])}")
    return Look(secrets.token_hex(8), parts, {}, query.get("user", ""), query.get("kind", ""), outcome)


async def _write(response: web.StreamResponse, data: bytes) -> None:
    async with asyncio.timeout(WRITE_TIMEOUT):
        await response.write(data)


def _line(fields: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(fields) + b"\n"
