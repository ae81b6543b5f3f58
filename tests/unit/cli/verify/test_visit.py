"""The oracle must notice each broken promise, and accept what the promise allows."""

import pytest

from wsbridge.cli.verify.ledger import DETECTION, Ledger, Loss, Position
from wsbridge.cli.verify.viewer import Broken, Viewer, unsettled
from wsbridge.cli.verify.visit import Visit

TTL, SIZE = 8.0, 5


class Story:
    """Published events and the messages of u1's clients, told in order; every step takes a second."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ledger = Ledger(ttl=TTL, size=SIZE)
        self.viewers: list[Viewer] = []

    def tick(self) -> float:
        self.now += 1
        return self.now

    def publish(self, *serials: int, user: str = "u1", acked: bool = True) -> None:
        for serial in serials:
            self.ledger.sending(user, serial, data(user, serial), self.tick())
            self.ledger.answered(user, serial, self.now, success=acked)

    def client(self, at: str = "e:0") -> Visit:
        """Connect a new client."""
        viewer = Viewer(self.ledger, "u1", f"client {len(self.viewers)}")
        self.viewers.append(viewer)
        visit = Visit(viewer, self.tick())
        visit.connected(Position.read(at), recovered=None, now=self.tick())
        return visit

    def back(self, *, recovered: bool = True, at: str = "") -> Visit:
        """Connect the last client again."""
        visit = Visit(self.viewers[-1], self.tick())
        visit.connected(Position.read(at or str(visit.asked)), recovered=recovered, now=self.tick())
        return visit

    def see(self, visit: Visit, *events: tuple[int, str], user: str = "u1", text: bytes = b"") -> None:
        for serial, at in events:
            visit.event(Position.read(at), user, serial, text or data(user, serial), self.tick())

    def gap(self, visit: Visit, after: str, last: str, reason: str = "reset") -> None:
        visit.gap(Position.read(after), Position.read(last), reason, self.tick())

    def lose(self) -> None:
        """Let Redis lose data."""
        self.ledger.losses.append(Loss("", self.tick(), self.tick()))

    def lacking(self) -> str:
        found = unsettled(self.viewers)
        return found[1] if found else ""


def data(user: str, serial: int) -> bytes:
    return f"{user} {serial}".encode()


@pytest.fixture
def story() -> Story:
    return Story()


def test_oracle_kept_promise_is_accepted(story: Story) -> None:
    one = story.client()
    story.publish(1, 2)
    story.see(one, (1, "e:1"), (2, "e:2"))
    two = story.client("e:2")
    story.publish(3)
    story.see(two, (3, "e:3"))
    assert story.lacking() == "event 3 did not arrive"
    story.see(one, (3, "e:3"))
    assert story.lacking() == ""
    story.see(story.back())
    assert story.lacking() == ""


def test_oracle_missed_event_is_noticed(story: Story) -> None:
    visit = story.client()
    story.publish(1, 2, 3)
    story.see(visit, (1, "e:1"))
    with pytest.raises(Broken, match="missed: event 3 came after 1 without a gap"):
        story.see(visit, (3, "e:2"))


def test_oracle_missed_first_event_is_noticed(story: Story) -> None:
    visit = story.client()
    story.publish(1, 2)
    with pytest.raises(Broken, match="missed: event 1 was first sent after"):
        story.see(visit, (2, "e:1"))


def test_oracle_positions_that_skip_an_offset_are_noticed(story: Story) -> None:
    visit = story.client()
    story.publish(1, 2)
    story.see(visit, (1, "e:1"))
    with pytest.raises(Broken, match="position e:3 came after e:1"):
        story.see(visit, (2, "e:3"))


def test_oracle_missing_last_event_is_noticed(story: Story) -> None:
    visit = story.client()
    story.publish(1, 2)
    story.see(visit, (1, "e:1"))
    assert story.lacking() == "event 2 did not arrive"
    story.publish(3, acked=False)
    story.see(visit, (2, "e:2"))
    assert story.lacking() == ""  # 3 may arrive, or not


def test_oracle_duplicate_is_noticed(story: Story) -> None:
    visit = story.client()
    story.publish(1)
    story.see(visit, (1, "e:1"))
    with pytest.raises(Broken, match="twice, or out of order"):
        story.see(visit, (1, "e:2"))
    with pytest.raises(Broken, match="position e:2 came after e:2"):
        story.see(visit, (1, "e:2"))


def test_oracle_duplicate_after_a_resume_is_noticed(story: Story) -> None:
    story.publish(1)
    visit = story.client()
    story.publish(2)
    story.see(visit, (2, "e:1"))
    with pytest.raises(Broken, match="position e:1 came after e:1"):
        story.see(story.back(), (2, "e:1"))


def test_oracle_event_from_before_the_connection_is_noticed(story: Story) -> None:
    story.publish(1)
    with pytest.raises(Broken, match="event 1 came after 1"):
        story.see(story.client(), (1, "e:1"))


def test_oracle_swapped_events_are_noticed(story: Story) -> None:
    story.publish(1, 2, acked=False)
    visit = story.client()
    story.see(visit, (2, "e:1"))  # 1 may be from before the connection
    with pytest.raises(Broken, match="event 1 came after 2: twice, or out of order"):
        story.see(visit, (1, "e:2"))


def test_oracle_event_of_another_user_is_noticed(story: Story) -> None:
    visit = story.client()
    story.publish(1, user="u2")
    with pytest.raises(Broken, match="an event of u2"):
        story.see(visit, (1, "e:1"), user="u2")


def test_oracle_unpublished_event_is_noticed(story: Story) -> None:
    visit = story.client()
    with pytest.raises(Broken, match="event 1 is not as it was published"):
        story.see(visit, (1, "e:1"))


def test_oracle_event_with_changed_bytes_is_noticed(story: Story) -> None:
    visit = story.client()
    story.publish(1)
    with pytest.raises(Broken, match="event 1 is not as it was published"):
        story.see(visit, (1, "e:1"), text=b"u1  1")


def test_oracle_offset_used_twice_is_noticed(story: Story) -> None:
    one, two = story.client(), story.client()
    story.publish(1, 2)
    story.see(one, (1, "e:1"))
    story.see(two, (1, "e:1"), (2, "e:2"))
    story.lose()
    story.publish(3)
    with pytest.raises(Broken, match="position e:2 is event 3 here, and was 2 elsewhere"):
        story.see(one, (3, "e:2"))


@pytest.mark.parametrize(
    ("reason", "events", "seconds"),
    [("reset", 1, 0), ("expired", 1, 0), ("expired", 0, 100), ("trimmed", 1, 100), ("whim", 1, 100)],
)
def test_oracle_gap_without_a_loss_is_noticed(story: Story, reason: str, events: int, seconds: float) -> None:
    visit = story.client()
    story.publish(*range(1, events + 1))
    story.now += seconds
    with pytest.raises(Broken, match="though nothing was lost"):
        story.gap(visit, "e:0", "e:5", reason)


def test_oracle_gap_of_a_user_with_events_of_others_is_accepted(story: Story) -> None:
    visit = story.client()
    story.publish(1)
    story.gap(visit, "e:0", f"e:{SIZE + 1}", "trimmed")
    assert story.lacking() == ""


def test_oracle_gaps_after_losses_are_accepted(story: Story) -> None:
    visit = story.client()
    story.publish(1)
    story.now += TTL
    story.gap(visit, "e:0", "e:1", "expired")
    story.publish(*range(2, SIZE + 3))
    story.gap(visit, "e:1", "e:7", "trimmed")
    story.lose()
    story.publish(8)
    assert story.lacking() == "event 8 did not arrive"
    story.gap(visit, "e:7", "f:1")
    assert story.lacking() == ""
    story.publish(9)
    story.see(visit, (9, "f:2"))
    assert story.lacking() == ""


def test_oracle_gap_long_after_its_loss_is_noticed(story: Story) -> None:
    visit = story.client()
    story.lose()
    story.now += DETECTION
    story.publish(1)
    story.see(visit, (1, "e:1"))
    with pytest.raises(Broken, match="though nothing was lost"):
        story.gap(visit, "e:1", "f:0")


def test_oracle_gap_does_not_excuse_later_events(story: Story) -> None:
    visit = story.client()
    story.lose()
    story.gap(visit, "e:0", "f:0")
    story.publish(1, 2)
    assert story.lacking() == "event 1 did not arrive"
    with pytest.raises(Broken, match="event 1 was first sent after the gap"):
        story.see(visit, (2, "f:1"))


def test_oracle_missed_event_after_a_gap_is_noticed(story: Story) -> None:
    visit = story.client()
    story.publish(1, 2, 3, 4)
    story.lose()
    story.gap(visit, "e:0", "f:0")
    story.see(visit, (2, "f:1"))
    with pytest.raises(Broken, match="missed: event 4 came after 2"):
        story.see(visit, (4, "f:2"))


def test_oracle_event_in_flight_at_a_loss_may_repeat_after_the_gap(story: Story) -> None:
    visit = story.client()
    story.publish(1, 2)
    story.see(visit, (1, "e:1"), (2, "e:2"))
    story.lose()
    story.publish(2)
    story.gap(visit, "e:2", "f:0")
    story.see(visit, (2, "f:1"))


def test_oracle_event_long_before_a_loss_must_not_repeat(story: Story) -> None:
    visit = story.client()
    story.publish(1)
    story.see(visit, (1, "e:1"))
    story.now += 100
    story.lose()
    story.gap(visit, "e:1", "f:0")
    with pytest.raises(Broken, match="event 1 came after 1"):
        story.see(visit, (1, "f:1"))


def test_oracle_gap_with_wrong_positions_is_noticed(story: Story) -> None:
    visit = story.client("e:3")
    story.lose()
    with pytest.raises(Broken, match="a gap after e:2 where e:3"):
        story.gap(visit, "e:2", "f:0")
    with pytest.raises(Broken, match="goes back, from e:3 to e:2"):
        story.gap(visit, "e:3", "e:2", "expired")
    visit = story.back(recovered=False, at="f:0")
    with pytest.raises(Broken, match="a gap to f:1 where f:0 was promised"):
        story.gap(visit, "e:3", "f:1")


def test_oracle_missing_gap_after_connected_is_noticed(story: Story) -> None:
    story.client()
    story.lose()
    visit = story.back(recovered=False, at="f:0")
    story.publish(1)
    with pytest.raises(Broken, match="where a gap or `connected` was to come"):
        story.see(visit, (1, "f:1"))


def test_oracle_wrong_recovered_is_noticed(story: Story) -> None:
    story.client("e:3")
    with pytest.raises(Broken, match="recovered, and e:4 is not what was asked for"):
        story.back(at="e:4")
    with pytest.raises(Broken, match="asked for e:3, and `recovered` is None"):
        Visit(story.viewers[-1], story.tick()).connected(Position("e", 3), recovered=None, now=story.tick())
    with pytest.raises(Broken, match="asked for None, and `recovered` is True"):
        Visit(Viewer(story.ledger, "u1", ""), 0).connected(Position("e", 3), recovered=True, now=story.tick())


def test_oracle_next_connection_may_repeat_events_of_the_old_one(story: Story) -> None:
    old = story.client()
    new = Visit(story.viewers[0], story.tick())
    story.publish(1, 2, 3)
    story.see(old, (1, "e:1"), (2, "e:2"))
    new.connected(Position("e", 0), recovered=True, now=story.tick())
    story.see(new, (1, "e:1"), (2, "e:2"), (3, "e:3"))
    assert story.viewers[0].tally == {"delivered": 3, "twice in a change-over": 2}
    with pytest.raises(Broken, match="position e:3 came after e:3"):
        story.see(new, (3, "e:3"))


def test_oracle_next_connection_may_have_a_gap_of_its_own(story: Story) -> None:
    old = story.client()
    story.publish(1)
    new = Visit(story.viewers[0], story.tick())
    story.publish(2)
    story.now += TTL
    story.see(old, (1, "e:1"), (2, "e:2"))
    new.connected(Position("e", 1), recovered=False, now=story.tick())
    story.gap(new, "e:0", "e:1", "expired")
    story.publish(3)
    story.see(new, (2, "e:2"), (3, "e:3"))
    assert story.lacking() == ""
    assert story.viewers[0].tally["twice in a change-over"] == 1


def test_oracle_client_may_be_set_back_by_a_loss(story: Story) -> None:
    visit = story.client()
    story.publish(1, 2, 3)
    story.see(visit, (1, "e:1"), (2, "e:2"), (3, "e:3"))
    story.lose()
    visit = story.back(recovered=False, at="e:1")
    story.gap(visit, "e:3", "e:1")
    story.gap(visit, "e:1", "f:0")
    story.publish(4)
    story.see(visit, (4, "f:1"))
    assert story.lacking() == ""


def test_oracle_clients_of_one_user_end_at_one_position(story: Story) -> None:
    story.client("e:0")
    story.client("f:0")
    assert story.lacking() == "it is at f:0, another one of the same user at e:0"


def test_oracle_report_describes_what_happened(story: Story) -> None:
    visit = story.client()
    story.ledger.faults.append((story.tick(), "Redis frozen"))
    story.publish(1, 2, 3)
    with pytest.raises(Broken) as found:
        story.see(visit, (1, "e:1"), (3, "e:2"))
    account = str(found.value)
    for part in (
        "client 0 of u1: missed",
        "event 1 at e:1",
        "event 2: first sent 5.000, SUCCESS 5.000",
        "Redis frozen",
    ):
        assert part in account
