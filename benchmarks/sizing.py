"""Replicas, cores and memory for a number of connections: the formulas and the tables of docs/scaling.md.

`python -m benchmarks.sizing` prints the tables; with `--connections` and `--events`, your own row.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Costs:
    """Measured costs of bridges that share a Redis. CPU times are µs. docs/scaling.md names the source of each."""

    event: float = 51.4  # of the bridges, in bulks of 100: to receive, store and deliver it
    event_redis: float = 20.8
    event_sidecar: float = 27.0
    single: float = 386.0  # of the bridges, for an event in a request of its own
    single_sidecar: float = 670.0
    sweep: float = 0.93  # in each second, to see whether a connection is silent
    ping: float = 16.2  # and its pong
    look: float = 9.3  # compares the position of a connected user with Redis
    look_redis: float = 1.7
    reconnect: float = 362.0  # with a handshake, and missed events
    reconnect_redis: float = 43.5
    base: float = 49.0  # MB of a bridge without connections
    process: float = 4.5  # KB of a connection
    kernel: float = 5.3  # KB of one end of a connection
    user: float = 435.0  # bytes of a connected user in Redis, without events
    kept: float = 155.0  # bytes of an event in Redis, beside its data
    id: float = 128.0  # bytes of an event's id in Redis


COSTS = Costs()
LOOK = 3.0  # seconds between two comparisons with Redis
FULL = 20_000  # connections of a replica: at the default handshake rate, all of them reconnect within 20 s
BUSY = 0.7  # share of a core that a bridge may use while one replica is unavailable
SHARD_BUSY = 0.5  # share of a core that a shard of Redis may use
SHARD_GB = 16.0
FILLING = 500.0  # events a second of a replica above which bulks begin to fill
UNSENT_MB = 256.0  # bounds of WSBRIDGE_MAX_UNSENT_BYTES and WSBRIDGE_QUEUE_MAX_BYTES together
STEPS = (1_000, 10_000, 50_000, 100_000, 250_000, 1_000_000, 10_000_000)
RATES = {"an event a minute": 1 / 60, "an event a second": 1.0}  # for each connection


@dataclass(frozen=True)
class Demand:
    """`events` come in a second for all users, with `size` bytes of data. Each connection belongs to another user.

    The other values are the defaults of the settings of the same names.
    """

    connections: int
    events: float
    size: float = 1_000
    ping_interval: float = 25.0
    history_size: int = 100
    history_ttl: float = 300.0
    dedupe_ttl: float = 3_600.0
    handshake_rate: float = 1_000.0

    @property
    def pings(self) -> float:
        """A second."""
        return self.connections / self.ping_interval

    @property
    def idle_cores(self) -> float:
        """Of all bridges, for checks for silence, pings and comparisons with Redis."""
        each = COSTS.sweep + COSTS.ping / self.ping_interval + COSTS.look / LOOK
        return self.connections * each / 1e6

    @property
    def cores(self) -> float:
        """Of all bridges, if bulks are full."""
        return self.idle_cores + self.events * COSTS.event / 1e6

    @property
    def most_cores(self) -> float:
        """The same if events have requests of their own, as at low rates."""
        return max(self.cores, self.idle_cores + self._single_events * COSTS.single / 1e6)

    @property
    def sidecar_cores(self) -> float:
        """Of the sidecars of all bridges, if bulks are full."""
        return self.events * COSTS.event_sidecar / 1e6

    @property
    def most_sidecar_cores(self) -> float:
        return max(self.sidecar_cores, self._single_events * COSTS.single_sidecar / 1e6)

    @property
    def redis_cores(self) -> float:
        return (self.connections / LOOK * COSTS.look_redis + self.events * COSTS.event_redis) / 1e6

    @property
    def replicas(self) -> int:
        """All but one of them can carry everything. Under load bulks are full."""
        return max(1, math.ceil(self.connections / FULL), math.ceil(self.cores / BUSY)) + 1

    @property
    def share(self) -> float:
        """Connections of a replica while one is unavailable."""
        return self.connections / (self.replicas - 1)

    @property
    def memory(self) -> float:
        """MB that a replica's memory limit must allow: process, kernel, and the bounds of unsent bytes."""
        return COSTS.base + self.share * (COSTS.process + COSTS.kernel) / 1e3 + UNSENT_MB

    @property
    def redis_gb(self) -> float:
        kept = min(self.history_size * self.connections, self.events * self.history_ttl)
        ids = self.events * self.dedupe_ttl
        return (self.connections * COSTS.user + kept * (COSTS.kept + self.size) + ids * COSTS.id) / 1e9

    @property
    def shards(self) -> int:
        """Primaries of Redis, for its cores and its memory."""
        return max(1, math.ceil(self.redis_cores / SHARD_BUSY), math.ceil(self.redis_gb / SHARD_GB))

    @property
    def storm(self) -> float:
        """Seconds within which all clients reconnect at once, if they do not wait: the slowest of three limits."""
        share = self.connections / self.replicas
        return max(
            share / self.handshake_rate - 2,  # a burst of two seconds' worth is allowed
            share * COSTS.reconnect / 1e6,
            self.connections * COSTS.reconnect_redis / self.shards / 1e6,
        )

    @property
    def _single_events(self) -> float:
        """Events a second with requests of their own, at most."""
        return min(self.events, self.replicas * FILLING)

    def __str__(self) -> str:
        cells = [
            f"{self.connections:,}", f"{self.events:,.0f}", f"{self.replicas:,}", _range(self.cores, self.most_cores),
            f"{self.memory:,.0f} MB", _range(self.sidecar_cores, self.most_sidecar_cores),
            f"{self.shards:,}", _number(self.redis_cores), f"{_number(self.redis_gb)} GB",
            f"{self.pings:,.0f}", f"{self.storm:,.0f} s",
        ]  # fmt: skip
        return f"| {' | '.join(cells)} |"


def table(demands: list[Demand]) -> str:
    heads = [
        "connections", "events/s", "replicas", "cores of all bridges", "memory of a replica", "cores of all sidecars",
        "shards of Redis", "cores of Redis", "memory of Redis", "pings/s", "all reconnect within",
    ]  # fmt: skip
    return "\n".join([f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}", *map(str, demands)])


def tables() -> dict[str, str]:
    """The tables of docs/scaling.md by their titles."""
    return {
        title: table([Demand(connections, connections * rate) for connections in STEPS])
        for title, rate in RATES.items()
    }


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}" if value >= 0.1 else f"{value:.2f}"


def _range(least: float, most: float) -> str:
    return f"{_number(least)} to {_number(most)}"


def main(words: Sequence[str] | None = None) -> None:
    """`words` are the arguments, those of the process by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sizing", description=__doc__)
    parser.add_argument("--connections", type=int, help="at the same time, of all replicas")
    parser.add_argument("--events", type=float, default=0.0, help="in a second, for all users")
    parser.add_argument("--size", type=float, default=Demand.size, help="bytes of data of an event")
    asked = parser.parse_args(words)
    if asked.connections:
        print(table([Demand(asked.connections, asked.events, asked.size)]))
    else:
        print("\n\n".join(f"{title}:\n\n{text}" for title, text in tables().items()))


if __name__ == "__main__":
    main()
