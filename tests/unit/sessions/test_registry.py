"""Connected sessions and their limits. The registry keeps no session alive: the tests hold theirs in `Crowd`."""

import gc
import weakref
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fake_connection import FakeConnection
from tests.support.peer import HELLO, Peer, entry
from wsbridge.core.close_codes import FORCE_DISCONNECT, OVERLOADED, TOO_MANY_CONNECTIONS, Close, Refused
from wsbridge.core.events import Position
from wsbridge.core.recovery import Resume
from wsbridge.sessions.registry import Registry, SessionRef, WeakSessions
from wsbridge.sessions.session import Session, Shared
from wsbridge.sessions.slow_consumers import SlowConsumers
from wsbridge.telemetry.metrics import Metrics


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Without the garbage collector, an object is freed only if no reference is left, not even in a cycle."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Crowd:
    """A registry and strong references to its sessions. Each is attached, and not in the cycle of `Peer`."""

    def __init__(self, **limits: int) -> None:
        self.registry = Registry(**limits)
        metrics = Metrics()
        self._shared = Shared(
            metrics=metrics,
            slow_consumers=SlowConsumers(metrics, max_session=10_000, max_total=10**9),
            on_missed=lambda _: None,
            on_leave=self.registry.remove,
        )
        self.held: list[Session] = []

    def session(self, user: str = "u") -> Session:
        session = Session(user, FakeConnection(), self._shared, now=0.0, peer="", agent="")
        session.attach(Resume(Position("e", 0)), HELLO)
        return session

    def add(self, *users: str) -> list[Session]:
        """Add a session for each user, and keep a reference."""
        added = [self.session(user) for user in users]
        for session in added:
            self.registry.add(session)
        self.held += added
        return added

    def refusal(self, user: str) -> Close:
        before = (len(self.registry), self.registry.users())
        with pytest.raises(Refused) as caught:
            self.registry.add(self.session(user))
        assert (len(self.registry), self.registry.users()) == before
        return caught.value.close


def test_registry_finds_all_sessions_of_a_user_and_no_others() -> None:
    crowd = Crowd()
    first, second, other = crowd.add("a", "a", "b")
    assert set(crowd.registry.of("a")) == {first, second}
    assert crowd.registry.of("b") == [other]
    assert crowd.registry.of("c") == []
    assert [crowd.registry.has(user) for user in "abc"] == [True, True, False]
    assert crowd.registry.users() == {"a": 2, "b": 1}
    assert (len(crowd.registry), crowd.registry.user_count) == (3, 2)


def test_registry_remove_counts_a_session_out_once() -> None:
    crowd = Crowd()
    first, second = crowd.add("u", "u")
    assert [crowd.registry.remove(first) for _ in range(2)] == [True, False]
    assert crowd.registry.of("u") == [second]
    assert (len(crowd.registry), crowd.registry.users()) == (1, {"u": 1})
    assert crowd.registry.remove(second)
    assert (len(crowd.registry), crowd.registry.users(), crowd.registry.user_count) == (0, {}, 0)


def test_registry_remove_of_an_unknown_session_changes_nothing() -> None:
    crowd = Crowd()
    crowd.add("u")
    assert not crowd.registry.remove(crowd.session())
    assert not crowd.registry.remove(crowd.session("stranger"))
    assert crowd.registry.users() == {"u": 1}


def test_registry_session_without_references_leaves_the_limits(uncollected: None) -> None:
    crowd = Crowd(max_connections=2, max_per_user=1)
    crowd.add("a", "b")
    assert crowd.refusal("c") == OVERLOADED
    crowd.held.pop(0)
    assert crowd.registry.of("a") == []
    assert (len(crowd.registry), crowd.registry.users(), crowd.registry.user_count) == (1, {"b": 1}, 1)
    assert crowd.refusal("b") == TOO_MANY_CONNECTIONS
    crowd.held.clear()
    assert (len(crowd.registry), crowd.registry.users()) == (0, {})
    crowd.add("a", "b")


def test_registry_session_that_has_left_is_freed_without_the_garbage_collector(uncollected: None) -> None:
    crowd = Crowd()
    (session,) = crowd.add("u")
    session.offer(entry(1, data=b'"%b"' % bytes(100_000)), bytes(100_000))
    session.flush()
    session.offer(entry(3), b"missed one")
    session.offer(entry(4), b"held")
    assert session.unsent() > 100_000
    session.leave()
    freed = weakref.ref(session)
    del session
    crowd.held.clear()
    assert freed() is None


