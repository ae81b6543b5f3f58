"""A short run of chaos, and the tests of its publisher. The oracle's are in tests/unit/cli/verify."""

import asyncio
import re
from collections import Counter
from typing import Any

import pytest

from tests.chaos import alerts
from tests.chaos.alerts import Alerts
from tests.chaos.plan import Plan
from tests.chaos.run import chaos
from tests.support.prometheus import rules
from tests.support.running import ROOT
from tests.support.sidecars import Message, statuses
from wsbridge.cli.verify.viewer import Broken


class Scripted:
    """Says that these alerts have fired."""

    def __init__(self, *alerts: str) -> None:
        self._alerts = alerts

    async def query(self, _: str) -> list[dict[str, Any]]:
        return [{"metric": {"alertname": alert}} for alert in self._alerts]


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
    await Alerts(Scripted("WsbridgeDown")).check_before()  # a busy machine may cause it
    with pytest.raises(Broken, match="fired before the first fault: WsbridgeNoEvents"):
        await Alerts(Scripted("WsbridgeDown", "WsbridgeNoEvents")).check_before()


async def test_alert_that_is_missing_for_an_injected_fault_breaks_the_run() -> None:
    injected = Counter({"fault: Redis out of memory": 1, "fault: Redis wiped": 1})
    await Alerts(Scripted("WsbridgeEventsRetried")).check_after(injected)
    with pytest.raises(Broken, match=r"WsbridgeEventsRetried did not fire, .*: Redis out of memory"):
        await Alerts(Scripted("WsbridgeDown")).check_after(injected)


def test_alerts_are_of_faults_and_rules_that_exist() -> None:
    names = {rule.get("alert") for group in rules()["groups"] for rule in group["rules"]}
    assert set().union(*alerts.OF_FAULT.values()) <= names
    source = (ROOT / "tests" / "chaos" / "faults.py").read_text(encoding="utf-8")
    kinds = alerts.OF_FAULT.keys() - {alerts.OUTAGE}
    assert [fault for fault in kinds if f'"{fault}": self.' not in source] == []


@pytest.mark.fault("D7", "D8", "E2", "E4")
@pytest.mark.parametrize(
    "plan",
    [
        Plan(seed=718, seconds=16, history_ttl=3, rest=0.3),
        Plan(seed=1, seconds=1, rest=0.1, redis=False),
        Plan(seed=1, seconds=1, rest=0.1, only="broadcaster of a replica dead"),
    ],
)
async def test_chaos_short_run_keeps_every_promise(plan: Plan) -> None:
    asyncio.get_running_loop().set_debug(False)
    tally = await chaos(plan, print)
    assert min(tally["delivered"], tally["events"]) > 100  # how many clients are there in time depends on the machine
