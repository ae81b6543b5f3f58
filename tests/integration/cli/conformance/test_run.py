"""The server of `wsbridge conformance`, with clients that are a few lines of this process."""

import contextlib
from collections.abc import AsyncIterator

import aiohttp

from wsbridge.cli.conformance.run import Server, judge
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


async def test_judge_gives_the_verdicts_in_the_order_of_the_scenarios() -> None:
    shown: list[tuple[str, str]] = []
    scenarios = [SCENARIOS[name] for name in ("token", "messages", "close_4509")]
    await judge(scenarios, "true {url}", lambda verdict: shown.append((verdict.scenario, verdict.result)))
    assert shown == [("token", "skipped"), ("messages", "failed"), ("close_4509", "failed")]
