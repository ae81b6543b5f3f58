"""The reports of clients about what they have handled."""

import time
from collections.abc import Mapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.peer import Peer
from wsbridge.broker.base import BrokerUnavailable
from wsbridge.broker.receipts import MemoryReceipts
from wsbridge.core.events import Position
from wsbridge.core.messages import Sample
from wsbridge.core.receipts import Reached
from wsbridge.sessions import reports as module
from wsbridge.sessions.registry import Registry
from wsbridge.sessions.reports import Reports


class Store(MemoryReceipts):
    """Keeps the news that it gets; raises `error` instead if that is set."""

    def __init__(self) -> None:
        super().__init__(60)
        self.news: list[Mapping[str, Reached]] = []
        self.error: Exception | None = None

    async def note(self, reached: Mapping[str, Reached]) -> None:
        if self.error:
            raise self.error
        self.news.append(dict(reached))


class Scene:
    """A session of one user that was sent five events."""

    def __init__(self, *, has_store: bool = True) -> None:
        self.registry = Registry()
        self.peer = self.connect()
        self.reports = Reports(self.registry, self.peer.metrics)
        self.store = Store()
        self.reports.store = self.store if has_store else None

    def connect(self) -> Peer:
        peer = Peer.live()
        self.registry.add(peer.session)
        peer.offer(1, 2, 3, 4, 5)
        return peer

    def take(self, offset: int, epoch: str = "e", sample: Sample | None = None) -> str:
        return self.reports.take(self.peer.session, Position(epoch, offset), sample)

    @property
    def reached(self) -> list[Reached]:
        return self.reports.reached(["u"]).get("u", [])


def test_report_is_noted_with_its_session() -> None:
    scene = Scene()
    assert (scene.peer.session.handled, scene.take(3), scene.peer.session.handled) == (
        None, "handled", Position("e", 3)
    )  # fmt: skip
    assert scene.reached[0] == Reached("e", 5, 3)


@pytest.mark.parametrize(("offset", "epoch", "kind"), [(6, "e", "bad"), (1, "old", "stale"), (99, "old", "stale")])
def test_report_of_the_future_or_of_another_epoch_is_not_noted(offset: int, epoch: str, kind: str) -> None:
    scene = Scene()
    assert (scene.take(offset, epoch), scene.peer.session.handled) == (kind, None)


async def test_report_of_an_earlier_position_changes_nothing() -> None:
    scene = Scene()
    scene.take(4)
    await scene.reports.flush()
    assert (scene.take(2), scene.peer.session.handled) == ("handled", Position("e", 4))
    await scene.reports.flush()
    assert scene.store.news == [{"u": Reached("e", 5, 4)}]


async def test_reports_of_one_user_are_passed_on_together_once() -> None:
    scene = Scene()
    scene.take(2)
    other = scene.connect()
    scene.reports.take(other.session, Position("e", 4), None)
    await scene.reports.flush()
    await scene.reports.flush()
    assert scene.store.news == [{"u": Reached("e", 5, 4)}]


async def test_report_is_kept_while_the_store_is_unavailable() -> None:
    scene = Scene()
    scene.take(2)
    scene.store.error = BrokerUnavailable("down")
    await scene.reports.flush()
    scene.store.error = None
    await scene.reports.flush()
    assert scene.store.news == [{"u": Reached("e", 5, 2)}]


async def test_report_that_arrives_during_a_call_of_the_store_is_kept_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scene = Scene()
    note = scene.store.note

    async def interrupted(reached: Mapping[str, Reached]) -> None:
        await note(reached)
        scene.take(4)

    scene.take(2)
    monkeypatch.setattr(scene.store, "note", interrupted)
    await scene.reports.flush()
    await scene.reports.flush()
    assert scene.store.news == [{"u": Reached("e", 5, 2)}, {"u": Reached("e", 5, 4)}]


async def test_reports_that_fail_unexpectedly_are_logged_and_dropped() -> None:
    scene = Scene()
    scene.take(2)
    scene.store.error = ZeroDivisionError()
    with capture_logs() as lines:
        await scene.reports.flush()
    assert [line["doing"] for line in lines] == ["reports"]
    scene.store.error = None
    await scene.reports.flush()
    assert scene.store.news == []


async def test_session_that_ends_is_passed_on_without_a_report() -> None:
    scene = Scene()
    scene.registry.remove(scene.peer.session)
    scene.reports.left(scene.peer.session)
    assert scene.reached == [Reached("e", 5, 0)]
    await scene.reports.flush()
    assert (scene.reached, scene.store.news) == ([], [{"u": Reached("e", 5, 0)}])


async def test_session_that_ends_before_it_was_attached_is_not_passed_on() -> None:
    scene = Scene()
    scene.reports.left(Peer("v").session)
    await scene.reports.flush()
    assert scene.store.news == []


async def test_reports_without_a_store_stay_with_their_sessions() -> None:
    scene = Scene(has_store=False)
    scene.take(2)
    await scene.reports.flush()
    assert (scene.reached, scene.peer.session.handled) == ([Reached("e", 5, 2)], Position("e", 2))


def test_reports_over_the_bound_drop_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST", 2)
    scene = Scene()
    for user in ("a", "b", "c"):
        scene.reports.left(Peer.live(user).session)
    assert list(scene.reports.reached(["a", "b", "c"])) == ["b", "c"]


@pytest.mark.parametrize(("round_trip", "handler", "whole"), [(None, 0.0, 0.0), (0.2, 0.15, 0.8), (float("inf"), 0, 0)])
def test_sample_counts_once_the_round_trip_is_known(round_trip: float | None, handler: float, whole: float) -> None:
    scene = Scene()
    scene.peer.session.round_trip = round_trip
    scene.take(1, sample=Sample(time.time() - 1, 0.05, 0.1))
    metrics: Any = scene.peer.metrics
    assert (metrics.handler.sum, metrics.handled.sum) == pytest.approx((handler, whole), abs=0.05)


@pytest.mark.parametrize("at", [-1e9, 1e11])
def test_sample_with_an_absurd_time_is_bounded(at: float) -> None:
    scene = Scene()
    scene.peer.session.round_trip = 0.2
    scene.take(1, sample=Sample(at, 0.05, 0.1))
    assert scene.peer.metrics.handled.sum in (0.0, 3600.0)


async def test_end_of_the_process_passes_on_how_far_connections_have_got_that_are_still_open() -> None:
    """They may outlast the drain: their clients answer the close late, or never."""
    scene = Scene()
    await scene.reports.finish()
    assert scene.store.news == [{"u": Reached("e", 5)}]
