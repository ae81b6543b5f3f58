"""A set that keeps no session alive."""

import gc

from tests.support.peer import Peer
from wsbridge.sessions.session import Session
from wsbridge.sessions.weak_sessions import SessionRef, WeakSessions


def test_session_ref_has_the_user_when_its_session_is_gone() -> None:
    gone = list[str]()
    session = Peer("a").session
    reference = SessionRef.to(session, lambda ref: gone.append(ref.user))
    assert (reference(), reference) == (session, SessionRef.to(session))
    del session
    gc.collect()  # a peer and its fake connection refer to each other
    assert (reference(), gone) == (None, ["a"])


def test_weak_sessions_discard_finds_an_equal_reference_and_tells_whether_it_was_there() -> None:
    sessions, peer = WeakSessions(), Peer()
    sessions.add(SessionRef.to(peer.session))
    assert not sessions.discard(SessionRef.to(Peer().session))
    assert (len(sessions), sessions.alive()) == (1, [peer.session])
    assert sessions.discard(SessionRef.to(peer.session))
    assert not sessions.discard(SessionRef.to(peer.session))
    assert (len(sessions), sessions.alive()) == (0, [])


def test_weak_sessions_change_while_slices_are_taken() -> None:
    sessions, peers = WeakSessions(), [Peer() for _ in range(4)]
    for peer in peers:
        sessions.add(SessionRef.to(peer.session))
    seen = list[Session]()
    for batch in sessions.slices(1):
        for session in [*sessions.alive()]:
            sessions.discard(SessionRef.to(session))
        sessions.add(SessionRef.to(Peer().session))
        seen += batch
    assert {session.id for session in seen} == {peer.session.id for peer in peers}
