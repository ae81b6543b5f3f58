"""The answer to a client that reconnects with a position: the missed events, or a gap."""

from typing import NamedTuple

from wsbridge.core.events import Entry, Position


class Gap(NamedTuple):
    """Events after `after` can no longer be replayed.

    `reason` is `expired`, `trimmed` or `reset` (the position is of another history); `after` is None if the client's
    position could not be read.
    """

    after: Position | None
    reason: str


class Resume(NamedTuple):
    """The answer to a position: all entries after it, or a `gap`; never both.

    `position` is the one before the first of the entries. `recovered` is None if the client sent no position. `rest` is
    the number of entries after these; they can be read by a resume from the last of these.
    """

    position: Position
    entries: tuple[Entry, ...] = ()
    recovered: bool | None = None
    gap: Gap | None = None
    rest: int = 0


def decide_resume(asked: str | None, top: Position, kept: int, trimmed: int) -> Resume:
    """Decide by docs/protocol.md, "Position, resume, gap". The caller adds the entries after `position`.

    `kept` is the number of entries in the history, which end at `top`. `trimmed` is the highest offset that was removed
    for lack of room, not because it expired.
    """
    if not asked:
        return Resume(top)
    after = Position.parse(asked)
    if after is None or after.epoch != top.epoch or after.offset > top.offset:
        return Resume(top, recovered=False, gap=Gap(after, "reset"))
    if after.offset + kept < top.offset:
        return Resume(top, recovered=False, gap=Gap(after, "trimmed" if after.offset < trimmed else "expired"))
    return Resume(after, recovered=True)