def test_registry_iteration_survives_sessions_that_die_meanwhile(uncollected: None) -> None:
    crowd = Crowd()
    crowd.add(*"uuuuu")
    found = crowd.registry.of("u")
    crowd.held.clear()
    for number, session in enumerate(found):
        assert session.user == "u"
        found[number] = crowd.session("other")  # frees the one before
        assert len(crowd.registry.of("u")) == 5 - number
    del session
    assert crowd.registry.users() == {}


def test_registry_slices_leave_out_what_dies_meanwhile_and_keep_nothing_alive(uncollected: None) -> None:
    crowd = Crowd()
    crowd.add(*"abcdef")
    seen = 0
    for batch in crowd.registry.slices(2):
        seen += len(batch)
        if seen == 2:
            crowd.held = crowd.held[:1] if crowd.held[0] not in batch else [s for s in crowd.held if s not in batch][:1]
            assert len(crowd.registry) == 3  # the one with a reference, and the batch
    del batch
    assert seen == 3
    assert len(crowd.registry) == 1


def test_registry_disconnect_ends_all_sessions_of_the_user() -> None:
    crowd = Crowd()
    first, second, other = crowd.add("a", "a", "b")
    assert crowd.registry.disconnect("a") == 2
    assert (first.close, second.close, other.close) == (FORCE_DISCONNECT, FORCE_DISCONNECT, None)
    assert b'"goodbye"' in b"".join(first.connection.written)  # type: ignore[attr-defined]  # a fake one
    assert crowd.registry.disconnect("stranger") == 0


def test_registry_limit_of_a_user_does_not_bind_others() -> None:
    crowd = Crowd(max_per_user=2)
    first, *_ = crowd.add("a", "a", "b")
    assert crowd.refusal("a") == TOO_MANY_CONNECTIONS
    crowd.add("b")
    crowd.registry.remove(first)
    crowd.add("a")


def test_registry_limit_of_the_replica_counts_before_the_users() -> None:
    crowd = Crowd(max_connections=2, max_per_user=1)
    first, _ = crowd.add("a", "b")
    assert crowd.refusal("c") == OVERLOADED
    assert crowd.refusal("a") == OVERLOADED  # one more fits here, but perhaps not for the user
    crowd.registry.remove(first)
    assert crowd.refusal("b") == TOO_MANY_CONNECTIONS
    crowd.add("c")


def test_registry_with_limits_of_zero_refuses_nobody() -> None:
    crowd = Crowd(max_connections=0, max_per_user=0)
    crowd.add(*"u" * 200)
    assert len(crowd.registry) == 200


def test_registry_refusal_names_the_setting() -> None:
    crowd = Crowd(max_connections=1)
    crowd.add("u")
    with pytest.raises(Refused, match="WSBRIDGE_MAX_CONNECTIONS "):
        crowd.add("other")
    crowd = Crowd(max_per_user=1)
    crowd.add("u")
    with pytest.raises(Refused, match="WSBRIDGE_MAX_CONNECTIONS_PER_USER "):
        crowd.add("u")


@given(st.lists(st.sampled_from("abc"), max_size=30), st.integers(1, 10))
def test_registry_slices_hold_each_session_once(users: list[str], size: int) -> None:
    crowd = Crowd()
    added = crowd.add(*users)
    slices = list(crowd.registry.slices(size))
    assert sorted(found.id for batch in slices for found in batch) == sorted(session.id for session in added)
    assert [len(batch) for batch in slices[:-1]] == [size] * (len(slices) - 1)
    assert all(slices)


def test_registry_changes_while_slices_are_taken() -> None:
    registry, peers = Registry(), [Peer() for _ in range(4)]
    for peer in peers:
        registry.add(peer.session)
    seen = list[Session]()
    for batch in registry.slices(1):
        for peer in peers:
            registry.remove(peer.session)
        registry.add(Peer().session)
        seen += batch
    assert {session.id for session in seen} == {peer.session.id for peer in peers}


def test_session_ref_has_the_user_when_its_session_is_gone() -> None:
    gone = list[str]()
    session = Peer("a").session
    reference = SessionRef(session, lambda ref: gone.append(ref.user))
    assert (reference(), reference) == (session, SessionRef(session))
    del session
    gc.collect()  # a peer and its fake connection refer to each other
    assert (reference(), gone) == (None, ["a"])


def test_weak_sessions_hold_a_session_by_any_reference_to_it() -> None:
    peer = Peer()
    sessions = WeakSessions([SessionRef(peer.session)])
    assert (SessionRef(Peer().session) in sessions, sessions.alive()) == (False, [peer.session])
    sessions.discard(SessionRef(peer.session))
    assert sessions.alive() == []
