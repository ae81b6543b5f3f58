"""`wsbridge doctor` and streams through proxies that buffer, cut, or do both."""

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from aiohttp import web

from tests.support.doctor import FAILURE, NOT_CHECKED, found
from tests.support.reverse_proxies import ReverseProxy
from tests.support.running import DEADLINE, Running, Served, Start, until
from wsbridge.cli.doctor import ingress, streams

INTERVAL = 0.5  # seconds between two comments


async def test_stream_through_a_proxy_that_buffers_fails(
    bridge: Running, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(streams, "COMMENT_INTERVAL", INTERVAL)
    async with ReverseProxy("nginx that buffers", tmp_path, bridge.port) as proxy:
        finding = await found("stream", public_url=proxy.url)
    assert (finding.state, "the ingress buffers responses" in finding.text) == (FAILURE, True), finding


HELLO = b'event: connected\ndata: {"type":"connected","ping_interval_ms":500}\n\n'
GOODBYE = b'event: goodbye\ndata: {"type":"goodbye","code":4429,"reason":"too_many_connections"}\n\n'


class FirstOnly(Served):
    """Passes on `sent` with the header of a stream, then nothing. Ends the stream `after` some seconds."""

    def __init__(self, sent: bytes = HELLO, after: float = DEADLINE) -> None:
        self._sent = sent
        self._after = after

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return (web.get("/sse", self._stream),)

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        if self._sent:
            await response.write(self._sent)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._after):
                await until(lambda: request.transport is None)  # the client has left
        if request.transport is not None:
            request.transport.abort()
        return response


async def test_stream_of_which_only_the_first_message_arrives_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "TIMEOUT", 0.2)
    monkeypatch.setattr(streams, "COMMENT_INTERVAL", INTERVAL)
    async with FirstOnly() as proxy:
        finding = await found("stream", public_url=f"http://127.0.0.1:{proxy.port}")
    assert (finding.state, "the ingress buffers responses" in finding.text) == (FAILURE, True), finding


@pytest.mark.parametrize(
    ("sent", "after", "text", "cures"),
    [
        (b"", 0.1, "passed on nothing: it buffers and cuts", (True, True)),
        (HELLO, 1.0, "passed on no comment, although one comes every 0.5 s: it buffers and cuts", (True, True)),
        (HELLO, 0.1, "before the first comment of the bridge, which comes after 0.5 s", (False, True)),
        (HELLO, DEADLINE, "the ingress buffers responses", (True, False)),
    ],
)
async def test_stream_tells_a_cut_from_buffering_and_names_both_cures(
    monkeypatch: pytest.MonkeyPatch, sent: bytes, after: float, text: str, cures: tuple[bool, bool]
) -> None:
    monkeypatch.setattr(streams, "TIMEOUT", 1.0)
    monkeypatch.setattr(streams, "COMMENT_INTERVAL", 1.0)  # longer than that of HELLO
    async with FirstOnly(sent, after) as proxy:
        finding = await found("stream", public_url=f"http://127.0.0.1:{proxy.port}")
    assert (finding.state, text in finding.text) == (FAILURE, True), finding
    assert ("turn buffering off" in finding.cure, "raise the ingress' idle time-out" in finding.cure) == cures, finding


@pytest.mark.parametrize(("late", "cure"), [(0.1, ingress.DURATION), (3.0, ingress.CUTTING)])
async def test_idle_stream_that_is_cut_after_a_ping_blames_the_limit_of_the_duration(
    monkeypatch: pytest.MonkeyPatch, late: float, cure: str
) -> None:
    monkeypatch.setattr(ingress, "LATE", late)
    async with FirstOnly(HELLO, 1.0) as proxy:
        finding = await found("idle-stream", public_url=f"http://127.0.0.1:{proxy.port}")
    assert (finding.state, finding.cure) == (FAILURE, cure), finding


async def test_stream_that_the_bridge_ends_is_not_a_fault_of_the_ingress() -> None:
    async with FirstOnly(GOODBYE, 0.0) as proxy:
        for check in ("stream", "idle-stream"):
            finding = await found(check, public_url=f"http://127.0.0.1:{proxy.port}")
            assert (finding.state, finding.text) == (
                NOT_CHECKED,
                "the bridge closed the stream with 4429 too_many_connections",
            )


async def test_stream_through_a_proxy_that_buffers_and_cuts_names_both(start: Start, tmp_path: Path) -> None:
    bridge = await start(PING_INTERVAL="3600")
    async with ReverseProxy("nginx that buffers and cuts", tmp_path, bridge.port) as proxy:
        finding = await found("stream", public_url=proxy.url)
    assert (finding.state, "it buffers and cuts" in finding.text) == (FAILURE, True), finding
