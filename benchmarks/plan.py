"""What `make bench` measures, how much of each, and what a measurement is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """How much of each. `seconds` is the time of one measurement."""

    seconds: float = 0.6
    rounds: int = 3
    users: int = 1_000
    handshakes: int = 1_000
    many: int = 10_000  # connections whose memory is measured, that send pings, and that all reconnect
    most: int = 15_000
    missed: int = 20  # events of each user during the storm
    ping_seconds: float = 10.0  # while heartbeats are measured


QUICK = Plan(
    seconds=0.1, rounds=1, users=100, handshakes=50, many=200, most=300, missed=5, ping_seconds=1.0
)  # to check the counts: its numbers mean nothing


@dataclass(frozen=True)
class Measured:
    """One measurement of a contender. `value` is what the scenario compares."""

    value: float
    load_share: float = 0.0  # of the load generator's core
    redis: float = 0.0  # the same as `value`, of Redis
    rate: float = 0.0  # a second
    seconds: float = 0.0
    p50: float = 0.0  # milliseconds
    p99: float = 0.0
    worst: float = 0.0


@dataclass(frozen=True)
class Scenario:
    """A column of the tables. Where it has no `unit`, contenders are not compared with the floor."""

    name: str
    title: str
    unit: str
    compared: bool = True


SCENARIOS = [
    Scenario("single", "one POST → one of 1,000 users", "µs an event"),
    Scenario("bulk", "bulk of 100 → 100 of 1,000 users", "µs an event"),
    Scenario("bursts", "bulk of 50 for 10 users × 3 sockets", "µs a delivery"),
    Scenario("fanout", "one event → 1,000 sockets", "µs a delivery"),
    Scenario("idle", "an idle connection", "KB", compared=False),
    Scenario("handshake", "a handshake, one after the other", "µs"),
]
AT_SCALE = [
    Scenario("latency", "single POSTs at half of the highest rate", "ms, p50 / p99", compared=False),
    Scenario("heartbeat", "a ping and its pong, 10,000 idle connections", "µs"),
    Scenario("crowd", "bulk of 100 with 15,000 connections", "µs an event"),
    Scenario("storm", "10,000 clients reconnect", "µs a client"),
]
