"""Measures each scenario on a running contender."""

import time
from collections.abc import Callable, Iterator

from benchmarks.load import Answer, Load
from benchmarks.plan import Measured, Plan
from benchmarks.server import Server

MANY = 1_000_000_000  # requests: never reached, the time limit ends the measurement
AT_ONCE = 32  # concurrent handshakes, if handshakes are not measured
STORM = 256  # concurrent handshakes while all clients reconnect
LANES = 8  # publishers' connections, enough to saturate a server
BULK = 100
SETTLE = 0.3  # seconds in which a server finishes its work after handshakes or a burst


class Visit:
    """Measurements on one running server. The order matters: they reuse connections."""

    def __init__(self, server: Server, load: Load, plan: Plan) -> None:
        self._server, self._load, self._plan = server, load, plan
        self._dialect = server.contender.dialect

    def costs(self) -> Iterator[tuple[str, Measured]]:
        """Measure the costs of events and handshakes."""
        self._warm_up()
        self._load.tell("close")
        yield "handshake", self._measured(f"open {self._plan.handshakes} 1 1", _open)
        self._open(self._plan.users, 1)
        yield "single", self._posting(1, _events)
        yield "latency", self._latency()
        yield "bulk", self._posting(BULK, _events)
        self._open(30, 3)
        yield "bursts", self._posting(50, _deliveries)
        self._open(self._plan.users, self._plan.users)
        yield "fanout", self._posting(1, _deliveries)

    def heartbeats(self) -> Iterator[tuple[str, Measured]]:
        """Measure the cost of a ping and its pong. The server must ping every `plan.ping_seconds`."""
        self._open(self._plan.many, 1)
        measured = self._measured(f"idle {self._plan.ping_seconds}", lambda answer: answer.pings or 1)
        if measured.rate > 1:  # the C floor sends no pings
            yield "heartbeat", measured

    def crowd(self) -> Iterator[tuple[str, Measured]]:
        """Measure memory of many connections, let all reconnect, then measure bulks with even more connections."""
        self._warm_up()
        self._load.tell("close")
        time.sleep(SETTLE)  # until the memory of the closed connections is freed
        before = self._server.memory
        if self._server.contender.resumes:
            self._load.set({"resume": "1"})
        self._open(self._plan.many, 1)
        yield "idle", Measured((self._server.memory - before) / self._plan.many)
        yield "storm", self._storm()
        self._load.set({"resume": ""})
        self._load.tell(f"open {self._plan.most - self._plan.many} 1 {AT_ONCE}")
        time.sleep(SETTLE)  # the work after the handshakes is not measured
        yield "crowd", self._posting(BULK, _events)

    def _warm_up(self) -> None:
        self._open(10, 1)
        for size in (1, BULK):
            self._post(size, self._plan.seconds / 2)

    def _latency(self) -> Measured:
        """Measure latencies at half of the highest rate. A latency begins when its request is due."""
        highest = self._load.tell(f"post {MANY} {self._plan.seconds} {LANES} 1 0")
        rate = highest.events / highest.seconds / 2
        measured = self._measured(f"post {MANY} {2 * self._plan.seconds} {LANES} 1 {rate}", _events)
        return Measured(**(vars(measured) | {"value": measured.p99, "redis": 0.0, "receiver": 0.0}))

    def _storm(self) -> Measured:
        """Break all connections. If clients can resume, events are published before they do, and all must arrive.

        With Redis, the server is also killed and restarted. Without Redis that would lose the history.
        """
        self._load.tell("drop")
        if self._server.contender.resumes:
            self._load.set(self._dialect.settings(is_bulk=True))
            self._load.tell(f"post {self._plan.many * self._plan.missed // BULK} {MANY} 1 {BULK} 0")
            self._load.set({"upgrade": self._dialect.resume})
        if self._server.contender.redis:
            self._server.restart()
            self._load.tell("redial")
        return self._measured(f"open 0 1 {STORM}", _open)

    def _open(self, sockets: int, per_user: int) -> None:
        self._load.tell("close")
        self._load.tell(f"open {sockets} {per_user} {AT_ONCE}")
        time.sleep(SETTLE)  # the work after the handshakes is not measured

    def _posting(self, size: int, count: Callable[[Answer], int]) -> Measured:
        self._post(size, self._plan.seconds / 2)  # warm-up of caches and just-in-time compilers
        return self._measured(f"post {MANY} {self._plan.seconds} 1 {size} 0", count)

    def _post(self, size: int, seconds: float) -> None:
        self._load.set(self._dialect.settings(is_bulk=size > 1))
        self._load.tell(f"post {MANY} {seconds} 1 {size} 0")

    def _measured(self, command: str, count: Callable[[Answer], int]) -> Measured:
        server = self._server
        cpu, redis, receiver = server.cpu, server.redis_cpu, server.receiver_cpu
        answer = self._load.tell(command)
        units = count(answer)
        return Measured(
            value=1e6 * (server.cpu - cpu) / units,
            load_share=answer.load_share,
            redis=1e6 * (server.redis_cpu - redis) / units,
            receiver=1e6 * (server.receiver_cpu - receiver) / units,
            rate=units / answer.seconds,
            seconds=answer.seconds,
            p50=answer.p50 / 1e3,
            p99=answer.p99 / 1e3,
            worst=answer.max / 1e3,
        )


def _events(answer: Answer) -> int:
    return answer.events


def _deliveries(answer: Answer) -> int:
    return answer.deliveries


def _open(answer: Answer) -> int:
    return answer.open
