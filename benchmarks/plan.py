"""The scenarios of `make bench`, their size, and the result of one measurement."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Plan:
    """The size of each measurement. `seconds` is the length of one."""

    seconds: float = 0.6
    rounds: int = 3
    users: int = 1_000
    handshakes: int = 1_000
    many: int = 10_000  # connections in the scenarios idle, heartbeat and storm
    most: int = 15_000  # connections in the scenario crowd
    missed: int = 20  # events of each user while its client is disconnected in the storm
    ping_seconds: float = 10.0  # while heartbeats are measured


QUICK = Plan(
    seconds=0.1, rounds=1, users=100, handshakes=50, many=200, most=300, missed=5, ping_seconds=1.0
)  # to check the counts: its numbers mean nothing


@dataclass(frozen=True)
class Measured:
    """One measurement of a contender. `value` is what the scenario compares."""

    value: float
    load_share: float = 0.0  # of the load generator's core
    redis: float = 0.0  # the CPU time of Redis, in the unit of `value`
    receiver: float = 0.0  # the part of `value` of the replica that takes the posts, if that is another one
    rate: float = 0.0  # units a second
    seconds: float = 0.0
    p50: float = 0.0  # milliseconds
    p99: float = 0.0
    worst: float = 0.0


@dataclass(frozen=True)
class Scenario:
    """A column of the tables. Only if `compared`, the table has multiples of the floor."""

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
