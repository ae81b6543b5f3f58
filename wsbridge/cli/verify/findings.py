"""Names what a run has found: each finding with its evidence and its cure. Pure."""

import shlex
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence

from wsbridge.cli.verify.catalogue import Finding
from wsbridge.cli.verify.record import Cut, Gap, Record, Track, counted
from wsbridge.cli.verify.viewer import Flaw
from wsbridge.core.close_codes import LOST

OVERLAP = 1.0  # seconds for which a user has two histories: longer than a restart
HELD = 1.0  # seconds by which a delivery is later than the fastest one
HELD_SHARE = 0.05  # of the deliveries
LATE = 5.0  # seconds until the bridge has an event
DARK = 10.0  # seconds without a connection
IDLE = 1.0  # seconds without a message
TAIL = 3  # latest events that a user must have missed to be reported as getting nothing any more
_SAME = 0.1, 0.5  # how much the idle times of cut connections may differ: a share, and seconds


_OF_FLAWS = {
    Flaw.TWICE: "twice",
    Flaw.OUT_OF_ORDER: "out-of-order",
    Flaw.ALTERED: "altered",
    Flaw.WRONG_USER: "wrong-user",
    Flaw.PROTOCOL: "protocol",
}


def examine(record: Record) -> list[Finding]:
    """All findings, failures first. A loss that one of them explains has no finding of its own."""
    found = [*_of_setup(record), *_of_loss(record), *_of_connections(record), *_of_gaps(record), *_of_times(record)]
    for flaw, code in _OF_FLAWS.items():
        if record.flaws[flaw]:
            found.append(Finding(code, f"{_times(record.flaws[flaw])}, first: {_first(record, flaw)}"))
    if not record.latencies and not any(finding.is_failure for finding in found):
        found.append(Finding("nothing-verified", "no event arrived, and none was expected"))
    return sorted(found, key=lambda finding: not finding.is_failure)


def is_explained(record: Record, gap: Gap) -> bool:
    """Whether the gap has a cause: an outage, the limits of the history, the command, or another replica's history."""
    return gap.explained or (gap.reason == "reset" and bool(_divided(record)))


def _of_setup(record: Record) -> Iterator[Finding]:
    ended = Counter(t.ended or t.trouble or "no answer" for t in record.tracks if t.ended or not t.connected)
    for reason, count in ended.most_common(3):
        yield Finding("unreachable", f"{count} of {len(record.tracks)} clients: {reason}")
    unsent = sum(record.ledger.count(user) - record.ledger.required(user) for user in record.users)
    if unsent:
        reason = record.problems.most_common(1)[0][0] if record.problems else "no answer"
        yield Finding("publish-failed", f"{counted(unsent, 'event')} not accepted: {reason}")
    during = record.during
    if during is not None and during.code is None and not record.interrupted:
        yield Finding("during-unfinished", f"`{during.command}` had not ended in time, and was killed")
    elif during is not None and during.code:
        yield Finding("during-failed", f"`{during.command}` ended with exit code {during.code}")


def _of_loss(record: Record) -> Iterator[Finding]:
    lost = sum(track.lost for track in record.tracks)
    if record.flaws[Flaw.SKIPPED]:
        yield Finding("frames-dropped", f"{_times(record.flaws[Flaw.SKIPPED])}, {_first(record, Flaw.SKIPPED)}")
    if not lost:
        return
    reached = [user for user in record.users if _tracks(record, user)]
    silent = [user for user in reached if _tail(record, user)]
    divided = [user for user in _divided(record) if _was_got_by_another(record, user)]
    if divided:
        yield Finding(
            "competing-replicas",
            f"{counted(len(divided), 'user')} had clients on replicas with separate histories, and events "
            f"reached the clients of one of them only: {counted(lost, 'delivery', 'deliveries')} lost",
        )
    elif silent and silent == reached and (not record.latencies or max(_tail(record, each) for each in silent) >= TAIL):
        more = " any more" if record.latencies else ""
        text = f"no client got an event{more}: {counted(lost, 'delivery', 'deliveries')} lost"
        yield Finding("nothing-arrives", text)
    elif any(_tail(record, user) >= TAIL for user in silent):
        user = max(silent, key=lambda user: _tail(record, user))
        yield Finding(
            "partition-lost",
            f"no event reached {len(silent)} of {len(reached)} users any more, and all others got theirs: "
            f"a partition is not delivered. {_why(record, user, record.ledger.required(user))}",
        )
    elif not record.flaws[Flaw.SKIPPED]:
        track = next(track for track in record.tracks if track.lost)
        serial = next(iter(track.viewer.missed), track.viewer.serial + 1)
        text = f"{counted(lost, 'delivery', 'deliveries')} lost. {_why(record, track.viewer.user, serial)}"
        yield Finding("lost", text)


