"""Checks of the bridge: its health, the admin token, competing replicas, silent partitions, its clock."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from wsbridge.cli.doctor.clock import compared, time_of
from wsbridge.cli.doctor.deployment import Deployment
from wsbridge.cli.doctor.findings import Finding, NotChecked, failure, ok, warning
from wsbridge.cli.http import UNSET, Unreachable
from wsbridge.core.timestamps import seconds_of
from wsbridge.supervision.health_checks import OK
from wsbridge.telemetry.stations.fates import span

SAMPLES = 8  # requests over new connections that look for further replicas
SAME = 5.0  # seconds: replicas that all get every event have received the last one within this time
SILENT = 300.0  # seconds without a delivery after which a partition is silent, if another one is not
RECENT = 60.0  # seconds since a delivery within which a partition is not silent


async def bridge(d: Deployment) -> Finding:
    """Whether the bridge answers, and the reasons of its own health checks."""
    try:
        answer = await d.of_bridge("/health")
    except Unreachable as why:
        return failure(f"no bridge answers at {d.url}: {why}", "start it, or name its internal port with --url")
    found = answer.json()
    if "status" not in found:
        return failure(f"{d.url}/health answers {answer.status}, which is not a bridge", "check --url")
    checks = found.get("checks", {})
    failing = "; ".join(f"{name}: {why}" for name, why in checks.items() if why != OK)
    text = f"it is {found['status']}" + (f", {failing}" if failing else "")
    if found["status"] == "healthy":
        return ok(text + (f", version {found['version']}" if "version" in found else ""))
    state = warning if found["status"] == "degraded" else failure
    return state(text, "see the check of that name below, or check.failing in the bridge's log")


async def admin_token(d: Deployment) -> Finding:
    """Whether the bridge answers an operator with the token of this environment."""
    try:
        status = (await d.of_bridge("/stats")).status
    except Unreachable:
        raise NotChecked("the bridge does not answer") from None
    match status:
        case HTTPStatus.OK:
            return ok("the bridge answers operators")
        case HTTPStatus.UNAUTHORIZED:
            cure = "set WSBRIDGE_ADMIN_TOKEN to the same value here as for the bridge"
            is_set = d.settings.admin_token is not None
            why = "the bridge has another WSBRIDGE_ADMIN_TOKEN" if is_set else UNSET
            return failure(why, cure)
        case HTTPStatus.FORBIDDEN:
            cure = "set WSBRIDGE_ADMIN_TOKEN for the bridge and here, or name its internal port with --url"
            return failure("the bridge refuses all operators on this port", cure)
        case HTTPStatus.TOO_MANY_REQUESTS:
            raise NotChecked("the bridge refuses this address after too many failed requests: wait a second")
        case _:
            cure = "name the WSBRIDGE_INTERNAL_PORT of the bridge with --url"
            return failure(f"/stats answers {status}: this is not the port for operators", cure)


async def replicas(d: Deployment) -> Finding:
    """Whether several replicas answer, and then whether they compete for the events."""
    found: dict[str, dict[str, Any]] = {}
    for _ in range(SAMPLES):
        stats = await d.stats()
        found[stats["replica"]] = stats
    if len(found) == 1:
        return ok(f"one replica answers at {d.url}")
    several = f"{len(found)} replicas answer at {d.url}"
    if await d.uses_redis():
        return ok(f"{several} and use Redis")
    cure = "run one replica, set WSBRIDGE_REDIS_URL for all, or give each a consumer group (docs/replicas.md)"
    shared = share_partitions(list(found.values()))
    if shared is None:
        return warning(f"{several} without Redis, and none has received an event yet", cure)
    if shared:
        return failure(f"{several} without Redis and divide the partitions: each client misses events", cure)
    return ok(f"{several} without Redis, and each receives all events")


def share_partitions(replicas: list[dict[str, Any]]) -> bool | None:
    """Whether each replica receives only some of the events; None if there were no events.

    Replicas that receive everything have received the last event of each partition at nearly the same time. One that
    has started since cannot have received it.
    """
    last: dict[str, float] = {}
    for replica in replicas:
        for partition, at in times(replica).items():
            last[partition] = max(at, last.get(partition, 0.0))
    if not last:
        return None
    return any(
        at - times(replica).get(partition, 0.0) > SAME
        for replica in replicas
        for partition, at in last.items()
        if at > seconds_of(replica["started_at"])
    )


async def partitions(d: Deployment) -> Finding:
    """Which partitions have delivered to this replica, and when."""
    if d.canary:
        raise NotChecked("see canary")
    stats = await d.stats()
    if stats["deliveries"] is None:
        raise NotChecked("WSBRIDGE_STATIONS_MAX_BYTES is 0: the bridge records no deliveries")
    now = seconds_of(stats["at"])
    ages = {partition: max(0.0, now - at) for partition, at in times(stats).items()}
    if not ages:
        since = span(now - seconds_of(stats["started_at"]))
        cure = "publish one, or use --canary; wsbridge top shows events that were dropped"
        return warning(f"no valid event has been delivered since the start {since} ago", cure)
    text = ", ".join(f"{partition} {span(age)} ago" for partition, age in sorted(ages.items()))
    if not await d.uses_redis() and _unseen(ages):  # with Redis, other replicas have the other partitions
        seen = f"{', '.join(sorted(ages))} {'have' if len(ages) > 1 else 'has'}"
        return warning(f"only {seen} delivered since the start", "--canary shows whether the others deliver")
    if min(ages.values()) < RECENT and max(ages.values()) > SILENT:
        return warning(f"last deliveries: {text}", "try the silent partitions with --canary (docs/dapr.md)")
    if not await d.uses_redis():
        raise NotChecked(f"last deliveries: {text}; --canary shows whether there are other partitions")
    return ok(f"last deliveries: {text}")


def _unseen(partitions: Iterable[str]) -> bool:
    """Whether partitions of a topic are missing: numbers begin with 0."""
    numbers: dict[str, set[int]] = {}
    for partition in partitions:
        topic, _, number = partition.rpartition("/")
        if number.isdecimal():
            numbers.setdefault(topic, set()).add(int(number))
    return any(len(seen) <= max(seen) for seen in numbers.values())


async def bridge_clock(d: Deployment) -> Finding:
    """The clock of the bridge, by the header `Date`."""
    try:
        answer = await d.send(d.url + "/healthz")
    except Unreachable:
        raise NotChecked("the bridge does not answer") from None
    return compared("the bridge's clock", time_of(answer.headers), d.settings.jwt_leeway)


def times(stats: dict[str, Any]) -> dict[str, float]:
    return {partition.removesuffix("/"): seconds_of(at) for partition, at in (stats["deliveries"] or {}).items()}
