"""A short run of chaos; and its oracle notices each broken promise that it is shown."""

import asyncio
import re

import pytest

from tests.chaos.plan import Plan
from tests.chaos.run import chaos
from tests.support.oracle import DETECTION, Broken, Ledger, Loss, Position, Viewer, Visit, unsettled
from tests.support.sidecars import Message, statuses

TTL, SIZE = 8.0, 5
BATCH = [Message("u1", 1, b""), Message("u2", 1, b""), Message("u1", 2, b"")]


class Story:
    """What was published and what the clients of u1 saw, told in order; every sentence takes a second."""

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
        """A new one, that has connected."""
        viewer = Viewer(self.ledger, "u1", f"client {len(self.viewers)}")
        self.viewers.append(viewer)
        visit = viewer.visit(self.tick())
        visit.connected(Position.read(at), recovered=None, now=self.tick())
        return visit

    def back(self, *, recovered: bool = True, at: str = "") -> Visit:
        """The last client connects again."""
        visit = self.viewers[-1].visit(self.tick())
        visit.connected(Position.read(at or str(visit.asked)), recovered=recovered, now=self.tick())
        return visit

    def see(self, visit: Visit, *events: tuple[int, str], user: str = "u1", text: bytes = b"") -> None:
        for serial, at in events:
            visit.event(Position.read(at), user, serial, text or data(user, serial), self.tick())

    def gap(self, visit: Visit, after: str, last: str, reason: str = "reset") -> None:
        visit.gap(Position.read(after), Position.read(last), reason, self.tick())

    def lose(self) -> None:
        """Redis loses something."""
        self.ledger.losses.append(Loss("", self.tick(), self.tick()))

    def lacking(self) -> str:
        found = unsettled(self.viewers)
        return found[1] if found else ""


def data(user: str, serial: int) -> bytes:
    return f"{user} {serial}".encode()


@pytest.fixture
def story() -> Story:
    return Story()


def test_a_promise_that_is_kept(story: Story) -> None:
    one = story.client()
    story.publish(1, 2)
    story.see(one, (1, "e:1"), (2, "e:2"))
    two = story.client("e:2")
    story.publish(3)
    story.see(two, (3, "e:3"))
    assert story.lacking() == "event 3 never came"
    story.see(one, (3, "e:3"))
    assert story.lacking() == ""
    story.see(story.back())
    assert story.lacking() == ""


def test_a_hole(story: Story) -> None:
    visit = story.client()
    story.publish(1, 2, 3)
    story.see(visit, (1, "e:1"))
    with pytest.raises(Broken, match="a hole: event 3 came after 1, and no gap was told"):
        story.see(visit, (3, "e:2"))


def test_a_hole_before_the_first_event(story: Story) -> None:
    visit = story.client()
    story.publish(1, 2)
    with pytest.raises(Broken, match="a hole: event 1 was first sent after"):
        story.see(visit, (2, "e:1"))


def test_a_hole_in_the_positions(story: Story) -> None:
    visit = story.client()
    story.publish(1, 2)
    story.see(visit, (1, "e:1"))
    with pytest.raises(Broken, match="position e:3 came after e:1"):
        story.see(visit, (2, "e:3"))


def test_the_end_is_missing(story: Story) -> None:
    visit = story.client()
    story.publish(1, 2)
    story.see(visit, (1, "e:1"))
    assert story.lacking() == "event 2 never came"
    story.publish(3, acked=False)
    story.see(visit, (2, "e:2"))
    assert story.lacking() == ""  # 3 may come, or not


def test_a_duplicate(story: Story) -> None:
    visit = story.client()
    story.publish(1)
    story.see(visit, (1, "e:1"))
    with pytest.raises(Broken, match="twice, or out of order"):
        story.see(visit, (1, "e:2"))
    with pytest.raises(Broken, match="position e:2 came after e:2"):
        story.see(visit, (1, "e:2"))


def test_a_duplicate_after_a_resume(story: Story) -> None:
    story.publish(1)
    visit = story.client()
    story.publish(2)
    story.see(visit, (2, "e:1"))
    with pytest.raises(Broken, match="position e:1 came after e:1"):
        story.see(story.back(), (2, "e:1"))


