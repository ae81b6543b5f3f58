"""Explains in one sentence why an event has arrived or not. Compares the accounts of all replicas; does no I/O."""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from wsbridge.core.events import Position
from wsbridge.telemetry.stations.account import Account, Arrival, Connection, Relay
from wsbridge.telemetry.stations.fates import Kind, at_the_time, fate_of, has_handled, span

ABSENT = "no connection when it arrived"
CANARY = "run wsbridge doctor --canary"
CLAUSES = 3  # about single connections in one answer, at most
PLACES = 3  # topics and partitions in one answer, at most
QUIET = 10.0  # seconds without a delivery after which a partition may be blocked


class Code(StrEnum):
    """The fate of the event for the user, in one word."""

    DELIVERED = "delivered"  # to every connection that was open, or that resumed
    PARTLY = "partly_delivered"
    STORED = "stored"  # it is in the history and was sent to no connection
    DROPPED = "dropped"
    RETRIED = "retried"
    OTHER_USER = "other_user"
    NEVER_RECEIVED = "never_received"
    NOT_RECORDED = "not_recorded"


class Verdict(NamedTuple):
    code: Code
    text: str


class Case(NamedTuple):
    """`kept` is the position of the event in the history, if it is there. `now` is in seconds since 1970.

    `missing` is a text about the replicas without an account, or "". `top` is the position of the history, if there is
    one. `ttl` is the number of seconds for which Redis keeps events: 0 without Redis, or if Redis cannot be read now.
    """

    user: str
    event_id: str
    accounts: Sequence[Account]
    kept: Position | None
    now: float
    missing: str = ""
    top: Position | None = None
    ttl: float = 0.0


def judge(case: Case) -> Verdict:
    verdict = _judged(case)
    return verdict._replace(text=f"{verdict.text}; {case.missing}") if case.missing else verdict


def _judged(case: Case) -> Verdict:
    receipts = sorted((r for account in case.accounts for r in account.receipts), key=lambda r: r.at)
    relays = sorted((r for account in case.accounts for r in account.relays), key=lambda r: r.at)
    own = [r for r in receipts if r.is_for_user]
    stored = [r for r in own if r.status in ("stored", "duplicate")]
    if relays or stored or case.kept is not None:
        verdict = _of_stored(case, stored, relays)
        return verdict._replace(text=verdict.text + _of_duplicates(stored))
    if own:
        return _of_refused(own[-1], case.now)
    if receipts:
        users = receipts[-1].users
        text = f"published for {users} other {_plural('user', users)}, not for {case.user}"
        return Verdict(Code.OTHER_USER, f"{text} ({receipts[-1].place})")
    return _of_unknown(case)


def _of_refused(arrival: Arrival, now: float) -> Verdict:
    if arrival.status == "dropped":
        return Verdict(Code.DROPPED, f"dropped: {arrival.detail} ({arrival.reason})")
    why = ", ".join(filter(None, (arrival.reason, arrival.detail)))
    text = f"not stored yet (RETRY {span(now - arrival.at)} ago: {why}); the sidecar will deliver it again"
    return Verdict(Code.RETRIED, text)


def _of_unknown(case: Case) -> Verdict:
    here = "this bridge" if len(case.accounts) == 1 else f"any of {len(case.accounts)} replicas"
    if not any(account.is_on for account in case.accounts):
        text = "not in the history; nothing is recorded, because WSBRIDGE_STATIONS_MAX_BYTES is 0"
        return Verdict(Code.NOT_RECORDED, text)
    if any(account.may_be_left_out for account in case.accounts):
        text = "not in the history and without a record; under high load only some events are recorded"
        return Verdict(Code.NOT_RECORDED, text)
    since = max(account.since for account in case.accounts)
    return Verdict(
        Code.NEVER_RECEIVED,
        f"has not reached {here} in the last {span(case.now - since)}: {_silence(case)}{_of_denials(case)}",
    )


def _silence(case: Case) -> str:
    deliveries: dict[str, float] = {}
    for account in case.accounts:
        for place, at in account.deliveries.items():
            deliveries[place] = max(at, deliveries.get(place, 0.0))
    if not deliveries:
        return f"no sidecar has delivered a valid event{_of_drops(case)}"
    own = list(dict.fromkeys(partition for account in case.accounts for partition in account.partitions))
    partition = own[0] if own else ""
    topic, _, number = partition.rpartition("/")
    numbers = sorted((each.removeprefix(f"{topic}/") for each in own if each.startswith(f"{topic}/")), key=_by_number)
    if len(numbers) > 1:
        return (
            f"{case.user}'s events come from several partitions ({_listed(numbers)} of {topic}): the "
            "publisher does not use the user as partition key, so order is not kept. This event may be in a partition "
            f"that another consumer has: {CANARY}"
        )
    if number and partition in deliveries:
        quiet = case.now - deliveries[partition]
        name = f"the user's partition, {number} of {topic},"
        if quiet > QUIET:
            return f"{name} has delivered nothing for {span(quiet)}"
        keyless = f"If {case.user} is not the partition key, another consumer may have this event: {CANARY}"
        return f"{name} delivered {span(quiet)} ago. {keyless}. Otherwise check id and topic at the publisher"
    latest = sorted(deliveries, key=lambda place: -deliveries[place])
    places = ", ".join(place.removesuffix("/") for place in latest[:PLACES])
    extent = f"and {len(latest) - PLACES} more" if len(latest) > PLACES else "only"
    ago = span(case.now - deliveries[latest[0]])
    elsewhere = f"If the user's partition is another one, another consumer may get it: {CANARY}"
    what = f"other events arrive (the last one {ago} ago, from {places} {extent})"
    return f"{what}. {elsewhere}. Otherwise check id and topic at the publisher"


