"""Who is connected, and how many may be."""

import gc
import weakref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.peer import Peer
from wsbridge.core.close_codes import OVERLOADED, TOO_MANY_CONNECTIONS, Close, Refused
from wsbridge.sessions.registry import Registry
from wsbridge.sessions.session import Session


def session(user: str = "u") -> Session:
    return Peer.live(user).session


def refusal(registry: Registry, user: str) -> Close:
    before = (len(registry), registry.users())
    with pytest.raises(Refused) as caught:
        registry.add(session(user))
    assert (len(registry), registry.users()) == before
    return caught.value.close


def test_a_user_has_all_its_sessions_and_nobody_elses() -> None:
    registry = Registry()
    first, second, other = session("a"), session("a"), session("b")
    for added in (first, second, other):
        registry.add(added)
    assert set(registry.of("a")) == {first, second}
    assert set(registry.of("b")) == {other}
    assert set(registry.of("c")) == set()
    assert registry.users() == {"a": 2, "b": 1}
    assert (len(registry), registry.user_count) == (3, 2)


def test_who_is_removed_is_gone_and_counted_out_once() -> None:
    registry = Registry()
    first, second = session(), session()
    registry.add(first)
    registry.add(second)
    for _ in range(2):
        registry.remove(first)
        assert set(registry.of("u")) == {second}
        assert (len(registry), registry.users()) == (1, {"u": 1})
    registry.remove(second)
    assert (len(registry), registry.users(), registry.user_count) == (0, {}, 0)


def test_who_was_never_in_is_left_alone() -> None:
    registry = Registry()
    registry.add(session())
    registry.remove(session())
    registry.remove(session("stranger"))
    assert registry.users() == {"u": 1}


def test_nothing_holds_a_session_that_was_removed() -> None:
    registry = Registry()
    gone = session()
    registry.add(gone)
    registry.remove(gone)
    reference = weakref.ref(gone)
    del gone
    gc.collect()
    assert reference() is None


def test_the_limit_of_a_user_is_its_own() -> None:
    registry = Registry(max_per_user=2)
    first = session("a")
    for added in (first, session("a"), session("b")):
        registry.add(added)
    assert refusal(registry, "a") == TOO_MANY_CONNECTIONS
    registry.add(session("b"))
    registry.remove(first)
    registry.add(session("a"))


def test_the_limit_of_the_replica_is_for_all() -> None:
    registry = Registry(max_connections=2, max_per_user=1)
    first = session("a")
    registry.add(first)
    registry.add(session("b"))
    assert refusal(registry, "c") == OVERLOADED
    assert refusal(registry, "a") == OVERLOADED  # it passes, the user's own limit may not
    registry.remove(first)
    assert refusal(registry, "b") == TOO_MANY_CONNECTIONS
    registry.add(session("c"))


def test_zero_is_no_limit() -> None:
    registry = Registry(max_connections=0, max_per_user=0)
    for _ in range(200):
        registry.add(session())
    assert len(registry) == 200


def test_a_refusal_names_the_setting() -> None:
    registry = Registry(max_connections=1)
    registry.add(session())
    with pytest.raises(Refused, match="WSBRIDGE_MAX_CONNECTIONS "):
        registry.add(session("other"))
    registry = Registry(max_per_user=1)
    registry.add(session())
    with pytest.raises(Refused, match="WSBRIDGE_MAX_CONNECTIONS_PER_USER "):
        registry.add(session())


@given(st.lists(st.sampled_from("abc"), max_size=30), st.integers(1, 10))
@settings(deadline=None)
def test_slices_are_everyone_once(users: list[str], size: int) -> None:
    registry = Registry()
    sessions = [session(user) for user in users]
    for added in sessions:
        registry.add(added)
    slices = list(registry.slices(size))
    assert sorted(found.id for batch in slices for found in batch) == sorted(added.id for added in sessions)
    assert all(len(batch) >= size for batch in slices[:-1])
    assert all(slices)


def test_slices_bear_that_sessions_come_and_go_in_between() -> None:
    registry = Registry()
    sessions = [session(user) for user in "abcd"]
    for added in sessions:
        registry.add(added)
    slices = registry.slices(1)
    assert next(slices) == [sessions[0]]
    registry.remove(sessions[1])
    registry.add(session("e"))
    assert list(slices) == [[sessions[2]], [sessions[3]]]
