"""The checks of the bridge's counters: what it has dropped, retried or refused, and what Redis has lost.

Read the counters that `wsbridge top` shows, several times, to tell those that rise from old ones.
"""

import contextlib
import json
import time
from collections.abc import Mapping
from typing import NamedTuple

from wsbridge.cli.doctor.deployment import Deployment
from wsbridge.cli.doctor.findings import Finding, NotChecked, failure, ok, warning
from wsbridge.cli.http import Unreachable
from wsbridge.cli.top.totals import Totals
from wsbridge.core.close_codes import TOKEN_INVALID, TOKEN_MISSING
from wsbridge.core.reasons import Drop, Retry
from wsbridge.telemetry.stations.fates import span

PAST = 3600.0  # seconds since Redis lost histories, after which that is no failure any more
LOOKS = 4  # of the stream, which has one each second
REPORT = "report it with internal.error of the bridge's log"
UNKNOWN = "see docs/protocol.md#events of the bridge's version"  # for a reason that a newer bridge has
UTF8 = "let its publisher encode the JSON as UTF-8"
OF_REDIS = "see the checks of Redis, and redis.unavailable in the bridge's log"
OF_QUEUE = "events arrive faster than they are written: see the CPU in wsbridge top (docs/scaling.md)"
CURES: Mapping[str, Mapping[str, str]] = {
    "drops": {
        Drop.NOT_JSON: "let its publisher send a JSON object; event.dropped in the bridge's log names the mistake",
        Drop.NOT_AN_OBJECT: "let its publisher send a JSON object, not a list, text or number",
        Drop.BAD_UTF8: UTF8,
        Drop.UTF16: UTF8,
        Drop.SCHEMA_REGISTRY: "let its publisher send plain JSON, without the serializer of a schema registry",
        Drop.NO_DATA: "let its publisher put a JSON object into the CloudEvent's data",
        Drop.NO_USER: "let its publisher send the field that WSBRIDGE_USER_ID_FIELD names (default: user_id). Change "
        "the setting only if every publisher uses another field: it holds for all topics, and a change needs a "
        "restart. Dropped events are not delivered again",
        Drop.BAD_USER: "let its publisher send the user as a string of 1 to 256 bytes, an integer or a list of these",
        Drop.TOO_LARGE: "publish less data for fewer users at once, or raise WSBRIDGE_MAX_EVENT_BYTES",
        Drop.EXPIRED: "let its publisher set a longer ttlInSeconds, and look for a delay in the sidecar or in Kafka",
        Drop.UNKNOWN_TOPIC: "add the topic to WSBRIDGE_TOPICS, or remove its subscription (topic.unknown in the log)",
    },
    "retries": {
        Retry.QUEUE_FULL: f"{OF_QUEUE}, or raise WSBRIDGE_QUEUE_SIZE",
        Retry.QUEUE_BYTES: f"{OF_QUEUE}, or raise WSBRIDGE_QUEUE_MAX_BYTES",
        Retry.REDIS_UNAVAILABLE: OF_REDIS,
        Retry.FOLLOWS_RETRY: "see the other reason: an earlier event of the same user was retried",
        Retry.ABANDONED: "the sidecar gave up: the bridge or Redis is slow, or the sidecar's time-out is short",
        Retry.BODY_TOO_LARGE: "raise WSBRIDGE_MAX_EVENT_BYTES to what the topic's messages have",
        Retry.BODY_TIMEOUT: "look at the network between sidecar and bridge, and at the sidecar's CPU limit",
        Retry.INTERNAL: REPORT,
    },
    "closes": {
        f"{TOKEN_INVALID.code} {TOKEN_INVALID.reason}": "auth.failed in the bridge's log has the reason; compare the "
        "identity provider's tokens with the WSBRIDGE_JWT_ settings",
        f"{TOKEN_MISSING.code} {TOKEN_MISSING.reason}": "let the page pass a token (FRONTEND_INTEGRATION.md). "
        "doctor --public-url causes some itself",
    },
    "errors": {
        "denied": "request.denied in the bridge's log has path, caller and reason. A sidecar needs APP_API_TOKEN, "
        "Prometheus WSBRIDGE_METRICS_TOKEN. doctor causes some itself",
        "internal": REPORT,
    },
}
_WORDS = {"drops": "events dropped", "retries": "events retried", "closes": "connections refused"}
LOSES_EVENTS = (_WORDS["drops"], _WORDS["retries"])  # a finding that begins with one is about events
_OF_OTHERS = ("closes", "errors")  # kinds that clients cause, and that have more labels than cures


