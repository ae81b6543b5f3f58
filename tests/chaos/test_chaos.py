"""A short run of chaos, and the tests of its publisher. The oracle's are in tests/unit/cli/verify."""

import asyncio
import re
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from tests.chaos import alerts
from tests.chaos.alerts import Alerts
from tests.chaos.faults import Faults
from tests.chaos.lasting import LastingFaults
from tests.chaos.plan import Plan
from tests.chaos.run import chaos
from tests.chaos.scene import Scene
from tests.support.prometheus import command, rules
from tests.support.sidecars import Message, statuses
from wsbridge.cli.verify.viewer import Broken


class Scripted:
    """Finds these alerts, the first ones at the first query, and the last ones from then on."""

    def __init__(self, *alerts: set[str]) -> None:
        self.alerts = list(alerts)

    async def query(self, _: str) -> list[dict[str, Any]]:
        found = self.alerts.pop(0) if len(self.alerts) > 1 else self.alerts[0]
        return [{"metric": {"alertname": alert}} for alert in found]


BATCH = [Message("u1", 1, b""), Message("u2", 1, b""), Message("u1", 2, b"")]


@pytest.mark.parametrize(
    ("found", "account"),
    [
        ({"0": "SUCCESS", "1": "SUCCESS"}, "a bulk of 3 was answered for the entries ['0', '1']"),
        ({"0": "SUCCESS", "1": "SUCCESS", "3": "SUCCESS"}, "a bulk of 3"),
        ({"0": "SUCCESS", "1": "DROP", "2": "SUCCESS"}, "event 1 of u2 was answered DROP"),
        ({"0": "RETRY", "1": "SUCCESS", "2": "SUCCESS"}, "event 2 of u1 was answered SUCCESS after one with RETRY"),
    ],
)
def test_sidecars_answer_that_breaks_the_promise_is_noticed(found: dict[str, str], account: str) -> None:
    with pytest.raises(Broken, match=re.escape(account)):
        statuses([{"entryId": entry, "status": status} for entry, status in found.items()], BATCH)


def test_sidecars_answer_in_another_order_is_understood() -> None:
    found = {"2": "RETRY", "1": "SUCCESS", "0": "RETRY"}
    answer = [{"entryId": entry, "status": status} for entry, status in found.items()]
    assert statuses(answer, BATCH) == ["RETRY", "SUCCESS", "RETRY"]


async def test_alerts_before_the_first_fault_break_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "QUIET", 0.0)
    await Alerts(Scripted({"WsbridgeDown"})).check_before()  # a busy machine may cause it
    with pytest.raises(Broken, match="fired before the first fault: WsbridgeNoEvents"):
        await Alerts(Scripted({"WsbridgeDown", "WsbridgeNoEvents"})).check_before()


async def test_fault_lasts_until_each_of_its_alerts_has_fired() -> None:
    prometheus = Scripted(set(), {"WsbridgeCheckFailing"}, {"WsbridgeEventsRetried"}, {"WsbridgeGaps"})
    step = AsyncMock()
    fired = await Alerts(prometheus).fire("Redis frozen for longer than the history lasts", step)
    assert fired == {"WsbridgeCheckFailing", "WsbridgeEventsRetried"}
    assert (step.await_count, prometheus.alerts) == (2, [{"WsbridgeGaps"}])


async def test_fault_without_its_alert_breaks_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "PATIENCE", 0.01)
    with pytest.raises(Broken, match=r"WsbridgeEventsRetried did not fire within 0.01 s of .*: Redis out of memory"):
        await Alerts(Scripted({"WsbridgeDown"})).fire("Redis out of memory", AsyncMock())


async def test_fault_begins_when_its_alerts_no_longer_fire(monkeypatch: pytest.MonkeyPatch) -> None:
    prometheus = Scripted({"WsbridgeEventsRetried"}, {"WsbridgeEventsRetried"}, {"WsbridgeDown"}, set())
    await Alerts(prometheus).quiet("Redis out of memory")
    assert prometheus.alerts == [set()]
    monkeypatch.setattr(alerts, "QUIET", 0.01)
    await Alerts(Scripted({"WsbridgeEventsRetried"})).quiet("Redis out of memory")  # it fires all the time


def test_faults_that_last_are_those_with_alerts_and_every_shipped_alert_has_one() -> None:
    shipped = {rule["alert"] for group in rules()["groups"] for rule in group["rules"] if "alert" in rule}
    assert set().union(*alerts.OF_FAULT.values()) == shipped
    assert LastingFaults(Mock()).by_name().keys() == alerts.OF_FAULT.keys()


async def test_faults_without_a_matching_name_break_the_run() -> None:
    scene = Scene(Plan(seed=1, seconds=0, only="forzen"), [], None, Mock(), Mock(), Mock())
    with pytest.raises(Broken, match="no fault has 'forzen' in its name"):
        await Faults(scene, Mock()).run()


@pytest.mark.fault("D7", "D8", "E2", "E4")
@pytest.mark.parametrize(
    "plan",
    [
        Plan(seed=15571, seconds=16, history_ttl=3, rest=0.3),
        Plan(seed=1, seconds=1, rest=0.1, redis=False),
        Plan(seed=1, seconds=1, rest=0.1, only="broadcaster of a replica dead"),
    ],
)
async def test_chaos_short_run_keeps_every_promise(plan: Plan) -> None:
    asyncio.get_running_loop().set_debug(False)
    tally = await chaos(plan, print)
    assert min(tally["delivered"], tally["events"]) > 100  # how many clients are there in time depends on the machine


@pytest.mark.once
async def test_chaos_every_shipped_alert_fires_during_its_fault() -> None:
    command("prometheus")
    asyncio.get_running_loop().set_debug(False)
    tally = await chaos(Plan(seed=1, seconds=0, every_alert=True, history_ttl=3, rest=0.3), print)
    assert sum(name.startswith("alert fired: ") for name in tally) == len(set().union(*alerts.OF_FAULT.values()))
    assert [tally[f"fault: {fault}"] for fault in alerts.OF_FAULT] == [1] * len(alerts.OF_FAULT)
