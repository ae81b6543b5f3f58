"""`wsbridge doctor` and the counters of events that were dropped or retried, and of requests that were denied."""

import asyncio
import time
from collections.abc import Sequence

import pytest
from aiohttp import web

from tests.support.bugs import BlockedBroadcaster
from tests.support.doctor import FAILURE, NOT_CHECKED, OK, WARNING, all_found, found
from tests.support.running import SECRET, Running, Served, Start
from wsbridge.cli.doctor import refused
from wsbridge.cli.doctor.findings import Finding
from wsbridge.cli.doctor.refused import CURES
from wsbridge.core.reasons import Drop, Retry

GUARDED = {"JWT_SECRET": SECRET}


async def test_refused_of_a_bridge_that_has_refused_nothing_is_ok(bridge: Running) -> None:
    await bridge.publish({"user_id": "u1"})
    finding = await found("refused", url=bridge.url)
    assert (finding.state, finding.text.endswith("since the start")) == (OK, True)
    finding = await found("refused", url=bridge.url, public_url=bridge.url)
    assert finding.text.endswith("since the start (before doctor's own attempts)")


async def test_refused_has_a_finding_with_a_cure_for_each_reason(start: Start) -> None:
    bridge = await start(**GUARDED)
    await bridge.publish({"nobody": "u1"}, id="e-17")
    await bridge.post(b"not JSON")
    for status, path in ((404, "/events/other"), (401, "/events/task-updates")):
        headers = {"dapr-api-token": str(bridge.app_token)} if status == 404 else {}
        async with bridge.http.post(bridge.url + path, json={"user_id": "u1"}, headers=headers) as response:
            assert response.status == status
    lasts = {
        "not_json": "an event without an id of task-updates: the data is not JSON; publish a JSON object. JSON is ",
        "no_user": "e-17 of task-updates: user_id has no user; the event's fields are nobody; ",
        "unknown_topic": "an event without an id of other: its topic is not in WSBRIDGE_TOPICS",
    }
    *drops, denied = await all_found("refused", GUARDED, url=bridge.url)
    for (reason, last), finding in zip(lasts.items(), drops, strict=True):
        text = f"events dropped since the start ({reason}): 1, none of them within 3 s; the last one is {last}"
        assert (finding.state, finding.text[: len(text)], finding.cure) == (WARNING, text, CURES["drops"][reason])
    text = "denied requests since the start: 1, none of them within 3 s"
    assert denied == (WARNING, text, CURES["errors"]["denied"])


async def test_refused_names_connections_whose_token_is_refused(start: Start) -> None:
    bridge = await start(**GUARDED)
    for path in ("/ws?token=a.b.c", "/ws?token=d.e.f", "/ws"):
        async with bridge.http.ws_connect(bridge.url + path) as ws:
            await ws.receive()
    assert await all_found("refused", GUARDED, url=bridge.url) == [
        Finding(WARNING, f"connections refused since the start ({why}): {count}, none of them within 3 s", cure)
        for (why, cure), count in zip(CURES["closes"].items(), (2, 1), strict=True)
    ]


async def test_redis_histories_that_were_lost_fail_for_an_hour(bridge: Running) -> None:
    assert (await found("redis-histories", url=bridge.url)).text == "the bridge does not use Redis"
    assert (await found("redis-histories")).text == "the bridge does not answer"
    bridge.bridge.checks.add("redis", lambda: "ok")
    assert (await found("redis-histories", url=bridge.url)).state is OK
    metrics = bridge.bridge.metrics
    metrics.losses, metrics.lost_at = 2, time.time() - 600
    finding = await found("redis-histories", url=bridge.url)
    assert (finding.state, "2 times since the start, the last time 10 min ago: " in finding.text) == (FAILURE, True)
    metrics.lost_at -= 7_200
    finding = await found("redis-histories", url=bridge.url)
    assert (finding.state, finding.cure.startswith("nothing if you know why, ")) == (WARNING, True)
    metrics.lost_at = 0.0  # a bridge of an earlier version does not tell
    assert (await found("redis-histories", url=bridge.url)).state is FAILURE


async def test_refused_fails_for_a_counter_that_rises(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    BlockedBroadcaster(monkeypatch)
    bridge = await start(QUEUE_SIZE="1")

    async def publish() -> None:
        while True:
            await bridge.publish({"user_id": "u1"})
            await asyncio.sleep(0.1)

    publishing = asyncio.create_task(publish())
    try:
        finding = await found("refused", url=bridge.url)
    finally:
        publishing.cancel()
    assert finding.state is FAILURE
    assert finding.text.startswith("events retried since the start (queue_full): ")
    assert " of them within 3 s" in finding.text
    assert "none of them" not in finding.text
    assert "WSBRIDGE_QUEUE_SIZE" in finding.cure


async def test_refused_without_the_operators_token_is_not_checked(start: Start) -> None:
    bridge = await start(**GUARDED)
    finding = await found("refused", GUARDED | {"ADMIN_TOKEN": "another token of an operator"}, url=bridge.url)
    assert (finding.state, finding.text) == (NOT_CHECKED, "the bridge does not answer operators")
    assert (await found("refused")).text == "the bridge does not answer"


class Hostile(Served):
    """Answers with one line, and ends."""

    def __init__(self, line: bytes) -> None:
        self._line = line

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return (web.get("/console/stream", self._stream),)

    async def _stream(self, _: web.Request) -> web.Response:
        return web.Response(body=self._line + b"\n")


@pytest.mark.parametrize("line", [b"", b"[]", b"no json", b'{"type":"numbers"}', b"x" * 3_000_000, b"[" * 100_000])
async def test_refused_of_a_server_that_is_not_a_bridge_is_not_checked(line: bytes) -> None:
    async with Hostile(line) as server:
        assert (await found("refused", url=f"http://127.0.0.1:{server.port}")).state is NOT_CHECKED


def test_refused_has_a_cure_for_every_reason() -> None:
    assert set(CURES["drops"]) == set(Drop)
    assert set(CURES["retries"]) == set(Retry)
    assert refused.LOOKS > 1
