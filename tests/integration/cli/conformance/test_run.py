"""The server of `wsbridge conformance`, with clients that are a few lines of this process."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from wsbridge.cli.conformance.run import Server, Start, judge
from wsbridge.cli.conformance.scenarios import SCENARIOS
from wsbridge.cli.conformance.trial import Trial


@contextlib.asynccontextmanager
async def in_vain(trial: Trial, url: str, token_url: str) -> AsyncIterator[None]:
    """A client that asks for other paths, and for two tokens."""
    async with aiohttp.ClientSession() as http:
        for path in ("/nothing/ws", "/nothing/token"):
            async with http.get(f"http://{url.split('/')[2]}{path}") as response:
                trial.printed(str(response.status))
        for _ in range(2):
            async with http.get(token_url) as response:
                trial.printed(await response.text())
    trial.ended("in vain")
    yield


async def test_server_has_only_its_scenarios_and_a_new_token_each_time() -> None:
    async with Server() as server:
        verdict = await server.judge(SCENARIOS["messages"], in_vain)
        assert server.trials["messages"].lines == ["404", "404", "token-1", "token-2"]
    assert (verdict.result, verdict.reason) == ("failed", "expected a connection: the client ended (in vain)")


def sending(text: str | None) -> Start:
    """A client that sends this text and prints the answer to it, or that sends a GET without a handshake."""

    @contextlib.asynccontextmanager
    async def started(trial: Trial, url: str, _: str) -> AsyncIterator[None]:
        async def run() -> None:
            async with aiohttp.ClientSession() as http:
                if text is None:
                    await http.get(url.replace("ws", "http", 1))
                    return
                async with http.ws_connect(url) as ws:
                    await ws.send_str(text)
                    async for message in ws:
                        answer = json.loads(message.data)
                        if answer["type"] in ("error", "pong"):
                            trial.printed(answer["type"])

        task = asyncio.create_task(run())
        yield
        task.cancel()
        await asyncio.wait([task])

    return started


async def test_server_judges_a_request_without_a_handshake() -> None:
    async with Server() as server:
        verdict = await server.judge(SCENARIOS["messages"], sending(None))
    assert verdict.reason == "its request is not a WebSocket handshake"


@pytest.mark.parametrize(("text", "answer"), [("no JSON", "error"), ('{"type":"ping"}', "pong")])
async def test_server_answers_as_the_bridge_does(text: str, answer: str) -> None:
    async with Server() as server:
        verdict = await server.judge(SCENARIOS["missed"], sending(text))
        assert answer in server.trials["missed"].lines
    assert verdict.result == "failed"


async def test_judge_gives_the_verdicts_in_the_order_of_the_scenarios() -> None:
    shown: list[tuple[str, str]] = []
    scenarios = [SCENARIOS[name] for name in ("token", "messages", "close_4509")]
    await judge(scenarios, "true {url}", lambda verdict: shown.append((verdict.scenario, verdict.result)))
    assert shown == [("token", "skipped"), ("messages", "failed"), ("close_4509", "failed")]