class Look(NamedTuple):
    seconds: float  # since the first one
    counts: Mapping[str, Mapping[str, int]]  # kind → reason → number since the start, of all replicas
    growth: Mapping[str, Mapping[str, int]]  # … of these, since the first look at each replica
    retries: Mapping[str, int]  # events answered RETRY since the start, by replica
    last_drops: Mapping[str, str]  # reason → the last dropped event, and what was wrong
    losses: int  # times that Redis had lost histories, likewise
    lost: float | None  # seconds since the last time; None if that is not known


async def refused(d: Deployment) -> list[Finding]:
    """A finding for each reason whose counter is not 0. It is worse if the counter rises."""
    last = await _look(d, LOOKS)
    within = f"{last.seconds:.0f} s"
    found = []
    for kind, cures in CURES.items():
        for reason, count in last.counts[kind].items():
            grown = last.growth[kind].get(reason, 0)
            if not count or (kind in _OF_OTHERS and reason not in cures):
                continue
            more = f"{grown} of them within {within}" if grown else f"none of them within {within}"
            text = f"{_WORDS.get(kind, f'{reason} requests' if reason == 'denied' else 'internal errors')}"
            name = f" ({reason})" if kind in _WORDS else ""
            event = (
                f"; the last one is {last.last_drops[reason]}" if kind == "drops" and reason in last.last_drops else ""
            )
            state = failure if grown and kind not in _OF_OTHERS else warning
            found.append(state(f"{text} since the start{name}: {count:,}, {more}{event}", cures.get(reason, UNKNOWN)))
    before = " (before doctor's own attempts)" if d.public_url else ""
    return found or [ok(f"no event was dropped or retried, and no token or request refused, since the start{before}")]


async def retries(d: Deployment) -> Mapping[str, int]:
    """How many events each replica has answered with RETRY since its start."""
    return (await _look(d)).retries


async def redis_histories(d: Deployment) -> Finding:
    """Whether the bridge has noticed that Redis lost histories, and when it did last."""
    try:
        if not await d.uses_redis():
            raise NotChecked("the bridge does not use Redis")
    except Unreachable:
        raise NotChecked("the bridge does not answer") from None
    look = await _look(d)
    if not look.losses:
        return ok("Redis has lost no confirmed history since the start")
    times = "once" if look.losses == 1 else f"{look.losses:,} times"
    cure = (
        "see redis-eviction and redis-persistence; other causes are a failover to a replica that lagged, and FLUSHALL"
    )
    when = "" if look.lost is None else f", the last time {span(look.lost)} ago"
    text = f"Redis has lost confirmed histories {times} since the start{when}: clients got gaps (reset)"
    if look.lost is not None and look.lost > PAST:
        return warning(text, f"nothing if you know why, since clients have fetched their state again; else {cure}")
    return failure(text, cure)


async def _look(d: Deployment, number: int = 1) -> Look:
    """The last of so many looks, one each second. Raises `NotChecked` if the bridge does not answer operators."""
    totals, began, left = Totals(), time.monotonic(), number
    async with contextlib.aclosing(d.lines("/console/stream?show=numbers")) as lines:
        async for line in lines:
            if not totals.take(json.loads(line)):
                continue
            began = time.monotonic() if left == number else began
            left -= 1
            if not left:
                break
    replicas = {name: replica.now for name, replica in totals.replicas.items()}
    last_drops: dict[str, str] = {}
    for now in replicas.values():
        last_drops |= now.get("last_drops", {})  # a replica of an earlier version does not send them
    return Look(
        time.monotonic() - began,
        {kind: totals.counts(kind) for kind in CURES},
        {kind: totals.growth(kind) for kind in CURES},
        {name: sum(now["retries"].values()) for name, now in replicas.items()},
        last_drops,
        *totals.losses(),
    )
