"""Findings that another finding explains."""

import pytest

from wsbridge.cli.doctor.findings import Finding, State, failure, ok, warning
from wsbridge.cli.doctor.relations import related

BROKEN = failure("broken", "mend it")
DROPPED = warning("events dropped since the start (no_user): 3, none of them within 3 s", "correct it")
DENIED = warning("denied requests since the start: 1, none of them within 3 s", "correct it")


@pytest.mark.parametrize(
    ("found", "cure"),
    [
        ({}, "restart the sidecar: it subscribes once"),
        (
            {"app-token": BROKEN, "component": BROKEN},
            "first cure app-token and component (see above), then restart the sidecar: it subscribes once",
        ),
    ],
)
def test_subscription_names_the_failed_checks_that_explain_it(found: dict[str, Finding], cure: str) -> None:
    missing = failure("not subscribed", "restart the sidecar: it subscribes once")
    listed = {name: [finding] for name, finding in found.items()} | {"subscription": [missing]}
    assert related("subscription", listed) == [missing._replace(cure=cure)]


@pytest.mark.parametrize(
    ("found", "cure"),
    [
        ({"refused": DENIED}, "use --canary"),
        ({"refused": DROPPED}, "see refused"),
        ({"refused": DROPPED, "app-token": BROKEN, "subscription": BROKEN}, "see app-token, subscription, refused"),
    ],
)
def test_partitions_name_the_checks_that_explain_them(found: dict[str, Finding], cure: str) -> None:
    silent = warning("no event", "use --canary")
    listed = {name: [finding] for name, finding in found.items()} | {"partitions": [silent]}
    assert related("partitions", listed) == [silent._replace(cure=cure)]


def test_redis_histories_prove_nothing_while_redis_evicts() -> None:
    fine = ok("no history is lost")
    assert related("redis-histories", {"redis-histories": [fine], "redis-eviction": [fine]}) == [fine]
    [finding] = related("redis-histories", {"redis-histories": [fine], "redis-eviction": [BROKEN]})
    assert (finding.state, finding.text.endswith(": see redis-eviction")) == (State.NOT_CHECKED, True)
