"""What `make bench` measures of one running contender."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks.load import Answer, Load
from benchmarks.server import Server

MANY = 1_000_000_000  # requests: the time ends them
AT_ONCE = 32  # handshakes, where they are not what is measured
LANES = 8  # connections of publishers that saturate a server
SETTLE = 0.3  # seconds until a server is done with what it does after a handshake or a burst


@dataclass(frozen=True)
class Plan:
    """How much of each."""

    seconds: float = 1.0  # of each measurement
    rounds: int = 3
    users: int = 1_000
    idle: int = 5_000
    handshakes: int = 2_000


@dataclass(frozen=True)
class Measured:
    """One number, with what is needed to judge it. Latencies are milliseconds."""

    value: float
    load_share: float  # of its core
    redis: float = 0.0  # the same as `value`, of Redis
    rate: float = 0.0  # a second
    p50: float = 0.0
    p99: float = 0.0
    worst: float = 0.0


@dataclass(frozen=True)
class Scenario:
    """A column of the table."""

    name: str
    title: str
    unit: str


SCENARIOS = [
    Scenario("single", "one POST → one of 1,000 users", "µs an event"),
    Scenario("bulk", "bulk of 100 → 100 of 1,000 users", "µs an event"),
    Scenario("bursts", "bulk of 50 for 10 users × 3 sockets", "µs a delivery"),
    Scenario("fanout", "one event → 1,000 sockets", "µs a delivery"),
    Scenario("idle", "an idle connection", "KB"),
    Scenario("handshake", "a handshake, one after the other", "µs"),
]


class Visit:
    """A running server, its load, and the measurements in order."""

    def __init__(self, server: Server, load: Load, plan: Plan) -> None:
        self._server, self._load, self._plan = server, load, plan
        self._dialect = server.contender.dialect

    def all(self) -> Iterator[tuple[str, Measured]]:
        """Scenario by scenario. Memory comes first, while the process has not kept any from earlier ones."""
        self._warm_up()
        yield from self._connections()
        self._open(self._plan.users, 1)
        yield "single", self._posting(1, _events)
        yield "bulk", self._posting(100, _events)
        self._open(30, 3)
        yield "bursts", self._posting(50, _deliveries)
        self._open(self._plan.users, self._plan.users)
        yield "fanout", self._posting(1, _deliveries)

    def _warm_up(self) -> None:
        self._open(10, 1)
        for size in (1, 100):
            self._post(size, self._plan.seconds / 5)

    def _connections(self) -> Iterator[tuple[str, Measured]]:
        self._load.tell("close")
        time.sleep(SETTLE)
        before = self._server.memory
        plan = self._plan
        yield "handshake", self._measured(f"open {plan.handshakes} 1 1", lambda answer: answer.open)
        self._load.tell(f"open {plan.idle - plan.handshakes} 1 {AT_ONCE}")
        time.sleep(SETTLE)
        yield "idle", Measured((self._server.memory - before) / plan.idle, 0.0)

    def _open(self, sockets: int, per_user: int) -> None:
        self._load.tell("close")
        self._load.tell(f"open {sockets} {per_user} {AT_ONCE}")
        time.sleep(SETTLE)

    def _posting(self, size: int, count: Callable[[Answer], int]) -> Measured:
        self._post(size, self._plan.seconds / 5)  # caches
        return self._measured(f"post {MANY} {self._plan.seconds} 1 {size} 0", count)

    def _post(self, size: int, seconds: float) -> None:
        self._load.set(self._dialect.settings(is_bulk=size > 1))
        self._load.tell(f"post {MANY} {seconds} 1 {size} 0")

    def _measured(self, command: str, count: Callable[[Answer], int]) -> Measured:
        cpu, redis = self._server.cpu, self._server.redis_cpu
        answer = self._load.tell(command)
        units = count(answer)
        return Measured(
            1e6 * (self._server.cpu - cpu) / units,
            answer.load_share,
            1e6 * (self._server.redis_cpu - redis) / units,
            units / answer.seconds,
            answer.p50 / 1e3,
            answer.p99 / 1e3,
            answer.max / 1e3,
        )


def _events(answer: Answer) -> int:
    return answer.events


def _deliveries(answer: Answer) -> int:
    return answer.deliveries
