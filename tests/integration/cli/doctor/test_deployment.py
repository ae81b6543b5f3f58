"""Requests to the parts of a deployment."""

import socket
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpServer

from tests.support.doctor import NOWHERE
from wsbridge.cli.doctor import deployment
from wsbridge.cli.doctor.deployment import Answer, Deployment
from wsbridge.cli.http import Unreachable
from wsbridge.config.settings import Settings


@pytest.mark.parametrize("body", [b"", b"[1]", b'{"a"', b"[" * 100_000])
def test_answer_that_is_no_json_object_reads_as_an_empty_one(body: bytes) -> None:
    assert Answer(200, {}, body).json() == {}


async def test_send_reads_a_body_that_arrives_in_many_parts(aiohttp_server: AiohttpServer) -> None:
    body = b"x" * 3_000_000

    async def handle(_: web.Request) -> web.Response:
        return web.Response(body=body)

    app = web.Application()
    app.router.add_get("/stats", handle)
    server = await aiohttp_server(app)
    async with aiohttp.ClientSession() as http:
        d = Deployment(settings=Settings(), http=http, url=str(server.make_url("")).rstrip("/"))
        assert (await d.of_bridge("/stats")).body == body


async def test_send_to_a_server_that_is_silent_ends_after_the_timeout(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(deployment, "TIMEOUT", 0.05)
    async with aiohttp.ClientSession() as http:
        d = Deployment(settings=Settings(), http=http, url=NOWHERE)
        silent = socket.create_server(("127.0.0.1", 0))  # the kernel accepts for it
        with silent, pytest.raises(Unreachable, match=r"no answer within 0\.05 s"):
            await d.send(f"http://127.0.0.1:{silent.getsockname()[1]}")
