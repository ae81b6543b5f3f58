"""The states of a session, and which state may follow which."""

from enum import Enum, auto


class State(Enum):
    """The state of a session, from its admission to its end."""

    JOINING = auto()  # admitted; nothing may be written before its `connected` message
    REPLAYING = auto()  # live entries are held back until the missed ones are written
    LIVE = auto()  # live entries are written as they come
    CLOSED = auto()  # accepts no more messages


TRANSITIONS = {
    State.JOINING: {State.REPLAYING, State.CLOSED},
    State.REPLAYING: {State.LIVE, State.CLOSED},
    State.LIVE: {State.REPLAYING, State.CLOSED},  # REPLAYING: it missed a live entry
    State.CLOSED: set[State](),
}
