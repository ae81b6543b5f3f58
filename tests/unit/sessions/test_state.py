"""The table of a session's states."""

from wsbridge.sessions.state import TRANSITIONS, State


def test_transitions_are_those_of_the_documentation() -> None:
    assert {(before, after) for before, afters in TRANSITIONS.items() for after in afters} == {
        (State.JOINING, State.REPLAYING),
        (State.JOINING, State.CLOSED),
        (State.REPLAYING, State.LIVE),
        (State.REPLAYING, State.CLOSED),
        (State.LIVE, State.REPLAYING),
        (State.LIVE, State.CLOSED),
    }
    assert set(TRANSITIONS) == set(State)
