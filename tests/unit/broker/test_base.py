"""Room in the queue for the events of one delivery."""

import pytest

from tests.support.bench import ROOM, Sink, event
from wsbridge.broker.base import Outcome, Reservation, Status, always, retried
from wsbridge.core.events import Event
from wsbridge.core.reasons import Retry

FULL, BYTES, FOLLOWS = retried(Retry.QUEUE_FULL), retried(Retry.QUEUE_BYTES), retried(Retry.FOLLOWS_RETRY)


def test_retried_has_a_reason_and_a_detail() -> None:
    assert retried(Retry.QUEUE_FULL, "why") == Outcome(Status.RETRIED, Retry.QUEUE_FULL, "why")
    assert retried(Retry.QUEUE_FULL).detail == ""
    assert always() is True


@pytest.mark.parametrize("waiting", [0, 5])
def test_reservation_takes_as_many_entries_as_there_is_room_for(waiting: int) -> None:
    reservation = Reservation(Sink(ROOM), waiting)
    assert [reservation.reserve(event(str(n))) for n in range(ROOM + 1)] == [
        FULL if n >= ROOM - waiting else None for n in range(ROOM + 1)
    ]
    assert reservation.taken == ROOM - waiting


def test_reservation_takes_as_many_bytes_as_there_is_room_for() -> None:
    assert Reservation(Sink(3, 100), waiting=1).reserve(event("u", data="x" * 100)) is None
    assert Reservation(Sink(3, 100), waiting=1).reserve(event("u", data="x" * 101)) == BYTES


def test_reservation_counts_the_data_of_many_users_once() -> None:
    reservation = Reservation(Sink(max_bytes=1_000), waiting=1, waiting_bytes=300)
    many = event(*"abcdefgh", data='{"x":"%s"}' % ("x" * 492))
    assert reservation.reserve(many) is None
    assert (reservation.taken, reservation.taken_bytes) == (8, 500)
    assert reservation.reserve(event("z", data='"%s"' % ("x" * 199))) == BYTES
    assert reservation.reserve(event("y", data='"%s"' % ("x" * 198))) is None


@pytest.mark.parametrize("large", [event(*(f"u{n}" for n in range(ROOM + 1))), event("u", data="x" * 2_000)])
def test_reservation_of_more_than_the_queue_holds_needs_an_empty_one(large: Event) -> None:
    assert Reservation(Sink(max_bytes=1_000)).reserve(large) is None
    assert Reservation(Sink(max_bytes=1_000), waiting=1).reserve(large) in (FULL, BYTES)
    behind = Reservation(Sink(max_bytes=1_000))
    assert behind.reserve(event("first")) is None
    assert behind.reserve(large) in (FULL, BYTES)


def test_reservation_refuses_later_events_of_the_users_of_a_refused_one() -> None:
    reservation = Reservation(Sink(3), waiting=1)
    assert reservation.reserve(event("a", "b", "c")) == FULL
    assert reservation.reserve(event("b")) == FOLLOWS
    assert reservation.reserve(event("d", "c")) == FOLLOWS
    assert reservation.reserve(event("d")) == FOLLOWS
    assert reservation.reserve(event("e")) is None


def test_reservation_for_some_of_the_users_needs_room_for_these() -> None:
    reservation = Reservation(Sink(3), waiting=1)
    assert reservation.reserve(event("a", "b", "c"), ["b", "c"]) is None
    assert (reservation.taken, reservation.taken_bytes) == (2, 2)
    assert reservation.reserve(event("a", "b", "c"), ["a"]) == FULL
    assert reservation.reserve(event("a")) == FOLLOWS
    assert reservation.reserve(event("b")) == FULL


def test_reservation_fits_reserves_nothing() -> None:
    reservation = Reservation(Sink(3), waiting=1)
    assert [reservation.fits(event(*users)) for users in ("ab", "ab", "abc")] == [True, True, False]
    assert reservation.taken == 0


def test_reservation_take_and_release_change_the_room() -> None:
    reservation = Reservation(Sink(4, 100), waiting=1)
    reservation.take(2, 60)
    reservation.take(1, 30)
    assert (reservation.taken, reservation.taken_bytes) == (3, 90)
    assert reservation.reserve(event("a")) == FULL
    reservation.release(2, 60)
    assert (reservation.taken, reservation.taken_bytes) == (1, 30)
    assert reservation.reserve(event("b")) is None


def test_reservation_blocks_users_whose_earlier_event_comes_again() -> None:
    reservation = Reservation(Sink(3))
    reservation.block(["a"])
    reservation.block(["b"])
    assert [reservation.reserve(event(user)) for user in "abc"] == [FOLLOWS, FOLLOWS, None]
