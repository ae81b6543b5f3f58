"""A short run of chaos, and the tests of its publisher. The oracle's are in tests/unit/cli/verify."""

import asyncio
import re

import pytest

from tests.chaos.plan import Plan
from tests.chaos.run import chaos
from tests.support.sidecars import Message, statuses
from wsbridge.cli.verify.viewer import Broken

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
