"""Data of events that is stored once on the server, under its own key, and referenced by histories.

Otherwise an event that is large, or for many users, would be copied into each history and each message. Data is written
and read in chunks: each is a reply within the time-out, and callers take turns chunk by chunk.
"""

import asyncio
import hashlib
import secrets
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import partial

from wsbridge.broker.base import BrokerUnavailable
from wsbridge.broker.redis.codec import Reference, Referenced, body_key
from wsbridge.broker.redis.commands import Command, call
from wsbridge.broker.redis.pipeline import Pipeline
from wsbridge.broker.redis.server import Server
from wsbridge.core.events import Entry, Event
from wsbridge.supervision.jobs import Jobs

INLINE = 32_768  # bytes, data times users: more data gets its own key
CHUNK = 65_536  # bytes in one command or reply
AT_A_TIME = 8  # chunks of one body in flight
LOADS = 8  # bodies that are read at a time; others wait
CACHE = 33_554_432  # bytes of bodies in this cache; the least recently used are dropped first
MARGIN = 60_000  # ms by which a body outlives the entries that reference it; also the lifetime of an incomplete body


def is_large(event: Event) -> bool:
    """Whether the data gets its own key."""
    return len(event.data) * len(event.users) > INLINE


class Bodies:
    """`ttl` is in ms."""

    def __init__(self, server: Server, prefix: str, ttl: int) -> None:
        self._prefix = prefix
        self._ttl = ttl + 2 * MARGIN
        self._pipeline = Pipeline(server)
        self._jobs = Jobs()
        self._loading: dict[bytes, asyncio.Future[bytes | None]] = {}  # bounded by the number of callers, which wait
        self._slots = asyncio.Semaphore(LOADS)
        self._cache: OrderedDict[bytes, bytes] = OrderedDict()
        self._cached = 0  # bytes

    async def store(self, event: Event) -> Reference:
        """Write the data, unless an earlier delivery has. Raises `BrokerUnavailable` if not all of it was written."""
        data, seed = event.data, event.key.encode(errors="surrogatepass") or secrets.token_bytes(16)
        name = hashlib.blake2b(data, digest_size=16, key=hashlib.blake2b(seed, digest_size=32).digest()).digest()
        reference = Reference(name, len(data), zlib.crc32(data))
        key = body_key(self._prefix, name)
        (is_there,) = await self._pipeline.ask(call("renew", [key], len(data), self._ttl, MARGIN))
        if not is_there:
            for places in _groups(len(data)):
                await self._pipeline.ask(
                    *(call("put", [key], MARGIN, place, data[place : place + CHUNK]) for place in places)
                )
            (is_there,) = await self._pipeline.ask(call("renew", [key], len(data), self._ttl, 0))
            if not is_there:
                raise BrokerUnavailable("the server lost the data of an event while it was being written")
        self._keep(name, data)
        return reference

    def known(self, reference: Reference) -> bytes | None:
        """The data if it is in the cache."""
        data = self._cache.get(reference.name)
        if data is not None:
            self._cache.move_to_end(reference.name)
        return data

    async def load(self, reference: Reference) -> bytes | None:
        """The data; None if the server has lost it. Raises `BrokerUnavailable` if the server cannot be read now."""
        data = self.known(reference)
        if data is not None:
            return data
        found = self._loading.get(reference.name)
        if found is None:
            found = self._loading[reference.name] = asyncio.get_running_loop().create_future()
            await self._jobs.spawn("read", partial(self._load, reference, found))
        return await asyncio.shield(found)

    async def completed(self, entries: Sequence[Entry | Referenced]) -> Sequence[Entry] | None:
        """All entries with their data, read concurrently; None if some data is lost. Raises `BrokerUnavailable`."""
        references = [entry.reference for entry in entries if isinstance(entry, Referenced)]
        found = [data for data in await asyncio.gather(*map(self.load, references)) if data is not None]
        if len(found) < len(references):
            return None
        rest = iter(found)
        return [entry.complete(next(rest)) if isinstance(entry, Referenced) else entry for entry in entries]

    async def close(self) -> None:
        """Cancel all reads; callers get a `CancelledError`."""
        await self._jobs.close()
        for found in self._loading.values():  # jobs that have not begun cannot do it
            found.cancel()
        await self._pipeline.close()

    async def _load(self, reference: Reference, found: asyncio.Future[bytes | None]) -> None:
        """One read for all callers. It is a separate job, so it continues if its first caller is cancelled."""
        try:
            data = await self._read(reference)
        except Exception as error:  # the callers handle it
            found.set_exception(error)
            found.exception()  # do not warn if no caller is left
        except BaseException:
            found.cancel()
            raise
        else:
            found.set_result(data)
        finally:
            del self._loading[reference.name]

    async def _read(self, reference: Reference) -> bytes | None:
        key, chunks = body_key(self._prefix, reference.name), dict[int, bytes]()
        async with self._slots:
            for places in _groups(reference.size):
                commands = [Command(key, ("GETRANGE", key, at, at + CHUNK - 1), CHUNK) for at in places]
                chunks |= zip(places, await self._pipeline.ask(*commands), strict=True)
        data = b"".join(chunks[place] for place in sorted(chunks))
        if len(data) != reference.size or zlib.crc32(data) != reference.check:
            return None
        self._keep(reference.name, data)
        return data

    def _keep(self, name: bytes, data: bytes) -> None:
        self._cached += len(data) - len(self._cache.pop(name, b""))
        self._cache[name] = data
        while self._cached > CACHE:
            _, oldest = self._cache.popitem(last=False)
            self._cached -= len(oldest)


def _groups(size: int) -> Iterator[list[int]]:
    """The offsets of the chunks, in groups.

    The last chunk is first, so that the server allocates all memory at once.
    """
    places = list(range(0, size, CHUNK))[::-1]
    for first in range(0, len(places), AT_A_TIME):
        yield places[first : first + AT_A_TIME]
