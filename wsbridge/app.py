"""All parts of one replica, wired together. Listens on nothing; only it knows the doors."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler as WebHandler

from wsbridge.auth.access import Access, Caller, Handler, Trust
from wsbridge.auth.authenticator import Authenticator
from wsbridge.auth.keys import RemoteKeys, build
from wsbridge.auth.origins import Origins
from wsbridge.auth.tokens import TokenVerifier
from wsbridge.broker.base import Broker
from wsbridge.broker.memory import MemoryBroker
from wsbridge.config.redis_url import RedisUrl
from wsbridge.config.settings import Settings
from wsbridge.connections import middleware
from wsbridge.connections.client_address import TrustedProxies
from wsbridge.connections.connection_limit import ConnectionLimit
from wsbridge.connections.file_descriptors import for_connections
from wsbridge.connections.rate_limits import RateLimits
from wsbridge.core.close_codes import CLOSE_LABELS
from wsbridge.dapr.delivery import DeliveryReader
from wsbridge.dapr.handler import DaprHandler, max_body
from wsbridge.sessions.admission import Admission
from wsbridge.sessions.backlog import Backlog
from wsbridge.sessions.bus import Bus
from wsbridge.sessions.catch_up import CatchUp
from wsbridge.sessions.drain import abandon, drain
from wsbridge.sessions.heartbeat import Heartbeat
from wsbridge.sessions.opening import SessionOpener
from wsbridge.sessions.reconciler import Reconciler
from wsbridge.sessions.registry import REGISTRY, Registry
from wsbridge.sessions.traffic_summary import TrafficSummary
from wsbridge.supervision.health_checks import Checks
from wsbridge.supervision.jobs import JobFailed, Jobs
from wsbridge.telemetry.log import dropped_lines, log
from wsbridge.telemetry.metrics import Metrics
from wsbridge.transports.sse import SseHandler
from wsbridge.transports.websocket import WebSocketHandler
from wsbridge.web import problem_details
from wsbridge.web.admin import AdminHandler
from wsbridge.web.pages import AboutHandler, ClientModuleHandler, DemoPageHandler
from wsbridge.web.quickstart import program

SIDECAR_PATIENCE = 60.0  # seconds after the start in which a sidecar has to read the subscriptions
QUEUE_WARNING = 0.9  # of the queue: above, the health check says so

_USER_ID = "{user_id:[^/]+}"  # any text: aiohttp's own pattern leaves out braces
Route = tuple[str, str, Caller, Handler]
Job = Callable[[], Coroutine[Any, Any, None]]
PATIENCE = 1.0  # seconds that a job has to end at a stop


class Bridge:
    """All parts of one replica, wired. `start` and `stop` give them life; `drain` comes in between."""

    def __init__(self, settings: Settings) -> None:
        self.settings = s = settings
        self._created = time.monotonic()
        self.metrics = Metrics(CLOSE_LABELS)
        self.connection_limit = ConnectionLimit(for_connections(), self.metrics)
        self.proxies = TrustedProxies(s.trusted_proxies)
        self.rate_limits = RateLimits(
            failure_rate=s.failure_rate, handshake_rate=s.handshake_rate, trusts=self.proxies.trusts
        )
        self.registry = Registry(max_connections=s.max_connections, max_per_user=s.max_connections_per_user)
        self.bus = Bus(self.registry, self.metrics, size=s.queue_size, max_bytes=s.queue_max_bytes)
        self.jobs = Jobs(self._job_failed, patience=PATIENCE)
        self._jobs: dict[str, Job] = {}
        self.checks = Checks()
        self.broker = self._own_histories() if s.redis_url is None else self._shared_histories(s.redis_url)
        self._catch_up = CatchUp(self.broker, self.metrics)
        self.backlog = Backlog(self.metrics, max_session=s.max_backlog_bytes, max_total=s.max_unsent_bytes)
        self.keys = build(s, self.metrics) if s.authenticates else None
        self.admission = Admission(
            origins=Origins(s.allowed_origins, development=s.development or s.demo),
            authenticator=Authenticator(self._verifier(), cookie=s.jwt_cookie),
            rate_limits=self.rate_limits,
            metrics=self.metrics,
            leeway=s.jwt_leeway,
        )
        self._opener = SessionOpener(
            admission=self.admission,
            registry=self.registry,
            broker=self.broker,
            metrics=self.metrics,
            backlog=self.backlog,
            on_missed=self._catch_up.request,
            ping_interval=s.ping_interval,
        )
        self._trust = Trust(
            tokens={
                Caller.SIDECAR: s.app_api_token,
                Caller.OPERATOR: s.admin_token,
                Caller.PROMETHEUS: s.metrics_token,
            },
            development=s.development,
            demo=s.demo,
        )
        heartbeat = Heartbeat(self.registry, self.metrics, interval=s.ping_interval, timeout=s.ping_timeout)
        self._jobs |= {
            "broadcast": self.bus.broadcast,
            "heartbeat": heartbeat.run,
            "backlog": self.backlog.run,
            "catch_up": self._catch_up.run,
            "checks": self.checks.watch,
            "summary": TrafficSummary(self.metrics, self.registry).run,
        }
        if isinstance(self.keys, RemoteKeys):
            keys = self.keys
            self._jobs["keys"] = keys.refresh
            self.checks.add("keys", lambda: keys.trouble, required=True)
        self.checks.add("queue", lambda: "nearly full" if self.bus.fullness > QUEUE_WARNING else None)
        self.checks.add("lifecycle", lambda: "draining" if self.admission.draining else None)
        if not s.development:
            self.checks.add("sidecar", self._sidecar_trouble)
        self._watch()

    def application(self, *, public: bool, internal: bool) -> web.Application:
        """The routes of the public port, of the internal one, or of the one port that is both."""
        app = web.Application(
            middlewares=[
                problem_details.middleware(self.metrics),
                middleware.middleware(self.metrics, self.rate_limits, self.proxies),
                self._only_while_whole,  # the last: each request ends in the intake
            ],
            client_max_size=max_body(self.settings.max_event_bytes),
        )
        app[REGISTRY] = self.registry
        app.on_response_prepare.append(middleware.finish)
        access = Access(self._trust, self.metrics, internal=not public)
        routes = self._health_routes(access)
        routes += self._public_routes() if public else []
        routes += self._internal_routes() if internal else []
        routes.append(self._front_route(internal=internal))
        for method, path, caller, handler in routes:
            extra: dict[str, Any] = {"allow_head": False} if path in ("/ws", "/sse") else {}
            guarded = access.guard(caller, handler)
            if method == "GET":
                app.router.add_get(path, guarded, **extra)
            else:
                app.router.add_route(method, path, guarded)
        return app

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Background work, one job each. Without any one of them the bridge is broken: `jobs.failed()` tells."""
        async with self.jobs:
            for name, job in self._jobs.items():
                await self.jobs.keep(name, job)
            yield

    async def drain(self) -> None:
        """Let nobody new in, take leave of those who are here, go on taking events meanwhile."""
        started, sessions = time.monotonic(), len(self.registry)
        log.info("drain.started", sessions=sessions, timeout=self.settings.drain_timeout)
        self.admission.draining = True
        try:
            await drain(self.registry, self.settings.drain_timeout)
        finally:
            log.info(
                "drain.done",
                sessions=sessions,
                left=len(self.registry),
                seconds=round(time.monotonic() - started, 3),
            )

    def abandon(self) -> None:
        """Close all sessions at once: this bridge is broken, and another one serves them."""
        self.admission.draining = True
        abandon(self.registry)

    def _health_routes(self, access: Access) -> list[Route]:
        ops = AdminHandler(
            broker=self.broker,
            admission=self.admission,
            metrics=self.metrics,
            checks=self.checks,
            shows_details=access.shows_details,
        )
        self._ops = ops
        return [
            ("GET", "/health", Caller.ANYONE, ops.health),
            ("GET", "/healthz", Caller.ANYONE, ops.healthz),
        ]

    def _public_routes(self) -> list[Route]:
        sse = SseHandler(self._opener, self.admission.origins, ping_timeout=self.settings.ping_timeout)
        return [
            ("GET", "/ws", Caller.ANYONE, WebSocketHandler(self._opener, self.admission, self.metrics).connect),
            ("GET", "/sse", Caller.ANYONE, sse.stream),
            ("OPTIONS", "/sse", Caller.ANYONE, sse.preflight),
            ("GET", "/client.js", Caller.ANYONE, ClientModuleHandler().module),
        ]

    def _internal_routes(self) -> list[Route]:
        s, ops = self.settings, self._ops
        types = dict(s.topics)
        dapr = DaprHandler(
            DeliveryReader(types, s.user_id_field, s.max_event_bytes, escaped_headers=s.escaped_headers),
            self.broker,
            self.metrics,
            pubsub=s.pubsub_name,
            topics=list(types),
            dead_letter_topic=s.dead_letter_topic,
        )
        routes: list[Route] = [
            ("GET", "/dapr/subscribe", Caller.SIDECAR, dapr.subscriptions),
            ("POST", "/events/{topic}", Caller.SIDECAR, dapr.events),
            ("GET", "/stats", Caller.OPERATOR, ops.stats),
            ("GET", f"/users/{_USER_ID}", Caller.OPERATOR, ops.user),
            ("POST", f"/users/{_USER_ID}/disconnect", Caller.OPERATOR, ops.disconnect),
            ("GET", "/metrics", Caller.PROMETHEUS, ops.metrics),
        ]
        return routes

    def _front_route(self, *, internal: bool) -> Route:
        s = self.settings
        if (s.development or s.demo) and internal:
            port = str(s.port) if s.internal_port is not None else ""
            pages = DemoPageHandler(public_port=port, command=program(sys.argv[0]))
            return ("GET", "/", Caller.ANYONE, pages.demo)
        return ("GET", "/", Caller.ANYONE, AboutHandler(_about(s)).sentence)

    def _verifier(self) -> TokenVerifier | None:
        if self.keys is None:
            return None
        s = self.settings
        return TokenVerifier(
            self.keys,
            audiences=s.jwt_audience,
            issuers=s.jwt_issuer,
            leeway=s.jwt_leeway,
            claim=s.jwt_user_claim,
        )

    def _own_histories(self) -> Broker:
        s = self.settings
        broker = MemoryBroker(
            self.bus,
            size=s.history_size,
            ttl=s.history_ttl,
            max_bytes=s.history_max_bytes,
            max_bytes_per_user=s.history_max_bytes_per_user,
            dedupe_ttl=s.dedupe_ttl,
        )
        self.metrics.watch("history_bytes", "Memory for histories and remembered ids, about.", lambda: broker.bytes)
        self.metrics.watch("history_users", "Users with a history.", lambda: broker.users)
        return broker

    def _shared_histories(self, url: RedisUrl) -> Broker:
        # redis-py takes a good part of the start-up, which most runs on a laptop need not wait for
        from wsbridge.broker.redis.broker import RedisBroker  # noqa: PLC0415
        from wsbridge.broker.redis.topology import create_server  # noqa: PLC0415

        s = self.settings
        broker = RedisBroker(
            create_server(url), self.bus, prefix=s.redis_prefix, size=s.history_size, ttl=s.history_ttl,
            max_bytes_per_user=s.history_max_bytes_per_user, dedupe_ttl=s.dedupe_ttl, metrics=self.metrics,
            is_pressed=lambda: self.backlog.ledger.bytes > s.max_unsent_bytes // 4,
        )  # fmt: skip
        self._jobs["stream"] = broker.run
        self._jobs["reconciler"] = Reconciler(broker, self.registry, self.metrics).run
        self.checks.add("redis", lambda: broker.trouble, required=True)
        self.metrics.watch("redis_up", "1 while Redis can be asked and is listened to.", lambda: not broker.trouble)
        self.metrics.watch("redis_subscriptions", "Channels that are listened to.", lambda: broker.subscriptions)
        return broker

    def _watch(self) -> None:
        watch = self.metrics.watch
        watch("connections", "Open sessions.", lambda: len(self.registry))
        watch("users", "Users with an open session.", lambda: float(self.registry.user_count))
        watch("budget_addresses", "Addresses whose failures are remembered.", lambda: self.rate_limits.addresses)
        watch("queue_depth", "Entries in the bus.", lambda: self.bus.depth)
        watch(
            "queue_depth_max",
            "The most entries that were in the bus since the last scrape, at least in the last minute.",
            self.bus.most,
        )
        watch("tasks", "Tasks of the event loop.", _tasks)
        self.metrics.count("log_lines_dropped", "Lines that are missing in the log.", dropped_lines, "why")
        watch("queue_bytes", "Data of the entries in the bus.", lambda: self.bus.bytes)
        watch("unsent_bytes", "Bytes that wait for slow peers, shared ones counted once.", lambda: self.backlog.bytes)

    @web.middleware
    async def _only_while_whole(self, request: web.Request, handler: WebHandler) -> web.StreamResponse:
        """Refuse everything once a job has ended: an event that is taken then may reach nobody."""
        if self.jobs.failure is not None:
            text = f"The background job {self.jobs.failure.job!r} has ended; the process is about to exit."
            raise web.HTTPServiceUnavailable(text=text)
        return await handler(request)

    def _sidecar_trouble(self) -> str | None:
        """A sidecar reads the subscriptions once in its life: where only the bridge restarts, a delivery shows it."""
        seen = self.metrics.subscription_read_at or self.metrics.delivered_at
        if seen or time.monotonic() - self._created < SIDECAR_PATIENCE:
            return None
        return "no sidecar has read the subscriptions or delivered an event since the start; is APP_API_TOKEN the same?"

    def _job_failed(self, failure: JobFailed) -> None:
        self.metrics.failed("internal")
        log.error("job.failed", job=failure.job, exc_info=failure.__cause__ or failure)


def _tasks() -> int:
    try:
        return len(asyncio.all_tasks())
    except RuntimeError:  # there is no loop: a caller that only wants the names
        return 0


def _about(s: Settings) -> str:
    """One sentence for a person who looks at `/` with a browser."""
    what = "This is wsbridge, which sends a user's events to that user's browsers, at /ws and /sse"
    if s.development or s.demo:
        return f"{what}; its demo page is on the port of WSBRIDGE_INTERNAL_PORT."
    return f"{what}; to try it out with a demo page, set WSBRIDGE_AUTH=none and WSBRIDGE_DEMO=true."
