"""Histories as they are read from the server, in portions: with their data, or a gap where the server has lost some."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from wsbridge.broker.redis.append import Limits, seed
from wsbridge.broker.redis.bodies import Bodies
from wsbridge.broker.redis.codec import Referenced, decode_entries, keys_of
from wsbridge.broker.redis.commands import call
from wsbridge.broker.redis.forwarder import to_monotonic
from wsbridge.broker.redis.pipeline import Pipeline
from wsbridge.core.events import Entry, Position
from wsbridge.core.recovery import Gap, Resume, decide_resume

PORTION = 262_144  # bytes of a history that are read at a time
LOADED = 1_048_576  # the same with data that is elsewhere


@dataclass(eq=False, slots=True, kw_only=True)
class Reader:
    """`now` is in ms, or empty where the server's clock counts. What `Broker` promises holds here, too."""

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
        return await self._completed(resume, top, decode_entries(user, b"".join(packed), to_monotonic()), wait=wait)

    async def _completed(
        self, resume: Resume, top: Position, found: Iterable[Entry | Referenced], *, wait: bool
    ) -> Resume:
        """With a portion of the entries: all data up to a bound, or that of one entry that is larger."""
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
        if complete is None:  # the server has lost some: what is behind it is no use without it
            return Resume(top, (), False, Gap(resume.position, "expired"))  # noqa: FBT003 - `recovered`
        rest = top.offset - resume.position.offset - len(portion)
        return resume._replace(entries=tuple(complete), rest=rest)
