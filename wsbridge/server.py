"""The server process: listens, runs until a signal, drains, and stops."""

import asyncio
import contextlib
import errno
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from functools import partial
from typing import Any

from aiohttp import web

from wsbridge import __version__
from wsbridge.app import PATIENCE, Bridge
from wsbridge.config.settings import PREFIX, Settings, SettingsError
from wsbridge.config.weaknesses import weaknesses
from wsbridge.connections import canned_responses, file_descriptors
from wsbridge.connections.access_log import AccessLog, ServerLog
from wsbridge.connections.direct_requests import DirectRequests
from wsbridge.connections.guard import ConnectionGuard
from wsbridge.connections.guarded_port import GuardedPort
from wsbridge.connections.listener import Listener
from wsbridge.connections.refusals import Refusals
from wsbridge.connections.request_head import MAX_LINES
from wsbridge.supervision import event_loop
from wsbridge.supervision.jobs import JobFailed, Jobs
from wsbridge.telemetry.log import log
from wsbridge.telemetry.traces.tracing import Traces
from wsbridge.web.client_file import client_file

HEADER_TIMEOUT = 10.0  # seconds for a head, and until the first byte of a peer that is not a trusted proxy
KEEP_ALIVE = 90.0  # seconds that a connection may be idle: longer than in load balancers (60 to 75 s)
SIDECAR_KEEP_ALIVE = 3630.0  # seconds on the internal port: a delivery fails if its connection is closed meanwhile
STOP_TIMEOUT = 1.0  # seconds for requests that are being answered, and then for the close handshakes of sessions
WRITE_TIMEOUT = 30.0  # seconds for which a peer may read nothing while responses wait for it
LINGER = 2.0  # seconds to receive and discard the rest of a body after an early response, and for a peer to read it


class Server:
    """Listens with the applications of a bridge. `ports` are the ports in use, the public one first."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._runners: list[web.AppRunner] = []
        self._listeners: list[Listener] = []
        self._direct: list[DirectRequests] = []
        self._accepting = Jobs(bridge.jobs.report, patience=PATIENCE)  # separate: they end before the bridge does
        self.ports: list[int] = []

    async def start(self) -> None:
        """Listen on all ports. Raises `SettingsError` if an address or port is not available."""
        s = self._bridge.settings
        public = self._bridge.application(public=True, internal=s.internal_port is None)
        await self._listen(public, s.port, KEEP_ALIVE)
        if s.internal_port is not None:
            internal = self._bridge.application(public=False, internal=True)
            await self._listen(internal, s.internal_port, SIDECAR_KEEP_ALIVE, is_internal=True)

    async def stop(self) -> None:
        await self._accepting.close()
        for listener in self._listeners:
            listener.close()
        self._bridge.connection_limit.close()
        await asyncio.gather(
            *(runner.cleanup() for runner in self._runners), *(direct.close(STOP_TIMEOUT) for direct in self._direct)
        )
        await self._bridge.connection_limit.end_all(STOP_TIMEOUT)

    async def _listen(self, app: web.Application, port: int, keep_alive: float, *, is_internal: bool = False) -> None:
        make = await self._guards(app, keep_alive, is_internal=is_internal)
        bridge = self._bridge
        listener = Listener(make, self._refusal, bridge.connection_limit.make_room, bridge.metrics)
        host = bridge.settings.host
        try:
            await listener.bind(host, port)
        except OSError as error:
            name = "INTERNAL_PORT" if is_internal else "PORT"
            raise SettingsError(_cannot_listen(error, host, port, name)) from None
        self._listeners.append(listener)
        self.ports.append(listener.port)
        for sock in listener.sockets:
            await self._accepting.keep(f"accept on {listener.port}", partial(listener.accept, sock))

    async def _guards(
        self, app: web.Application, keep_alive: float, *, is_internal: bool
    ) -> Callable[[str], asyncio.Protocol]:
        """The factory of guards for one port. Its argument is the peer's address."""
        bridge, limit = self._bridge, self._bridge.settings.max_header_bytes
        runner = web.AppRunner(
            app,
            logger=ServerLog(self._bad_request, self._bridge.metrics.internal),
            access_log=logging.getLogger("wsbridge.access"),
            access_log_class=AccessLog,
            keepalive_timeout=keep_alive,
            lingering_time=LINGER,
            max_line_size=limit,
            max_field_size=limit,
            max_headers=MAX_LINES,
            auto_decompress=False,  # aiohttp would decompress even bodies that it discards
            shutdown_timeout=STOP_TIMEOUT,
        )
        await runner.setup()
        self._runners.append(runner)
        server = runner.server
        assert server is not None  # noqa: S101 - for the type checker: `setup` sets it
        direct = DirectRequests(server, AccessLog(logging.getLogger("wsbridge.access"), ""), bridge.metrics)
        self._direct.append(direct)
        port = GuardedPort(
            direct=direct,
            server=server,
            connection_limit=bridge.connection_limit,
            metrics=bridge.metrics,
            rate_limits=bridge.rate_limits,
            refusals=Refusals(bridge.metrics, bridge.rate_limits, bridge.proxies, limit),
            max_header_bytes=limit,
            head_timeout=HEADER_TIMEOUT,
            keep_alive=keep_alive,
            write_timeout=WRITE_TIMEOUT,
            linger=LINGER,
        )
        return lambda peer: ConnectionGuard(port, peer, known=is_internal or bridge.proxies.trusts(peer))

    def _refusal(self, address: str) -> bytes | None:
        """The response that refuses a new connection, or None to accept it."""
        bridge = self._bridge
        if bridge.rate_limits.refuses(address):
            bridge.metrics.connection_refused("failures")
            return canned_responses.EXHAUSTED
        if bridge.connection_limit.is_overflowing:
            bridge.metrics.connection_refused("descriptors")
            return canned_responses.FULL
        return None

    def _bad_request(self, peer: str) -> None:
        self._bridge.metrics.failed("bad_request")
        self._bridge.rate_limits.failed(peer)


