"""Reads histories from the server in portions, with their data. If the server has lost data, the answer is a gap."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from wsbridge.broker.redis.append import Limits, seed
from wsbridge.broker.redis.bodies import Bodies
from wsbridge.broker.redis.codec import Referenced, decode_entries, keys_of
from wsbridge.broker.redis.commands import Command, call
from wsbridge.broker.redis.forwarder import received_at
from wsbridge.broker.redis.pipeline import Pipeline
from wsbridge.core.events import Entry, Position
from wsbridge.core.recovery import Gap, Resume, decide_resume

PORTION = 262_144  # bytes of a history that are read at a time
SEARCHED, STEP = 2_048, 16  # entries of a history that `find` reads in all, and at a time
LOADED = 1_048_576  # bytes of entries that one resume returns, with data that has its own key; or one larger entry


@dataclass(eq=False, slots=True, kw_only=True)
class Reader:
    """`now` is in ms, or "" to use the server's clock. The contract is that of `Broker.resume`."""

    pipeline: Pipeline
    bodies: Bodies
    prefix: str
    limits: Limits
    now: Callable[[], str | int]

    async def resume(self, user: str, after: str | None, *, wait: bool = True) -> Resume:
        asked = Position.parse(after) if after else None
        known = (asked.epoch, asked.offset) if asked else ("", 0)
        limits = (self.limits.size, self.limits.ttl, self.limits.position_ttl)
        keys = keys_of(self.prefix, user)[:2]
        (reply,) = await self.pipeline.ask(call("resume", keys, self.now(), seed(), *limits, *known, PORTION))
        epoch, offset, trimmed, kept, packed = reply
        top = Position(epoch.decode(), offset)
        resume = decide_resume(after, top, kept, trimmed)
        if not (resume.recovered and packed):
            return resume
        return await self._completed(resume, top, decode_entries(user, b"".join(packed), received_at), wait=wait)

    async def find(self, user: str, event_id: str) -> Position | None:
        """The position of the newest entry of an event, among the newest `SEARCHED`."""
        key, wanted = keys_of(self.prefix, user).entries, event_id.encode(errors="replace")
        for last in range(-1, -SEARCHED, -STEP):
            (reply,) = await self.pipeline.ask(Command(key, ("LRANGE", key, last - STEP + 1, last)))
            for packed in reversed(reply):
                if wanted in packed:
                    for found in decode_entries(user, packed, received_at):
                        entry = found.entry if isinstance(found, Referenced) else found
                        if entry.event_id == event_id:
                            return Position(entry.epoch, entry.offset)
            if len(reply) < STEP:
                break
        return None

    async def _completed(
        self, resume: Resume, top: Position, found: Iterable[Entry | Referenced], *, wait: bool
    ) -> Resume:
        """A portion of the entries with their data: up to a bound of bytes, or one larger entry."""
        portion, size = list[Entry | Referenced](), 0
        for entry in found:
            if isinstance(entry, Referenced):
                if not wait and self.bodies.known(entry.reference) is None:
                    break
                size += entry.reference.size
            else:
                size += len(entry.data)
            if portion and size > LOADED:
                break
            portion.append(entry)
        complete = await self.bodies.completed(portion)
        if complete is None:  # some data is lost, so the entries after it are of no use
            return Resume(top, (), False, Gap(resume.position, "expired"))  # noqa: FBT003 - `recovered`
        rest = top.offset - resume.position.offset - len(portion)
        return resume._replace(entries=tuple(complete), rest=rest)
