"""Creates all parts of one replica and connects them in aiohttp applications, for which `server` listens."""

import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from typing import Any

from aiohttp import web

from wsbridge.auth.access import Access, Caller, Route, Trust
from wsbridge.auth.authenticator import Authenticator
from wsbridge.auth.keys import RemoteKeys, build
from wsbridge.auth.origins import Origins
from wsbridge.auth.tokens import TokenVerifier
from wsbridge.broker.base import Broker
from wsbridge.broker.factory import memory_broker, redis_broker
from wsbridge.broker.receipts import ReceiptStore
from wsbridge.config.settings import Settings
from wsbridge.connections import middleware
from wsbridge.connections.client_address import TrustedProxies
from wsbridge.connections.connection_limit import ConnectionLimit
from wsbridge.connections.file_descriptors import for_connections
from wsbridge.connections.rate_limits import RateLimits
from wsbridge.core.close_codes import CLOSE_LABELS
from wsbridge.dapr import receipts
from wsbridge.dapr.delivery import DeliveryReader
from wsbridge.dapr.handler import DaprHandler, max_body
from wsbridge.dapr.sidecar_check import SUBSCRIPTIONS, SidecarCheck
from wsbridge.sessions.admission import Admission
from wsbridge.sessions.bus import Bus
from wsbridge.sessions.catch_up import CatchUp
from wsbridge.sessions.drain import abandon, drain
from wsbridge.sessions.heartbeat import Heartbeat
from wsbridge.sessions.opening import SessionOpener
from wsbridge.sessions.reconciler import Reconciler
from wsbridge.sessions.registry import REGISTRY, Registry
from wsbridge.sessions.reports import Reports
from wsbridge.sessions.slow_consumers import SlowConsumers
from wsbridge.sessions.traffic_summary import TrafficSummary
from wsbridge.supervision.garbage import Garbage
from wsbridge.supervision.health_checks import Checks
from wsbridge.supervision.jobs import JobFailed, Jobs, Starter
from wsbridge.telemetry.log import log
from wsbridge.telemetry.metrics import Metrics
from wsbridge.telemetry.stations.ring import Stations
from wsbridge.telemetry.tail import Tail
from wsbridge.telemetry.traces.tracing import PassedOn, Traces
from wsbridge.transports.sse import SseHandler
from wsbridge.transports.websocket import WebSocketHandler
from wsbridge.web import problem_details
from wsbridge.web.admin import AdminHandler
from wsbridge.web.all_replicas import AllReplicas, Poller
from wsbridge.web.answers import answer, ask_reached
from wsbridge.web.client_module import client_routes
from wsbridge.web.console.numbers import Numbers
from wsbridge.web.console.replica import Replica
from wsbridge.web.console.routes import routes as console_routes
from wsbridge.web.gauges import watch_bridge, watch_limits
from wsbridge.web.pages import FrontHandler
from wsbridge.web.users import routes as user_routes

QUEUE_WARNING = 0.9  # share of the queue above which the health check fails

STREAMS = ("/ws", "/sse", "/console/stream")  # have no HEAD
Job = Callable[[], Coroutine[Any, Any, None]]
PATIENCE = 1.0  # seconds that a job has to end when the bridge stops