def _cannot_listen(error: OSError, host: str, port: int, name: str) -> str:
    code = error.errno or 0  # the text of asyncio's error would repeat the address
    why = os.strerror(code) if code in errno.errorcode else error.strerror or str(error)
    todo = {
        errno.EADDRINUSE: f"stop the process that listens there, or set {PREFIX}{name} to another port",
        errno.EACCES: f"set {PREFIX}{name} to 1024 or more",
    }.get(code, f"set {PREFIX}HOST to an address of this machine")
    return f"cannot listen on {host}:{port}: {why}; {todo}"


@contextlib.asynccontextmanager
async def serving(settings: Settings, traces: Traces | None = None) -> AsyncIterator[tuple[Bridge, Server]]:
    """Run a bridge and its server. At the end they stop without a drain."""
    bridge = Bridge(settings, traces)
    bridge.metrics.loop = event_loop.running_name()
    server = Server(bridge)
    async with bridge.running():
        try:
            await server.start()
            yield bridge, server
        finally:
            await server.stop()


async def serve(
    settings: Settings,
    warnings: list[str],
    *,
    brief: bool = False,
    traces: Traces | None = None,
    started: Callable[[Sequence[int]], None] | None = None,
) -> None:
    """Run until SIGTERM or SIGINT, then drain; a second signal ends the drain early.

    `brief` omits settings with their default value from the first log line, for use in a terminal. `started` is called
    with the ports when the server listens. Raises `JobFailed` if a background job has ended unexpectedly; the failure
    has been logged already.
    """
    file_descriptors.raise_limit()
    stop_requested, second_signal = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (second_signal if stop_requested.is_set() else stop_requested).set()

    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, on_signal)
    async with serving(settings, traces) as (bridge, server):
        for warning in warnings:
            log.warning("settings.unknown", why=warning)
        for weakness in weaknesses(settings):
            log.warning("settings.weak", why=weakness)
        shown = settings.changed() if brief else settings.masked()
        facts = {"version": __version__, "loop": bridge.metrics.loop, "client": client_file().source}
        log.info("server.started", **facts, ports=server.ports, settings=shown)
        if started:
            started(server.ports)
        bridge.garbage.freeze()
        try:
            await _first(stop_requested.wait(), bridge.jobs.failed())
            await _first(bridge.drain(), second_signal.wait(), bridge.jobs.failed())
        except JobFailed:
            bridge.abandon()
            raise
    log.info("server.stopped")


async def _first(*works: Coroutine[Any, Any, Any]) -> None:
    """Wait until one of them ends, and cancel the others. Raises the exception of the first one."""
    tasks = [asyncio.create_task(work) for work in works]  # not background jobs: they end with this function
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