def test_an_event_from_before_the_connection(story: Story) -> None:
    story.publish(1)
    with pytest.raises(Broken, match="event 1 came after 1"):
        story.see(story.client(), (1, "e:1"))


def test_a_swap(story: Story) -> None:
    story.publish(1, 2, acked=False)
    visit = story.client()
    story.see(visit, (2, "e:1"))  # 1 may be from before it connected
    with pytest.raises(Broken, match="event 1 came after 2: twice, or out of order"):
        story.see(visit, (1, "e:2"))


def test_a_foreign_event(story: Story) -> None:
    visit = story.client()
    story.publish(1, user="u2")
    with pytest.raises(Broken, match="an event of u2"):
        story.see(visit, (1, "e:1"), user="u2")


def test_an_event_that_nobody_published(story: Story) -> None:
    visit = story.client()
    with pytest.raises(Broken, match="event 1 is not as it was published"):
        story.see(visit, (1, "e:1"))


def test_an_event_with_other_bytes(story: Story) -> None:
    visit = story.client()
    story.publish(1)
    with pytest.raises(Broken, match="event 1 is not as it was published"):
        story.see(visit, (1, "e:1"), text=b"u1  1")


def test_an_offset_used_twice(story: Story) -> None:
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
def test_a_gap_though_nothing_was_lost(story: Story, reason: str, events: int, seconds: float) -> None:
    visit = story.client()
    story.publish(*range(1, events + 1))
    story.now += seconds
    with pytest.raises(Broken, match="though nothing was lost"):
        story.gap(visit, "e:0", "e:7", reason)


def test_gaps_for_what_was_lost(story: Story) -> None:
    visit = story.client()
    story.publish(1)
    story.now += TTL
    story.gap(visit, "e:0", "e:1", "expired")
    story.publish(*range(2, SIZE + 3))
    story.gap(visit, "e:1", "e:7", "trimmed")
    story.lose()
    story.publish(8)
    assert story.lacking() == "event 8 never came"
    story.gap(visit, "e:7", "f:1")
    assert story.lacking() == ""
    story.publish(9)
    story.see(visit, (9, "f:2"))
    assert story.lacking() == ""


def test_a_loss_is_told_soon(story: Story) -> None:
    visit = story.client()
    story.lose()
    story.now += DETECTION
    story.publish(1)
    story.see(visit, (1, "e:1"))
    with pytest.raises(Broken, match="though nothing was lost"):
        story.gap(visit, "e:1", "f:0")


def test_a_gap_covers_nothing_after_it(story: Story) -> None:
    visit = story.client()
    story.lose()
    story.gap(visit, "e:0", "f:0")
    story.publish(1, 2)
    assert story.lacking() == "event 2 never came"
    with pytest.raises(Broken, match="event 1 was first sent after the gap that was told"):
        story.see(visit, (2, "f:1"))


def test_after_a_gap_there_are_no_holes(story: Story) -> None:
    visit = story.client()
    story.publish(1, 2, 3, 4)
    story.lose()
    story.gap(visit, "e:0", "f:0")
    story.see(visit, (2, "f:1"))
    with pytest.raises(Broken, match="a hole: event 4 came after 2"):
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


def test_a_gap_that_starts_or_leads_elsewhere(story: Story) -> None:
    visit = story.client("e:3")
    story.lose()
    with pytest.raises(Broken, match="a gap after e:2 where e:3"):
        story.gap(visit, "e:2", "f:0")
    with pytest.raises(Broken, match="goes back, from e:3 to e:2"):
        story.gap(visit, "e:3", "e:2", "expired")
    visit = story.back(recovered=False, at="f:0")
    with pytest.raises(Broken, match="a gap to f:1 where f:0 was promised"):
        story.gap(visit, "e:3", "f:1")


def test_a_gap_that_was_promised_and_never_came(story: Story) -> None:
    story.client()
    story.lose()
    visit = story.back(recovered=False, at="f:0")
    story.publish(1)
    with pytest.raises(Broken, match="where a gap or `connected` was to come"):
        story.see(visit, (1, "f:1"))


