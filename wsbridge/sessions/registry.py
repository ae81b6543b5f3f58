"""The open sessions of this replica by user, and the limits on their number."""

import weakref
from collections.abc import Callable, Iterator

from aiohttp import web

from wsbridge.core.close_codes import FORCE_DISCONNECT, OVERLOADED, TOO_MANY_CONNECTIONS, Refused
from wsbridge.sessions.session import Session


class SessionRef(weakref.ref[Session]):
    """A weak reference to a session. It has the session's user even after the session was freed.

    References to one session are equal, like plain weak references.
    """

    __slots__ = ("user",)

    def __init__(self, session: Session, when_gone: "Callable[[SessionRef], object] | None" = None) -> None:
        """Refer to a session; `when_gone` is called with the reference once the session is freed."""
        self.user = session.user  # all else is set by `__new__`


class WeakSessions(set[SessionRef]):
    """Bounded by the limits of the registry and by the connections that a process may have.

    `weakref.WeakSet` takes ten times as long to iterate over the few sessions of a user, which happens at each event.
    """

    __slots__ = ()

    def alive(self) -> list[Session]:
        """Return the sessions. The list keeps them alive."""
        # The copy is needed: the garbage collector may free a session at any allocation, which changes the set.
        return [session for reference in list(self) if (session := reference()) is not None]


class Registry:
    """A set of weak references to sessions for each user. A limit of 0 is no limit.

    Keeps no session alive: the connection owns its session. A session without other references is not in the registry
    and does not count towards a limit.
    """

    def __init__(self, *, max_connections: int = 0, max_per_user: int = 0) -> None:
        self._max_connections = max_connections
        self._max_per_user = max_per_user
        self._all = WeakSessions()
        self._users: dict[str, WeakSessions] = {}  # a user without a session has no entry

    def __len__(self) -> int:
        return len(self._all)

    def add(self, session: Session) -> None:
        """Add a session. Raises `Refused` if the limit of this replica or of the user is reached."""
        sessions = self._users.get(session.user)
        if 0 < self._max_connections <= len(self._all):
            raise Refused(OVERLOADED, f"{len(self._all)} connections, WSBRIDGE_MAX_CONNECTIONS is reached")
        if sessions is None:
            sessions = self._users[session.user] = WeakSessions()
        elif 0 < self._max_per_user <= len(sessions):
            why = f"{len(sessions)} connections, WSBRIDGE_MAX_CONNECTIONS_PER_USER is reached"
            raise Refused(TOO_MANY_CONNECTIONS, why)
        reference = SessionRef(session, self._discard)
        sessions.add(reference)
        self._all.add(reference)

    def remove(self, session: Session) -> bool:
        """Remove a session whose connection has ended. Return whether it was registered."""
        return self._discard(SessionRef(session))

    def of(self, user: str) -> list[Session]:
        """Return a new list of the user's sessions."""
        sessions = self._users.get(user)
        return sessions.alive() if sessions is not None else []

    def has(self, user: str) -> bool:
        return user in self._users

    def disconnect(self, user: str, session_id: str | None = None) -> int:
        """End all sessions of a user for an operator, or only the one with this id. Return their number."""
        sessions = [session for session in self.of(user) if session_id in (None, session.id)]
        for session in sessions:
            session.end(FORCE_DISCONNECT, explain=True)
        return len(sessions)

    def users(self) -> dict[str, int]:
        return {user: len(sessions) for user, sessions in self._users.items()}

    @property
    def user_count(self) -> int:
        return len(self._users)

    def slices(self, size: int) -> Iterator[list[Session]]:
        """Yield all sessions in lists of at most `size`, for work that lets other tasks run in between.

        Sessions that are added meanwhile are left out. Those that end meanwhile are not kept alive.
        """
        references = list(self._all)
        for start in range(0, len(references), size):
            if found := [session for ref in references[start : start + size] if (session := ref()) is not None]:
                yield found
                del found  # otherwise it would keep them alive until the next turn

    def _discard(self, reference: SessionRef) -> bool:
        """Forget a session that was removed, or has no other references."""
        if reference not in self._all:
            return False
        self._all.discard(reference)
        sessions = self._users[reference.user]
        sessions.discard(reference)
        if not sessions:
            del self._users[reference.user]
        return True


REGISTRY = web.AppKey("registry", Registry)  # every `web.Application` of the bridge holds the same one