class Bridge:
    """All parts of one replica. `running` starts their background jobs; `drain` ends the sessions before a stop."""

    def __init__(self, settings: Settings, traces: Traces | None = None) -> None:
        self.settings = s = settings
        self.traces = traces or (PassedOn() if s.send_traceparent else None)
        self.metrics = Metrics(CLOSE_LABELS, dict(s.topics))
        self.connection_limit = ConnectionLimit(for_connections(), self.metrics)
        self.proxies = TrustedProxies(s.trusted_proxies)
        self.rate_limits = RateLimits(
            failure_rate=s.failure_rate, handshake_rate=s.handshake_rate, trusts=self.proxies.trusts
        )
        self.registry = Registry(max_connections=s.max_connections, max_per_user=s.max_connections_per_user)
        self.stations = Stations(s.stations_max_bytes)
        self.bus = Bus(
            self.registry, self.metrics, size=s.queue_size, max_bytes=s.queue_max_bytes, stations=self.stations,
            traces=self.traces,
        )  # fmt: skip
        self._sidecar = SidecarCheck(self.metrics, self.stations)
        self.jobs = Jobs(self._job_failed, patience=PATIENCE)
        self.checks = Checks()
        self.garbage = Garbage()
        self.slow_consumers = SlowConsumers(self.metrics, max_session=s.max_backlog_bytes, max_total=s.max_unsent_bytes)
        watch_bridge(self.metrics, self.registry, self.bus, self.slow_consumers, self.rate_limits, self.checks)
        watch_limits(self.metrics, s)
        self._starter = Starter()
        self.keys = build(s, self.metrics) if s.authenticates else None
        verifier = None if self.keys is None else TokenVerifier(self.keys, s)
        self.admission = Admission(
            origins=Origins(s.allowed_origins, development=s.development or s.demo),
            authenticator=Authenticator(verifier, cookie=s.jwt_cookie),
            rate_limits=self.rate_limits,
            metrics=self.metrics,
            leeway=s.jwt_leeway,
        )
        self.tail = Tail()
        numbers = Numbers(self.registry, self.bus, self.slow_consumers, self.metrics, self.checks, self.admission)
        replica = Replica(self.stations.replica, numbers, self.registry, self.tail)
        self.reports = Reports(self.registry, self.metrics)
        self._answer = partial(answer, self.stations, self.registry, replica, self.reports)
        self._poll: Poller | None = None
        self.broker, store, broker_jobs = self._create_broker()
        self._replicas = AllReplicas(self._poll, self._answer)
        ask = partial(ask_reached, self._replicas)
        self._receipts = receipts.build(s, self.broker, store, self.metrics, self.checks, ask)
        self._opener = SessionOpener(
            admission=self.admission,
            registry=self.registry,
            broker=self.broker,
            metrics=self.metrics,
            slow_consumers=self.slow_consumers,
            on_missed=CatchUp(self.broker, self._starter, self.metrics, self.stations).request,
            ping_interval=s.ping_interval,
            stations=self.stations,
            reports=self.reports if s.takes_reports else None,
        )
        heartbeat = Heartbeat(self.registry, self.metrics, interval=s.ping_interval, timeout=s.ping_timeout)
        self._jobs: dict[str, Job] = broker_jobs | {
            "broadcast": self.bus.broadcast,
            "heartbeat": heartbeat.run,
            "slow_consumers": self.slow_consumers.run,
            "starter": self._starter.run,
            "reports": self.reports.run,
            "checks": self.checks.watch,
            "garbage": self.garbage.watch,
            "summary": TrafficSummary(self.metrics, self.registry).run,
        }
        if self._receipts is not None:
            self.reports.store = store
            self._jobs["receipts"] = self._receipts.run
        if isinstance(self.keys, RemoteKeys):
            keys = self.keys
            self._jobs["keys"] = keys.refresh
            self.checks.add("keys", lambda: keys.trouble, required=True)
        self.checks.add("queue", lambda: "nearly full" if self.bus.fullness > QUEUE_WARNING else None)
        self.checks.add("lifecycle", lambda: "draining" if self.admission.draining else None)
        if not s.development:
            self.checks.add("sidecar", self._sidecar.trouble)

    def application(self, *, public: bool, internal: bool) -> web.Application:
        """The application with the routes of the public port, of the internal port, or of one port for both."""
        app = web.Application(
            middlewares=[
                problem_details.middleware(self.metrics),
                middleware.middleware(self.metrics, self.rate_limits, self.proxies, self.jobs),
            ],
            client_max_size=max_body(self.settings.max_event_bytes),
        )
        app[REGISTRY] = self.registry
        app.on_response_prepare.append(middleware.on_response_prepare)
        access = Access(Trust.of(self.settings), self.metrics, internal=not public, sidecar_denied=self._sidecar.denied)
        admin = AdminHandler(
            admission=self.admission,
            metrics=self.metrics,
            checks=self.checks,
            stations=self.stations,
            shows_details=access.shows_details,
        )
        routes: list[Route] = [
            ("GET", "/health", Caller.ANYONE, admin.health),
            ("GET", "/healthz", Caller.ANYONE, admin.healthz),
            ("GET", "/", Caller.ANYONE, FrontHandler(self.settings, internal=internal).page),
            *(self._public_routes() if public else ()),
            *(self._internal_routes(admin, access) if internal else ()),
        ]
        for method, path, caller, handler in routes:
            guarded = access.guard(caller, handler)
            app.router.add_route(method, path, guarded)
            if method == "GET" and path not in STREAMS:
                app.router.add_head(path, guarded)
        return app

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the background jobs inside the context. If one ends, the bridge is broken, and `jobs.failed()` raises."""
        async with self.jobs:
            for name, job in self._jobs.items():
                await self.jobs.keep(name, job)
            yield

    async def drain(self) -> None:
        """Accept no new sessions, and close the open ones within the time-out. Deliveries continue meanwhile."""
        self.admission.draining = True
        await drain(self.registry, self.settings.drain_timeout)
        await self.reports.finish()

    def abandon(self) -> None:
        """Close all sessions at once, because this bridge is broken. Clients reconnect to other replicas."""
        self.admission.draining = True
        abandon(self.registry)

    def _public_routes(self) -> list[Route]:
        traced = self.settings.send_traceparent
        web_socket = WebSocketHandler(self._opener, self.admission, self._starter, self.metrics, traced=traced)
        sse = SseHandler(self._opener, self.admission.origins, self.settings.ping_timeout, traced)
        return [
            ("GET", "/ws", Caller.ANYONE, web_socket.connect),
            ("GET", "/sse", Caller.ANYONE, sse.stream),
            ("OPTIONS", "/sse", Caller.ANYONE, sse.preflight),
            *client_routes(),
        ]

    def _internal_routes(self, admin: AdminHandler, access: Access) -> list[Route]:
        s = self.settings
        types = dict(s.topics)
        dapr = DaprHandler(
            DeliveryReader(types, s.user_id_field, s.max_event_bytes, escaped_headers=s.escaped_headers),
            self.broker,
            self.metrics,
            pubsub=s.pubsub_name,
            topics=types,
            dead_letter_topic=s.dead_letter_topic,
            bulk_wait=s.bulk_wait,
            stations=self.stations,
            tail=self.tail,
            receipts=self._receipts,
            traces=self.traces,
        )
        replicas = self._replicas
        return [
            ("GET", SUBSCRIPTIONS, Caller.SIDECAR, dapr.subscriptions),
            ("POST", "/events/{topic}", Caller.SIDECAR, dapr.events),
            ("GET", "/stats", Caller.VIEWER, admin.stats),
            *user_routes(self.broker, replicas, s.history_ttl if s.redis_url else 0.0),
            ("GET", "/metrics", Caller.PROMETHEUS, admin.scrape),
            *console_routes(s, access, self.broker, replicas, name=self.stations.replica, publish=dapr.take),
        ]

    def _create_broker(self) -> tuple[Broker, ReceiptStore, dict[str, Job]]:
        s = self.settings
        if s.redis_url is None:
            own = memory_broker(s, self.bus, self.metrics)
            return own, own.receipts, {}
        is_pressed = self.slow_consumers.is_pressed
        broker = redis_broker(s.redis_url, s, self.bus, self.metrics, self.checks, is_pressed, self._answer)
        self._poll = broker.replicas.ask if broker.replicas else None
        reconciler = Reconciler(broker, self.registry, self.metrics)
        return broker, broker.receipts, {"stream": broker.run, "reconciler": reconciler.run}

    def _job_failed(self, failure: JobFailed) -> None:
        self.metrics.failed("internal")
        log.error("job.failed", job=failure.job, exc_info=failure.__cause__ or failure)