def _of_drops(case: Case) -> str:
    """A clause about events that were dropped, if no other event has come."""
    last = max((account.last_drop for account in case.accounts if account.last_drop), default=None)
    if last is None:
        return ""
    at, reason, text = last
    drops = sum(account.drops for account in case.accounts)
    were = f"{drops} {'was' if drops == 1 else 'were'} dropped"
    return f", but {were} ({reason}, the last one {span(case.now - at)} ago: {text})"


def _of_denials(case: Case) -> str:
    """A clause about refused calls to the sidecar's routes. They have no ids, because their callers are not trusted."""
    denials = sum(account.denials for account in case.accounts)
    if not denials:
        return ""
    ago = span(case.now - max(account.denied_at for account in case.accounts))
    calls = f"{denials} {_plural('call', denials)} to the sidecar's routes"
    return f"; {calls} were refused, the last one {ago} ago: see request.denied in the log"


def _of_duplicates(stored: Sequence[Arrival]) -> str:
    """A clause about later deliveries of the event."""
    if not stored or stored[-1].status != "duplicate":
        return ""
    first = next((r for r in stored if r.status == "stored"), None)
    later = f", {span(stored[-1].at - first.at)} later" if first else ""
    return f"; a duplicate was skipped ({stored[-1].place}{later})"


def _of_stored(case: Case, stored: Sequence[Arrival], relays: Sequence[Relay]) -> Verdict:
    position = relays[0].position if relays else case.kept
    at = relays[0].at if relays else stored[0].at if stored else None
    connections = sorted((c for account in case.accounts for c in account.connections), key=lambda c: c.opened_at)
    then, later = at_the_time(connections, position, at, case.now)
    if position is None and then:
        return Verdict(Code.STORED, "stored, but its position is forgotten, so nothing shows which connections got it")
    if position is None:
        return Verdict(Code.STORED, f"{ABSENT}; {_where(case, position, at)}")
    if not then:
        return _of_absent(case, position, later, at)
    fates = [fate_of(connection, position, later, at) for connection in then]
    got = sum(fate.kind in (Kind.GOT, Kind.PAST) for fate in fates)
    code = Code.PARTLY if any(fate.kind is Kind.NOT for fate in fates) else Code.DELIVERED
    if all(fate.kind is Kind.NOT for fate in fates):
        code = Code.STORED
    of = f"{got} of {len(then)} {_plural('connection', len(then))}"
    clauses = [f"delivered to {of}{_delay(stored, relays) if got else ''}"] if got or len(then) > 1 else []
    if handlers := sum(has_handled(connection, position) for connection in then):
        clauses.append(
            "handled by the client" if len(then) == 1 else f"handled by {handlers} {_plural('client', handlers)}"
        )
    texts = [fate.text for fate in fates if fate.text]
    subject = "the connection" if len(then) == 1 else "the other" if len(then) == 2 and len(texts) == 1 else "one"  # noqa: PLR2004
    clauses += [f"{subject} {text}" for text in texts[:CLAUSES]]
    if len(texts) > CLAUSES:
        clauses.append(f"{len(texts) - CLAUSES} more are among the stations")
    return Verdict(code, "; ".join(clauses))


def _of_absent(case: Case, position: Position, later: list[Connection], at: float | None) -> Verdict:
    """The verdict if the user was not connected when the event arrived, or if that time is unknown."""
    lead = ABSENT if at is not None else "the time of its arrival is forgotten"
    where = _where(case, position, at)
    fates, rest = [], list(later)
    while rest:  # `fate_of` removes those on which a client resumed
        fates.append(fate_of(rest.pop(0), position, rest, at))
    got = [fate for fate in fates if fate.kind in (Kind.GOT, Kind.LATE)]
    if got:
        of = f"{len(got)} {_plural('connection', len(got))}"
        if at is None:
            return Verdict(Code.DELIVERED, f"delivered to {of}; {lead}")
        since = "" if got[0].at is None else f"{', the first' * (len(got) > 1)} {span(got[0].at - at)} later"
        return Verdict(Code.DELIVERED, f"{lead}; replayed to {of}{since}")
    if fates:
        return Verdict(Code.STORED, f"{lead}; {where}; the next connection {fates[0].text}")
    return Verdict(Code.STORED, f"{lead}; {where}; the user has not connected since")


def _where(case: Case, position: Position | None, at: float | None) -> str:
    """Whether the event is in the history. A position outlives its entries, so that only a loss resets it earlier."""
    if case.kept:
        return f"in the history at {position}"
    is_reset = not case.top or not case.top.offset or (position is not None and position.epoch != case.top.epoch)
    if at is None or case.now - at >= case.ttl or not is_reset:
        return "no longer in the history"
    lead = f"no longer in the history after {span(case.now - at)}, though histories are kept for {case.ttl:g} s"
    return f"{lead}: Redis has lost or evicted it, see redis-eviction of wsbridge doctor"


def _delay(stored: Sequence[Arrival], relays: Sequence[Relay]) -> str:
    """The time until the event was written to sockets: since Kafka got it, or else since the bridge did."""
    if not relays or not stored:
        return ""
    produced = stored[0].produced
    if produced is not None:
        return f" {span(relays[0].at - produced)} after its Kafka timestamp"
    return f" {span(relays[0].at - stored[0].at)} after the bridge received it"


def _by_number(partition: str) -> tuple[int, str]:
    return len(partition), partition


def _listed(words: Sequence[str]) -> str:
    """The first `PLACES` words, and how many more there are."""
    more = [f"{len(words) - PLACES} more"] if len(words) > PLACES else []
    *first, last = [*words[:PLACES], *more]
    return f"{', '.join(first)} and {last}" if first else last


def _plural(noun: str, number: int) -> str:
    return noun if number == 1 else noun + "s"
