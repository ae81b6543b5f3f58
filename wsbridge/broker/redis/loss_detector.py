"""Detects that the server has lost positions that it confirmed: after an outage it may be another or an older one.

A server loses from the end: if it has the last append that it confirmed, it has all earlier ones. So each replica
remembers that append and the positions of its connected users, and looks for them on the server.

No wall clock is used: the server orders what happens in its process by turns (`history.lua`), and durations are
measured on the monotonic clock.
"""

import contextlib
import secrets
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from wsbridge.broker.base import BrokerUnavailable
from wsbridge.broker.redis.codec import all_positions, keys_of, parse_position, position_key
from wsbridge.broker.redis.commands import Command, call
from wsbridge.broker.redis.pipeline import Pipeline
from wsbridge.broker.redis.server import Server
from wsbridge.core.events import Position
from wsbridge.telemetry.log import log
from wsbridge.telemetry.metrics import Metrics

T = TypeVar("T")
_PING = Command("", ("PING",))  # each node must be asked, even without a user to ask for
PORTION = 250  # users in one step of a pass over all users; other tasks run between the steps
PROBES = 8  # keys that are tried for each node, to find one that it owns
STUCK = 5.0  # seconds without progress after which the reset of another replica is taken over
LASTS = 86_400.0  # seconds for which a confirmed append is looked for; less than the lifetime of a position


class _Confirmed(NamedTuple):
    user: str
    position: Position
    at: float


class _Look(NamedTuple):
    mark: int  # the last completed turn at that time
    time: int  # ms, by the time that the server counts
    at: float


class _Busy(NamedTuple):
    progress: bytes
    since: float


class LossDetector:
    def __init__(self, server: Server, prefix: str, metrics: Metrics) -> None:
        self._server = server
        self._metrics = metrics
        self._prefix = prefix
        self._space = f"{server.database} {prefix}"  # positions of one space are forgotten together
        self._pipeline = Pipeline(server)
        self._confirmed: dict[str, _Confirmed] = {}  # node → the last append
        self._looks: dict[str, _Look] = {}  # node → the last look that missed nothing
        self._busy: dict[str, _Busy] = {}  # node → the progress of another replica
        self._written_off: set[tuple[str, str]] = set()  # user and epoch of losses that are handled

    async def close(self) -> None:
        await self._pipeline.close()

    def record(self, user: str, position: Position) -> None:
        """Note that an append for this user is on the server."""
        with contextlib.suppress(BrokerUnavailable):  # the cluster is changing; the next append is noted again
            self._confirmed[self._node(user)] = _Confirmed(user, position, time.monotonic())

    async def check(self, known: Collection[tuple[str, Position]]) -> tuple[dict[str, Position | None], int]:
        """Compare `known` positions of users with the server's. Returns its positions, and how many histories it lost.

        If one is missing, no position of that node can be trusted. All of them are forgotten and begin from scratch
        under another epoch, so that no offset is used twice within one epoch. Raises `BrokerUnavailable` if the server
        cannot be asked now.
        """
        now = time.monotonic()
        latest = [(c.user, c.position) for c in self._confirmed.values() if now - c.at < LASTS]
        expected = [*known, *latest]
        looks = await self._look(user for user, _ in expected)
        found: dict[str, Position | None] = {}
        missing = set[tuple[str, str]]()
        for part in portions(expected):
            found |= await self._positions([user for user, _ in part])
            missing |= {(user, last.epoch) for user, last in part if _is_missing(last, found[user])}
        lost = {user for user, _ in missing - self._written_off}
        for node, user in {self._node(user): user for user in lost}.items():
            await self._forget(node, user)
        self._looks = looks
        self._written_off = missing  # for as long as a session has such a position
        users = list(dict.fromkeys(user for user, _ in known))
        if lost:
            for some in portions(users):
                found |= await self._positions(some)
        return {user: found[user] for user in users}, len(lost)

    async def _look(self, users: Iterable[str]) -> dict[str, _Look]:
        """Look at each node: whether it accepts the bridge's commands, and the turn and time of the look."""
        # The probes are users that need not exist. There are so many that each node very likely owns one.
        count = len(list(self._server.nodes()))
        probes = [f"probe {number}" for number in range(PROBES * count)]
        nodes: dict[str, str] = {}
        for user in (*probes, *users):
            nodes.setdefault(self._node(user), user)
            if len(nodes) >= count:
                break
        commands = [
            call("look", keys_of(self._prefix, user), secrets.token_hex(8), self._time(node))
            for node, user in nodes.items()
        ]
        replies = await self._pipeline.ask(_PING, *commands)
        now = time.monotonic()
        return {node: _Look(mark, at, now) for node, (mark, at) in zip(nodes, replies[1:], strict=True)}

    def _time(self, node: str) -> int | str:
        """The time that the node counts. A new node gets the slowest count, so that nothing expires too early."""
        now = time.monotonic()
        looks = [self._looks[node]] if node in self._looks else self._looks.values()
        return min((look.time + round((now - look.at) * 1000) for look in looks), default="")

    async def _positions(self, users: Sequence[str]) -> dict[str, Position | None]:
        """Read with one command for each slot."""
        slots: dict[int, dict[str, str]] = {}  # slot → key → user
        for user in users:
            key = position_key(self._prefix, user)
            slots.setdefault(self._server.slot_of(key), {})[key] = user
        _, *replies = await self._pipeline.ask(_PING, *(call("positions", list(keys)) for keys in slots.values()))
        owners = [user for keys in slots.values() for user in keys.values()]
        return dict(zip(owners, (parse_position(text) for texts in replies for text in texts), strict=True))

    async def _forget(self, node: str, user: str) -> None:
        """Forget all positions of the node, unless another replica has done so since the last look."""
        now, busy, look = time.monotonic(), self._busy.pop(node, None), self._looks.get(node)
        seen = look.mark if look else ""
        stuck = busy.progress if busy is not None and now - busy.since > STUCK else b""
        match await self._call("forget", user, secrets.token_hex(8), self._space, seen, stuck):
            case b"done":
                pass
            case int(mark):
                self._metrics.losses += 1
                self._metrics.lost_at = time.time()
                log.warning("history.lost", node=node)
                async for keys in self._server.scan(node, all_positions(self._prefix)):
                    await self._pipeline.ask(*(call("drop", [key], self._space, mark) for key in keys))
                await self._call("forgotten", user, secrets.token_hex(8), self._space, mark)
            case progress:
                self._busy[node] = busy if busy and busy.progress == progress else _Busy(progress, now)
                raise BrokerUnavailable("another replica is resetting lost histories")

    async def _call(self, function: str, user: str, *args: str | bytes | int) -> Any:
        """Call a function on the node of the user."""
        return (await self._pipeline.ask(call(function, [keys_of(self._prefix, user).position], *args)))[0]

    def _node(self, user: str) -> str:
        return self._server.node_of(position_key(self._prefix, user))


def portions(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield portions of the items, at least one, so that callers can let other tasks run in between."""
    for start in range(0, max(1, len(items)), PORTION):
        yield items[start : start + PORTION]


def _is_missing(last: Position, found: Position | None) -> bool:
    """Whether the position is lost. Another epoch may be newer, or an old one that a snapshot has brought back."""
    return found is None or found.epoch != last.epoch or found.offset < last.offset
