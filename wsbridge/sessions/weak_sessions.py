"""A set of sessions that keeps none of them alive.

`weakref.WeakSet` takes ten times as long to iterate over the few sessions of a user, which happens at each event.
"""

import weakref
from collections.abc import Callable, Iterator

from wsbridge.sessions.session import Session


class SessionRef(weakref.ref[Session]):
    """A weak reference to a session. It has the session's user even after the session was freed.

    References to one session are equal, like plain weak references.
    """

    __slots__ = ("user",)
    user: str

    @classmethod
    def to(cls, session: Session, when_gone: "Callable[[SessionRef], object] | None" = None) -> "SessionRef":
        """Refer to a session; `when_gone` is called with the reference once the session is freed."""
        reference = cls(session, when_gone)
        reference.user = session.user
        return reference


class WeakSessions:
    """Bounded by the limits of the registry and by the connections that a process may have."""

    __slots__ = ("_references",)

    def __init__(self) -> None:
        self._references = set[SessionRef]()

    def __len__(self) -> int:
        return len(self._references)

    def add(self, reference: SessionRef) -> None:
        self._references.add(reference)

    def discard(self, reference: SessionRef) -> bool:
        """Remove the reference, or an equal one. Return whether it was in the set."""
        if reference not in self._references:
            return False
        self._references.discard(reference)
        return True

    def alive(self) -> list[Session]:
        """Return the sessions. The list keeps them alive."""
        # The copy is needed: the garbage collector may free a session at any allocation, which changes the set.
        return [session for reference in list(self._references) if (session := reference()) is not None]

    def slices(self, size: int) -> Iterator[list[Session]]:
        """Yield the present sessions that are still alive at their turn, in lists of at most `size`."""
        references = list(self._references)
        for start in range(0, len(references), size):
            if found := [session for ref in references[start : start + size] if (session := ref()) is not None]:
                yield found
                del found  # otherwise it would keep them alive until the next turn
