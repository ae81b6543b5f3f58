"""Calls of `append`: which users are in one call, what it sends, and the reply for each user."""

from redis.exceptions import ResponseError

from wsbridge.broker.base import BrokerUnavailable
from wsbridge.broker.redis.append_call import CALL_BYTES, USERS, AppendCall, Body, Replies, grouped
from wsbridge.broker.redis.codec import keys_of


def one_slot(key: str) -> int:
    return len(key) * 0


def calls_of(users: int, size: int = 1) -> list[AppendCall]:
    """The calls for users with an event of their own each."""
    bodies = [(b"", b"x" * size) for _ in range(users)]
    return grouped({f"u{n}": [n] for n in range(users)}, bodies, "p", one_slot)


def test_append_call_has_the_users_of_one_slot() -> None:
    users = [f"u{n}" for n in range(6)]
    slots = {keys_of("p", user).position: n % 2 for n, user in enumerate(users)}
    calls = grouped({user: [0] for user in users}, [(b"", b"x")], "p", slots.__getitem__)
    assert [call.users for call in calls] == [users[::2], users[1::2]]


def test_append_call_is_full_after_so_many_users() -> None:
    assert [len(call.users) for call in calls_of(2 * USERS + 1)] == [USERS, USERS, 1]


def test_append_call_is_full_after_so_many_bytes() -> None:
    assert [len(call.users) for call in calls_of(5, CALL_BYTES // 2)] == [2, 2, 1]


def test_append_call_sends_an_event_of_several_users_once() -> None:
    bodies: list[Body] = [(b"unused", b"unused"), (b"k1", b"one"), (b"k2", b"two")]
    (call,) = grouped({"a": [1], "b": [2, 1], "c": [2]}, bodies, "p", one_slot)
    words = call.command(["now", "seed"]).words
    keys = [key for user in "abc" for key in keys_of("p", user)]
    places = bytes([0, 1, 0, 0, 0, 2, 0, 1, 0, 0, 0, 1, 0, 1])
    assert list(words[2:]) == [9, *keys, "now", "seed", places, b"k1", b"one", b"k2", b"two"]


def test_append_call_that_failed_has_the_reason_for_each_user() -> None:
    why = BrokerUnavailable("frozen")
    assert list(Replies(["u0", "u1"], why).by_user()) == [("u0", why), ("u1", why)]


def test_append_call_that_failed_for_one_user_has_the_reason_for_that_user() -> None:
    (_, first), (_, second) = Replies(["u0", "u1"], [b"abcdefgh 1 1", ResponseError("WRONGTYPE it is")]).by_user()
    assert first == b"abcdefgh 1 1"
    assert isinstance(second, BrokerUnavailable)
    assert str(second) == "WRONGTYPE it is"
