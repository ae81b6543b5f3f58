"""Frames that carry the publisher's trace, in a bridge without spans."""

from wsbridge.core.events import Event, Rejected
from wsbridge.core.reasons import Drop
from wsbridge.telemetry.traces.tracing import PassedOn

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"


def test_passed_on_is_a_valid_traceparent_of_the_publisher_only() -> None:
    events = [Event(("u",), b"{}", "task_update", f"e-{n}", "", t) for n, t in enumerate((PARENT, "", '"}'))]
    rejected = Rejected(Drop.NO_USER, "no user")
    delivery = PassedOn().begin("task-updates", [*events, rejected], {})
    assert [e.span for e in delivery.read if isinstance(e, Event)] == [PARENT, "", ""]
    assert delivery.read[3] is rejected
    delivery.end()
