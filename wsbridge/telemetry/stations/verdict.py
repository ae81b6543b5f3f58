"""Explains in one sentence why an event has arrived or not. Compares the accounts of all replicas; does no I/O."""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from wsbridge.core.events import Position
from wsbridge.core.timestamps import timestamp
from wsbridge.telemetry.stations.account import Account, Connection, Receipt, Relay
from wsbridge.telemetry.stations.fates import Kind, fate_of, span

ABSENT = "the user was not connected when it arrived"
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

    `missing` is a text about the replicas without an account, or "".
    """

    user: str
    event_id: str
    accounts: Sequence[Account]
    kept: Position | None
    now: float
    missing: str = ""


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
        return _of_refused(own[-1])
    if receipts:
        users = receipts[-1].users
        text = f"published for {users} other {_plural('user', users)}, not for {case.user}"
        return Verdict(Code.OTHER_USER, f"{text} ({receipts[-1].place})")
    return _of_unknown(case)


def _of_refused(receipt: Receipt) -> Verdict:
    if receipt.status == "dropped":
        return Verdict(Code.DROPPED, f"dropped: {receipt.detail} ({receipt.reason})")
    detail = f": {receipt.detail}" if receipt.detail else ""
    text = f"not stored yet: the bridge answered RETRY at {timestamp(receipt.at)} ({receipt.reason}{detail})"
    return Verdict(Code.RETRIED, f"{text}; the sidecar will deliver it again")


def _of_unknown(case: Case) -> Verdict:
    here = "this bridge" if len(case.accounts) == 1 else f"any of {len(case.accounts)} replicas"
    if not any(account.is_on for account in case.accounts):
        text = "nothing is recorded, because WSBRIDGE_STATIONS_MAX_BYTES is 0; the event is not in the history"
        return Verdict(Code.NOT_RECORDED, text)
    if any(account.may_be_left_out for account in case.accounts):
        text = "no record, and it is not in the history"
        text += "; it may have arrived: under high load only some events are recorded"
        return Verdict(Code.NOT_RECORDED, text)
    since = max(account.since for account in case.accounts)
    text = f"has not reached {here} since {timestamp(since)}"
    return Verdict(Code.NEVER_RECEIVED, f"{text}: {_silence(case)}")


def _silence(case: Case) -> str:
    deliveries: dict[str, float] = {}
    for account in case.accounts:
        for place, at in account.deliveries.items():
            deliveries[place] = max(at, deliveries.get(place, 0.0))
    if not deliveries:
        return "no sidecar has delivered anything"
    partition = next((account.partition for account in case.accounts if account.partition), "")
    topic, _, number = partition.rpartition("/")
    if number and partition in deliveries:
        quiet = case.now - deliveries[partition]
        name = f"partition {number} of {topic}, which had the user's last event,"
        if quiet > QUIET:
            return f"{name} has delivered nothing for {span(quiet)}"
        return f"{name} delivered an event {span(quiet)} ago; check that the publisher published this id to this topic"
    return f"the last delivery of any event was {span(case.now - max(deliveries.values()))} ago"


def _of_duplicates(stored: Sequence[Receipt]) -> str:
    """A clause about later deliveries of the event."""
    duplicates = [r for r in stored if r.status == "duplicate"]
    if not duplicates:
        return ""
    first = next((r for r in stored if r.status == "stored"), None)
    of = f"of {first.place}, received at {timestamp(first.at)}" if first else "of an event that was stored before"
    return f"; {duplicates[-1].place}, received at {timestamp(duplicates[-1].at)}, was skipped as a duplicate {of}"


def _of_stored(case: Case, stored: Sequence[Receipt], relays: Sequence[Relay]) -> Verdict:
    position = relays[0].position if relays else case.kept
    at = relays[0].at if relays else stored[0].at if stored else None
    connections = sorted((c for account in case.accounts for c in account.connections), key=lambda c: c.opened_at)
    then = [c for c in connections if at is not None and c.opened_at <= at and (c.closed_at or case.now) >= at]
    later = [c for c in connections if at is None or c.opened_at > at]
    if position is None and then:
        text = "stored; its position is no longer in the records or in the history"
        return Verdict(Code.STORED, f"{text}, so it is unknown whether the connections got it")
    if position is None:
        return Verdict(Code.STORED, f"stored; {ABSENT}, and it is no longer in the history")
    if not then:
        return _of_absent(case, position, later, at)
    fates = [fate_of(connection, position, later, at) for connection in then]
    got = sum(fate.kind in (Kind.GOT, Kind.PAST) for fate in fates)
    code = Code.PARTLY if any(fate.kind is Kind.NOT for fate in fates) else Code.DELIVERED
    if all(fate.kind is Kind.NOT for fate in fates):
        code = Code.STORED
    of = f"{got} of {len(then)} {_plural('connection', len(then))}"
    clauses = [f"delivered to {of}{_delay(stored, relays) if got else ''}"]
    texts = [fate.text for fate in fates if fate.text]
    subject = "that connection" if len(then) == 1 else "the other" if len(then) == 2 and len(texts) == 1 else "one"  # noqa: PLR2004
    return Verdict(code, "; ".join(clauses + [f"{subject} {text}" for text in texts]))


def _of_absent(case: Case, position: Position, later: list[Connection], at: float | None) -> Verdict:
    """The verdict if the user was not connected when the event arrived, or if that time is unknown."""
    lead = ABSENT if at is not None else "the time of its arrival is no longer recorded"
    where = f"it is in the history at {position}" if case.kept else "it is no longer in the history"
    fates = [fate_of(connection, position, [], at) for connection in later]
    got = [fate for fate in fates if fate.kind in (Kind.GOT, Kind.LATE)]
    if got:
        noun = _plural("connection", len(got))
        if at is None:
            return Verdict(
                Code.DELIVERED, f"{lead}; {where}; {len(got)} {noun} {'has' if len(got) == 1 else 'have'} it"
            )
        since = "" if got[0].at is None else f", {'the first ' * (len(got) > 1)}{span(got[0].at - at)} after it arrived"
        return Verdict(Code.DELIVERED, f"{lead}; {where}; replayed to {len(got)} later {noun}{since}")
    if fates:
        return Verdict(Code.STORED, f"{lead}; {where}; the next connection {fates[0].text}")
    return Verdict(Code.STORED, f"{lead}; {where}; the user has not connected since")


def _delay(stored: Sequence[Receipt], relays: Sequence[Relay]) -> str:
    """The time until the event was written to sockets: since Kafka got it, or else since the bridge did."""
    if not relays or not stored:
        return ""
    produced = stored[0].produced
    if produced is not None:
        return f" {span(relays[0].at - produced)} after its Kafka timestamp"
    return f" {span(relays[0].at - stored[0].at)} after the bridge received it"


def _plural(noun: str, number: int) -> str:
    return noun if number == 1 else noun + "s"
