"""One request of the command line: a response, or one line with the reason."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import NoReturn

import pytest
from aiohttp import web
from pytest_aiohttp import AiohttpServer

from tests.support.running import Running
from wsbridge.cli import http
from wsbridge.cli.http import Answer, Unreachable, operator_lines, send


async def refusal(url: str, within: float = 5) -> str:
    with pytest.raises(Unreachable) as caught:
        await asyncio.to_thread(send, url, timeout=within)
    return str(caught.value)


async def test_send_returns_status_and_body(bridge: Running) -> None:
    assert await asyncio.to_thread(send, f"{bridge.url}/healthz", timeout=5) == Answer(200, b"ok\n")


async def test_send_passes_body_headers_path_and_query(aiohttp_server: AiohttpServer) -> None:
    seen = []

    async def handle(request: web.Request) -> web.Response:
        seen.append((request.method, request.path_qs, request.headers["x-token"], await request.read()))
        return web.Response(status=307, headers={"location": "/elsewhere"})

    app = web.Application()
    app.router.add_post("/a", handle)
    server = await aiohttp_server(app)
    url = str(server.make_url("/a?b=c%20d"))
    answer = await asyncio.to_thread(send, url, method="POST", body=b"data", headers={"x-token": "t"}, timeout=5)
    assert answer.status == 307
    assert seen == [("POST", "/a?b=c%20d", "t", b"data")]


async def test_send_to_a_closed_port_is_unreachable(unused_tcp_port: int) -> None:
    assert await refusal(f"http://127.0.0.1:{unused_tcp_port}") == "Connection refused"


async def test_send_without_an_answer_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        said = await refusal(f"http://127.0.0.1:{silent.getsockname()[1]}", within=0.05)
    assert said == "no answer within 0.05 s"


@pytest.mark.parametrize(
    ("answer", "said"), [(b"SSH-2.0\r\n\r\n", "it does not speak HTTP (BadStatusLine)"), (b"", "Remote end closed")]
)
async def test_send_to_a_server_without_http_is_unreachable(answer: bytes, said: str) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()
        await writer.wait_closed()
        closed.set()

    closed = asyncio.Event()
    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert said in await refusal(f"http://127.0.0.1:{port}")
        await closed.wait()


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n"])
async def test_send_to_a_server_that_sends_a_byte_now_and_then_times_out(start: bytes) -> None:
    async with _endless(start, b"x", pause=0.01) as url:
        assert await refusal(url, within=0.2) == "no answer within 0.2 s"


async def test_send_to_a_server_that_sends_without_end_reads_a_bounded_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MOST_BYTES", 100_000)
    async with _endless(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 10_000) as url:
        assert await refusal(url) == "it sends more than 100000 bytes"
        with pytest.raises(Unreachable, match="more than 100000 bytes"):
            await asyncio.to_thread(next, operator_lines(url, token=None, timeout=5))


@contextlib.asynccontextmanager
async def _endless(start: bytes, part: bytes, *, pause: float = 0) -> AsyncIterator[str]:
    """A server that sends `start`, and then `part` again and again."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(start)
            while True:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(pause)
        writer.close()
        ended.set()

    ended = asyncio.Event()
    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await ended.wait()


async def test_send_https_to_a_plain_port_says_so(bridge: Running) -> None:
    assert (await refusal(bridge.url.replace("http", "https"))).startswith("it does not speak TLS; use ")


def test_send_to_an_unknown_host_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "create_connection", unknown)
    with pytest.raises(Unreachable, match=r"^Name or service not known$"):
        send("http://bridge.invalid", timeout=1)