def test_a_wrong_recovered(story: Story) -> None:
    story.client("e:3")
    with pytest.raises(Broken, match="recovered, and e:4 is not what was asked for"):
        story.back(at="e:4")
    with pytest.raises(Broken, match="asked for e:3, and `recovered` is None"):
        story.viewers[-1].visit(story.tick()).connected(Position("e", 3), recovered=None, now=story.tick())
    with pytest.raises(Broken, match="asked for None, and `recovered` is True"):
        Viewer(story.ledger, "u1", "").visit(0).connected(Position("e", 3), recovered=True, now=story.tick())


def test_a_change_over_may_bring_twice_what_the_old_connection_had(story: Story) -> None:
    old = story.client()
    new = story.viewers[0].visit(story.tick())
    story.publish(1, 2, 3)
    story.see(old, (1, "e:1"), (2, "e:2"))
    new.connected(Position("e", 0), recovered=True, now=story.tick())
    story.see(new, (1, "e:1"), (2, "e:2"), (3, "e:3"))
    assert story.viewers[0].tally == {"delivered": 3, "twice in a change-over": 2}
    with pytest.raises(Broken, match="position e:3 came after e:3"):
        story.see(new, (3, "e:3"))


def test_a_change_over_may_bring_a_gap_that_the_old_connection_had_not(story: Story) -> None:
    old = story.client()
    story.publish(1)
    new = story.viewers[0].visit(story.tick())
    story.publish(2)
    story.now += TTL
    story.see(old, (1, "e:1"), (2, "e:2"))
    new.connected(Position("e", 1), recovered=False, now=story.tick())
    story.gap(new, "e:0", "e:1", "expired")
    story.publish(3)
    story.see(new, (2, "e:2"), (3, "e:3"))
    assert story.lacking() == ""
    assert story.viewers[0].tally["twice in a change-over"] == 1


def test_a_client_may_be_set_back_by_a_loss(story: Story) -> None:
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


def test_clients_of_one_user_end_at_one_position(story: Story) -> None:
    story.client("e:0")
    story.client("f:0")
    assert story.lacking() == "it is at f:0, another one of the same user at e:0"


def test_an_account_says_what_happened(story: Story) -> None:
    visit = story.client()
    story.ledger.faults.append((story.tick(), "Redis frozen"))
    story.publish(1, 2, 3)
    with pytest.raises(Broken) as found:
        story.see(visit, (1, "e:1"), (3, "e:2"))
    account = str(found.value)
    for part in (
        "client 0 of u1: a hole",
        "event 1 at e:1",
        "event 2: first sent 5.000, SUCCESS 5.000",
        "Redis frozen",
    ):
        assert part in account


@pytest.mark.parametrize(
    ("found", "account"),
    [
        ({"0": "SUCCESS", "1": "SUCCESS"}, "a bulk of 3 was answered for the entries ['0', '1']"),
        ({"0": "SUCCESS", "1": "SUCCESS", "3": "SUCCESS"}, "a bulk of 3"),
        ({"0": "SUCCESS", "1": "DROP", "2": "SUCCESS"}, "event 1 of u2 was answered DROP"),
        ({"0": "RETRY", "1": "SUCCESS", "2": "SUCCESS"}, "event 2 of u1 was answered SUCCESS after one with RETRY"),
    ],
)
def test_an_answer_that_breaks_the_promise(found: dict[str, str], account: str) -> None:
    with pytest.raises(Broken, match=re.escape(account)):
        statuses([{"entryId": entry, "status": status} for entry, status in found.items()], BATCH)


def test_an_answer_in_another_order() -> None:
    found = {"2": "RETRY", "1": "SUCCESS", "0": "RETRY"}
    answer = [{"entryId": entry, "status": status} for entry, status in found.items()]
    assert statuses(answer, BATCH) == ["RETRY", "SUCCESS", "RETRY"]


@pytest.mark.fault("D7", "D8", "E2", "E4")
@pytest.mark.parametrize(
    "plan",
    [
        Plan(seed=718, seconds=16, history_ttl=3, rest=0.3),
        Plan(seed=1, seconds=1, rest=0.1, redis=False),
        Plan(seed=1, seconds=1, rest=0.1, only="broadcaster of a replica dead"),
    ],
)
async def test_a_short_run(plan: Plan) -> None:
    asyncio.get_running_loop().set_debug(False)
    tally = await chaos(plan, print)
    assert tally["delivered"] > tally["events"] > 0
