"""The streams of `wsbridge conformance`, read by a client. Its WebSockets are in test_run.py."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import aiohttp
from aiohttp import web
from pytest_aiohttp import AiohttpServer

from tests.support.running import DEADLINE
from wsbridge.cli.conformance.connection import Stream
from wsbridge.cli.conformance.steps import event, hello
from wsbridge.core.close_codes import FORCE_DISCONNECT

Play = Callable[[Stream], Coroutine[Any, Any, None]]


async def answer(aiohttp_server: AiohttpServer, play: Play) -> tuple[int, list[str]]:
    """The status and the lines of a stream."""
    seen: list[tuple[str | None, str | None]] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        stream = Stream(request)
        seen.append((stream.position, stream.token))
        playing = asyncio.create_task(play(stream))
        response = await stream.serve()
        await playing
        return response

    app = web.Application()
    app.add_routes([web.get("/sse", handler)])
    server = await aiohttp_server(app)
    headers = {"Last-Event-ID": "e:1", "Authorization": "Bearer token-1"}
    async with (
        asyncio.timeout(DEADLINE),
        aiohttp.ClientSession() as http,
        http.get(server.make_url("/sse?last_event_id=e:0"), headers=headers) as response,
    ):
        assert seen == [("e:1", "token-1")]
        return response.status, (await response.text()).splitlines()


async def test_stream_has_positions_comments_and_a_goodbye_in_place_of_a_close(aiohttp_server: AiohttpServer) -> None:
    async def play(stream: Stream) -> None:
        await stream.accept(hello(1), event(2))
        await stream.close(*FORCE_DISCONNECT)

    status, lines = await answer(aiohttp_server, play)
    assert status == 200
    assert [line for line in lines if not line.startswith("data: ") and line] == [
        ":", "event: connected", "id: e:1", "event: task_update", "id: e:2", "event: goodbye",
    ]  # fmt: skip
    assert '"code":4509' in lines[-2]


async def test_stream_that_is_refused_has_the_reason_in_a_problem_document(aiohttp_server: AiohttpServer) -> None:
    async def play(stream: Stream) -> None:
        stream.refuse(403, "user_mismatch")

    status, lines = await answer(aiohttp_server, play)
    assert (status, '"detail": "user_mismatch"' in lines[0]) == (403, True)
