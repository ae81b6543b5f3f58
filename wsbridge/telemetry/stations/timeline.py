"""The stations of one event in the order of time, each with a text for people."""

from collections.abc import Iterator, Sequence

import msgspec

from wsbridge.core.events import Position
from wsbridge.core.timestamps import timestamp
from wsbridge.telemetry.stations.account import Account, Arrival, Connection, Read
from wsbridge.telemetry.stations.fates import Kind, fate_of, has_handled, span


class Station(msgspec.Struct, omit_defaults=True):
    """`at` is RFC 3339. `name` is received, relayed, opened, written, replayed, gap or closed."""

    at: str
    name: str
    replica: str
    text: str
    session: str = ""


def timeline(accounts: Sequence[Account], kept: Position | None) -> list[Station]:
    """The stations in order, without connections that were closed before the event arrived."""
    relays = sorted((relay.at, relay.position) for account in accounts for relay in account.relays)
    receipts = [arrival.at for account in accounts for arrival in account.receipts]
    at = relays[0][0] if relays else min(receipts, default=None)
    position = relays[0][1] if relays else kept
    found: list[tuple[float, Station]] = []
    for account in accounts:
        found += [(r.at, _station(r.at, "received", account.replica, _described(r))) for r in account.receipts]
        for relay in account.relays:
            text = f"passed to the user's sessions, position {relay.position}"
            found.append((relay.at, _station(relay.at, "relayed", account.replica, text)))
        for connection in account.connections:
            if connection.closed_at is None or at is None or connection.closed_at >= at:
                found += _of_connection(connection, position, at)
    return [station for _, station in sorted(found, key=lambda pair: pair[0])]


def _station(at: float, name: str, replica: str, text: str, session: str = "") -> Station:
    return Station(timestamp(at), name, replica, text, session)


def _described(arrival: Arrival) -> str:
    words = [arrival.place, arrival.status]
    if arrival.produced is not None:
        words.append(f"{span(arrival.at - arrival.produced)} after its Kafka timestamp")
    if not arrival.is_for_user:
        words.append("for other users")
    words += [word for word in (arrival.reason, arrival.detail) if word]
    return ", ".join(words)


def _of_connection(connection: Connection, event: Position | None, at: float | None) -> Iterator[tuple[float, Station]]:
    c = connection

    def station(moment: float, name: str, text: str) -> tuple[float, Station]:
        return moment, _station(moment, name, c.replica, text, c.session)

    yield station(c.opened_at, "opened", c.transport)
    for read in c.reads:
        yield station(read.at, "gap" if read.gap else "replayed" if read.replayed else "resumed", _of_read(read))
    if event is not None and at is not None and c.opened_at <= at and fate_of(c, event, [], at).kind is Kind.GOT:
        text = f"{c.unsent} bytes are not sent yet" if c.unsent else c.transport
        yield station(at, "written", f"{text}, handled by the client" if has_handled(c, event) else text)
    if c.closed_at is not None:
        yield station(c.closed_at, "closed", f"{c.close}, last position {c.position}")


def _of_read(read: Read) -> str:
    if not read.asked:
        return f"sent no position, begins after {read.position}"
    entries = f"{read.replayed} {'entry' if read.replayed == 1 else 'entries'}"
    got = f"a gap ({read.gap}) up to {read.position}" if read.gap else entries
    return f"read the history after {read.asked}, got {got}"
