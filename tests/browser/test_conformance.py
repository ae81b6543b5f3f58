"""The client in browsers, in the scenarios of `wsbridge conformance`."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.support.scene import Scene
from wsbridge.cli.conformance.run import Server, Start, Verdict
from wsbridge.cli.conformance.scenarios import SCENARIOS, STREAMS
from wsbridge.cli.conformance.trial import Trial

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one browser for all

TOKENS = ("token", "refresh")
# Some of the close codes: browsers differ in how they show those below 4000. `silence` takes a minute.
CLOSES = ("close_1001", "close_1008", "close_1012", "close_1013", "close_4408", "close_4500")
OTHERS = [
    name
    for name, each in SCENARIOS.items()
    if not name.startswith("close_") and name not in (*TOKENS, "silence") and each.only != STREAMS
]


def in_page(scene: Scene) -> Start:
    """A client that is a page."""

    @contextlib.asynccontextmanager
    async def started(trial: Trial, url: str, token_url: str) -> AsyncIterator[None]:
        async def grant(*_: str) -> str:
            async with aiohttp.ClientSession() as http, http.get(token_url) as response:
                return await response.text()

        def watch(kind: str, value: Any) -> None:
            if kind == "message" and (value.get("id") or value["type"] == "gap"):
                trial.printed(value.get("id") or "gap")
            elif kind == "state" and value["status"] == "closed":
                trial.ended("closed")

        scene.site.grant = grant
        tab = await scene.open(with_token=url.split("/")[3] in TOKENS, url=url, sse=False)
        for report in tab.told:
            watch(*report)
        tab.watcher = watch
        yield
        await tab.page.close()

    return started


async def judged(scene: Scene, name: str) -> Verdict:
    """Judge by a server with its own port: Firefox delays connections to a port after failures, by up to a minute."""
    async with Server() as server:
        return await server.judge(SCENARIOS[name], in_page(scene))


async def test_conformance_client_in_a_browser_passes(scene: Scene) -> None:
    verdicts = await asyncio.gather(*(judged(scene, name) for name in (*OTHERS, *CLOSES)))
    for name in TOKENS:  # one after the other: the site has one source of tokens
        verdicts.append(await judged(scene, name))
    assert [(verdict.scenario, verdict.reason) for verdict in verdicts if verdict.result != "passed"] == []
