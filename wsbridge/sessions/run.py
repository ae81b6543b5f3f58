"""Entries of one user with their frames, which are made once for all sessions of a transport."""

from collections.abc import Sequence

import msgspec

from wsbridge.core.events import Entry


class Run(msgspec.Struct, frozen=True, gc=False):
    """A session at the position `epoch:after` may take all of it at once."""

    epoch: str
    after: int  # -1 if the entries do not follow each other
    last: int
    entries: Sequence[Entry]
    frames: Sequence[bytes]
    data: bytes  # all frames


def run_of(entries: Sequence[Entry], frames: Sequence[bytes]) -> Run:
    """There must be a frame for each entry."""
    if len(entries) == 1:  # as usual
        [entry], [frame] = entries, frames
        return Run(entry.epoch, entry.offset - 1, entry.offset, entries, frames, frame)
    offsets = [entry.offset for entry in entries]
    if offsets and offsets == list(range(offsets[0], offsets[-1] + 1)) and len({entry.epoch for entry in entries}) == 1:
        return Run(entries[0].epoch, offsets[0] - 1, offsets[-1], entries, frames, b"".join(frames))
    return Run("", -1, 0, entries, frames, b"")