def _of_connections(record: Record) -> Iterator[Finding]:
    cuts = [cut for track in record.tracks for cut in track.cuts if cut.close == LOST and not cut.expected]
    idle = [cut.idle for cut in cuts if cut.idle >= IDLE]
    start = record.during.start if record.during else record.ended
    early = [cut for cut in cuts if cut.at < start]
    if _is_timeout(cuts, idle):
        middle = statistics.median(idle)
        yield Finding("idle-cut", f"{counted(len(idle), 'connection')} cut after {middle:.1f} s without a message")
    elif early:
        yield Finding("connections-lost", f"{counted(len(early), 'connection')} ended without a close frame")
    away = [track for track in record.tracks if track.away is not None and not track.ended]
    if away:
        missing = counted(sum(track.missing - track.lost for track in away), "delivery", "deliveries")
        text = f"{len(away)} of {len(record.tracks)} clients had no connection at the end, and lack {missing}"
        yield Finding("away", f"{text}: {away[0].trouble}")
    dark = max((track.dark_ms for track in record.tracks), default=0.0)
    if dark > DARK * 1_000:
        yield Finding("dark", f"a client had no connection for {dark / 1_000:.1f} s")


def _is_timeout(cuts: Sequence[Cut], idle: Sequence[float]) -> bool:
    """Whether connections were cut because they were idle: most cuts, after the same time without a message."""
    if len(idle) < 2 or len(idle) < 0.8 * len(cuts):  # noqa: PLR2004 - two cuts can be compared
        return False
    middle = statistics.median(idle)
    near = [time for time in idle if abs(time - middle) <= max(_SAME[0] * middle, _SAME[1])]
    return len(near) >= 0.8 * len(idle)


def _of_gaps(record: Record) -> Iterator[Finding]:
    gaps = [gap for track in record.tracks for gap in track.gaps]
    unexplained = [gap for gap in gaps if not is_explained(record, gap)]
    resets = [gap for gap in gaps if gap.reason == "reset" and is_explained(record, gap)]
    others = len(gaps) - len(unexplained) - len(resets)
    if unexplained:
        yield Finding("gap-unexplained", f"{counted(len(unexplained), 'gap')}: {_first(record, Flaw.GAP)}")
    divided = _divided(record)
    if divided and not any(_was_got_by_another(record, user) for user in divided):
        text = f"{counted(len(divided), 'user')} had clients in two histories, {counted(len(resets), 'gap')}"
        yield Finding("separate-histories", text)
    elif resets and not divided:
        yield Finding(
            "history-lost", f"{counted(len(resets), 'gap')} after the command: the history did not survive it"
        )
    if others:
        yield Finding("gaps", f"{counted(others, 'gap')} after clients were away for longer than the history lasts")


def _of_times(record: Record) -> Iterator[Finding]:
    if record.after:
        least = min(record.after)  # it contains the difference of the clocks
        held = sum(late - least > HELD for late in record.after) / len(record.after)
        if held > HELD_SHARE:
            text = f"{held:.0%} of the deliveries were more than {HELD:g} s between the bridge and the client"
            yield Finding("held-back", text)
    if record.before and (longest := max(record.before) - min(record.before)) > LATE:
        yield Finding("late", f"an event took {longest:.1f} s from the publisher to the bridge")


def _tracks(record: Record, user: str) -> list[Track]:
    """The clients of a user that had a connection at the end."""
    return [t for t in record.tracks if t.viewer.user == user and t.connected and t.away is None]


def _tail(record: Record, user: str) -> int:
    """How many of the last events of a user no client got."""
    return min(len(track.viewer.lacking()) for track in _tracks(record, user))


def _divided(record: Record) -> list[str]:
    """The users whose clients had positions of two histories at the same time."""
    return [user for user in record.users if record.overlap(user) > OVERLAP]


def _was_got_by_another(record: Record, user: str) -> bool:
    """Whether one client of the user got an event that another one lost."""
    missed = [track.viewer.missed | set(track.viewer.lacking()) for track in _tracks(record, user)]
    return any(events != missed[0] for events in missed[1:])


def _why(record: Record, user: str, serial: int) -> str:
    return shlex.join(["wsbridge", "why", user, record.event_id(user, serial)])


def _first(record: Record, flaw: Flaw) -> str:
    return record.examples[flaw][0].partition("\n")[0]


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"
