"""Fixtures: a real bridge on a free loopback port, and what speaks to it."""

import asyncio
import functools
import gc
import inspect
import os
import resource
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import hypothesis
import pytest
import pytest_asyncio

from tests.support.engines import ENGINES
from tests.support.examples import PROFILE
from tests.support.logs import Logs
from tests.support.running import Running, Start, variables
from tests.support.spawned import Spawn, Spawned
from wsbridge.config.env import load
from wsbridge.server import serving
from wsbridge.supervision import event_loop

PROGRAMS = {"chaos", "conformance", "doctor", "top", "verify"}  # folders whose tests run whole programs

hypothesis.settings.load_profile(PROFILE)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need a browser, and those of whole programs, for which one Python is enough."""
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if "browser" in fixtures or item.path.parent.name == "browser":
            item.add_marker("browser")
        if "spawn" in fixtures or item.path.parent.name in PROGRAMS:
            item.add_marker("once")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the tests of the client (those of a scene) in every engine, or in those that a marker names."""
    if "engine" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("engines")
        usual = ENGINES if {"scene", "natural"} & set(metafunc.fixturenames) else ENGINES[:1]
        metafunc.parametrize("engine", marker.args if marker else usual, indirect=True, scope="module")


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The event loop of this process, which is asyncio's own unless `TEST_LOOP` is uvloop.

    Bridges in processes of their own have the default of `WSBRIDGE_LOOP`.
    """
    name = os.environ.get("TEST_LOOP", "asyncio")
    return {name: event_loop.factory(name)}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Let a test that hangs fail at its `await`, and long before `faulthandler_timeout`, which ends the whole run."""
    if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
        test, limit = item.obj, float(item.config.getini("faulthandler_timeout")) / 2

        @functools.wraps(test)
        async def limited(**fixtures: object) -> None:
            async with asyncio.timeout(limit or None):
                await test(**fixtures)

        item.obj = limited


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where all tests have to run, one that was skipped has failed, whatever it lacked."""
    report = yield
    if report.skipped and call.excinfo and os.environ.get("REQUIRE_ALL_TESTS") == "1":
        report.outcome = "failed"
        report.longrepr = f"skipped, though REQUIRE_ALL_TESTS=1: {call.excinfo.value}"
    return report


@pytest.fixture(scope="session", autouse=True)
def _many_descriptors() -> None:
    """A thousand connections have two ends each; bridges that are spawned inherit the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8_192)), hard))


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start a bridge with the settings given as keywords: `await start(PING_INTERVAL="0.2")`; it ends with the test."""
    async with AsyncExitStack() as stack:

        async def starting(**settings: str) -> Running:
            loaded, _ = load({"WSBRIDGE_PORT": "0"} | variables(settings))
            bridge, server = await stack.enter_async_context(serving(loaded))
            http = await stack.enter_async_context(aiohttp.ClientSession())
            running = Running(bridge, server, http)
            stack.push_async_callback(running.hang_up)
            return running

        yield starting


@pytest.fixture
async def bridge(start: Start) -> Running:
    """A bridge on its defaults: development mode."""
    return await start()


@pytest.fixture
async def spawn() -> AsyncIterator[Spawn]:
    """Start a bridge in a process of its own, with the settings given as keywords; it ends with the test."""
    async with AsyncExitStack() as stack:

        async def starting(broken: str = "", **settings: str) -> Spawned:
            http = await stack.enter_async_context(aiohttp.ClientSession())
            spawned = await Spawned.start(http, broken=broken, **settings)
            stack.push_async_callback(spawned.end)
            stack.push_async_callback(spawned.hang_up)
            return spawned

        yield starting


@pytest.fixture
def logs() -> Iterator[Logs]:
    """What a bridge in this process logs, at every level; an error that the test does not expect fails it."""
    with Logs.captured() as logs:
        yield logs
    logs.check()


@pytest.fixture(scope="module")
def engine(request: pytest.FixtureRequest) -> str:
    """The name of the browser's engine; see `pytest_generate_tests`."""
    return str(request.param)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(engine: str) -> AsyncIterator[Any]:
    """One browser for the tests of a module, which share a loop: `pytest.mark.asyncio(loop_scope="module")`."""
    from tests.support.browser import launched  # noqa: PLC0415 - imports playwright, which most tests do without

    async with launched(engine=engine) as browser:
        yield browser


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service() -> AsyncIterator[Any]:
    """A bridge in development mode, in a process of its own, for all tests of a module in the browser."""
    from tests.support.browser import Bridge  # noqa: PLC0415 - as above

    async with Bridge() as bridge:
        yield bridge


@pytest_asyncio.fixture(loop_scope="module")
async def scene(browser: Any, service: Any) -> AsyncIterator[Any]:
    """A user's tabs on that bridge, with a network that can go wrong."""
    from tests.support.scene import Scene  # noqa: PLC0415 - as above

    async with await browser.new_context() as context, Scene(context, service) as scene:
        yield scene


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def everyday(engine: str) -> AsyncIterator[Any]:
    """The profile of a browser that does with its tabs what it does for people."""
    from tests.support.browser import as_people_have_it  # noqa: PLC0415 - as above

    async with as_people_have_it(engine) as context:
        yield context


@pytest_asyncio.fixture(loop_scope="module")
async def natural(everyday: Any, service: Any) -> AsyncIterator[Any]:
    """The same as `scene`, where tabs are hidden, frozen and cached."""
    from tests.support.scene import Scene  # noqa: PLC0415 - as above

    async with Scene(everyday, service) as scene:
        yield scene


def pytest_collection_finish() -> None:
    """What has been imported stays to the end: the tests that collect garbage need not look through it each time."""
    gc.collect()
    gc.freeze()
