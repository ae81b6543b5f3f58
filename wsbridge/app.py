"""One process: listens, runs until a signal, drains, stops."""

import asyncio
import contextlib
import errno
import gc
import logging
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from wsbridge import __version__, descriptors
from wsbridge.bridge import Bridge
from wsbridge.log import AccessLog, ServerLog, log
from wsbridge.settings import PREFIX, Settings, SettingsError
from wsbridge.weakness import weaknesses

HEADER_TIMEOUT = 10.0  # seconds; aiohttp's keep-alive time-out is also the deadline for headers
SIDECAR_KEEP_ALIVE = 3630.0  # seconds on the internal port: an idle connection cut at the wrong moment fails a delivery
LINGER = 2.0  # seconds that the rest of a body that nobody reads may take
BACKLOG = 4096  # connections that wait to be accepted: after a deploy all clients come at once
GC_THRESHOLDS = (50_000, 20, 50)  # each full collection walks what connections keep: have fewer of them


class Server:
    """A bridge on its ports. `ports` are those that it listens on, the public one first."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._runners: list[web.AppRunner] = []
        self.ports: list[int] = []

    async def start(self) -> None:
        """Listen.

        Raises:
            SettingsError: an address that cannot be listened on.

        """
        s = self._bridge.settings
        if s.internal_port is None:
            await self._listen(self._bridge.application(public=True, internal=True), s.port, HEADER_TIMEOUT)
        else:
            await self._listen(self._bridge.application(public=True, internal=False), s.port, HEADER_TIMEOUT)
            internal = self._bridge.application(public=False, internal=True)
            await self._listen(internal, s.internal_port, SIDECAR_KEEP_ALIVE)

    async def stop(self) -> None:
        for runner in self._runners:
            await runner.cleanup()

    async def _listen(self, app: web.Application, port: int, keep_alive: float) -> None:
        host = self._bridge.settings.host
        runner = web.AppRunner(
            app,
            logger=ServerLog(lambda: self._bridge.metrics.failed("bad_request")),
            access_log=logging.getLogger("wsbridge.access"),
            access_log_class=AccessLog,
            keepalive_timeout=keep_alive,
            lingering_time=LINGER,
            auto_decompress=False,  # a body that nobody reads would be inflated while it is thrown away
            shutdown_timeout=1.0,
        )
        await runner.setup()
        self._runners.append(runner)
        site = web.TCPSite(runner, host, port, backlog=BACKLOG)
        try:
            await site.start()
        except OSError as error:
            raise SettingsError(
                _cannot_listen(error, host, port, "INTERNAL_PORT" if self._runners[1:] else "PORT")
            ) from None
        self.ports.append(site.port)


def _cannot_listen(error: OSError, host: str, port: int, name: str) -> str:
    code = error.errno or 0  # asyncio's own words around its meaning say the address a second time
    why = os.strerror(code) if code in errno.errorcode else error.strerror or str(error)
    todo = {
        errno.EADDRINUSE: f"stop what listens there, or set {PREFIX}{name} to another one",
        errno.EACCES: f"set {PREFIX}{name} to 1024 or more",
    }.get(code, f"set {PREFIX}HOST to an address of this machine")
    return f"cannot listen on {host}:{port}: {why}; {todo}"


@contextlib.asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[tuple[Bridge, Server]]:
    """A bridge that listens; at the end it stops without a drain."""
    bridge = Bridge(settings)
    server = Server(bridge)
    async with bridge.running():
        try:
            await server.start()
            yield bridge, server
        finally:
            await server.stop()


async def serve(settings: Settings, warnings: list[str], *, brief: bool = False) -> None:
    """Run until SIGTERM or SIGINT, then drain; a second signal ends the drain.

    `brief` leaves settings that are at their default out of the first line: for people in front of a terminal.
    """
    descriptors.raise_limit()
    leave, hurry = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (hurry if leave.is_set() else leave).set()

    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, on_signal)
    async with serving(settings) as (bridge, server):
        for warning in warnings:
            log.warning("settings.unknown", why=warning)
        for weakness in weaknesses(settings):
            log.warning("settings.weak", why=weakness)
        shown = settings.changed() if brief else settings.masked()
        log.info("server.started", version=__version__, ports=server.ports, settings=shown)
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        await leave.wait()
        await _first(asyncio.create_task(bridge.drain()), asyncio.create_task(hurry.wait()))
    log.info("server.stopped")


async def _first(*tasks: asyncio.Task[Any]) -> None:
    """Wait for one of the tasks, end the others."""
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
