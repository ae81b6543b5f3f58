"""Receipts on the server, shared by all replicas. The functions are in `receipts.lua`."""

import zlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from wsbridge.broker.receipts import AT_ONCE, LEASE, MOST
from wsbridge.broker.redis.codec import digest_of
from wsbridge.broker.redis.commands import Command, call
from wsbridge.broker.redis.pipeline import Pipeline
from wsbridge.core.receipts import LONGEST, Awaited, Reached

SHARDS = 16  # so that a cluster spreads them
USERS = 256  # in one call
Item = TypeVar("Item")
_LASTS = round((LONGEST + 600) * 1000)  # ms that a user's key lasts, after the last receipt was stored
_receipt = msgspec.msgpack.Decoder(Awaited)


@dataclass(eq=False, kw_only=True)
class RedisReceipts:
    """`known_ttl` is in ms. `now` returns the time in ms, or "" to use the server's clock."""

    pipeline: Pipeline
    prefix: str
    known_ttl: int
    now: Callable[[], str | int]
    pending: int = 0

    async def expect(self, receipts: Sequence[Awaited]) -> int:
        calls, most = [], MOST // SHARDS
        for shard, own in self._sharded(receipts, lambda one: one.user):
            for start in range(0, len(own), USERS):
                part = own[start : start + USERS]
                keys = [f"{shard}:due", f"{shard}:known", *{self._user_key(one.user) for one in part}]
                words = [
                    word for one in part for word in (one.id, round(one.after * 1000), msgspec.msgpack.encode(one))
                ]
                calls.append(call("expect", keys, self.now(), self.known_ttl, most, _LASTS, *words))
        return sum(await self.pipeline.ask(*calls))

    async def note(self, reached: Mapping[str, Reached]) -> None:
        calls = []
        for _, own in self._sharded(reached, lambda user: user):
            for start in range(0, len(own), USERS):
                users = own[start : start + USERS]
                states = [" ".join(map(str, reached[user])) for user in users]
                calls.append(call("note", [self._user_key(user) for user in users], *states))
        await self.pipeline.ask(*calls)

    async def due(self) -> Sequence[Awaited]:
        shards = [self._shard(number) for number in range(SHARDS)]
        most = AT_ONCE // SHARDS
        calls = [call("due", [f"{shard}:due"], self.now(), round(LEASE * 1000), most) for shard in shards]
        replies = await self.pipeline.ask(*calls)
        self.pending = sum(pending for pending, _ in replies)
        return [_receipt.decode(packed) for _, found in replies for packed in found]

    async def reached(self, users: Collection[str]) -> Mapping[str, Reached]:
        keys = [self._user_key(user) for user in users]
        replies = await self.pipeline.ask(*(Command(key, ("GET", key)) for key in keys))
        return {user: _reached(reply) for user, reply in zip(users, replies, strict=True) if reply}

    async def done(self, receipts: Sequence[Awaited]) -> None:
        if receipts:
            keys = [f"{self._shard_of(one.user)}:due" for one in receipts]
            words = [("ZREM", key, msgspec.msgpack.encode(one)) for key, one in zip(keys, receipts, strict=True)]
            await self.pipeline.ask(*(Command(key, each) for key, each in zip(keys, words, strict=True)))

    def _sharded(self, items: Iterable[Item], user_of: Callable[[Item], str]) -> Iterable[tuple[str, list[Item]]]:
        found: dict[str, list[Item]] = {}
        for item in items:
            found.setdefault(self._shard_of(user_of(item)), []).append(item)
        return found.items()

    def _shard_of(self, user: str) -> str:
        return self._shard(zlib.crc32(user.encode(errors="surrogatepass")) % SHARDS)

    def _shard(self, number: int) -> str:
        return f"{self.prefix}:{{receipts-{number}}}"

    def _user_key(self, user: str) -> str:
        return f"{self._shard_of(user)}:u:{digest_of(user).hex()}"


def _reached(text: bytes) -> Reached:
    epoch, written, handled = text.decode().split(" ")
    return Reached(epoch, int(written), int(handled))
