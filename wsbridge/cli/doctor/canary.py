"""The check that sends one event through the sidecar and each partition, and waits until the bridge has it."""

import asyncio
import secrets
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from wsbridge.cli.doctor import sidecar
from wsbridge.cli.doctor.deployment import Deployment
from wsbridge.cli.doctor.findings import Finding, NotChecked, State, failure, ok
from wsbridge.cli.doctor.refused import retries
from wsbridge.cli.http import Unreachable
from wsbridge.cli.options import Failed
from wsbridge.cli.publish import cloud_event, to_sidecar

EVENT_TYPE = "wsbridge.canary"
MOST = 256  # partitions of a topic that are tried
PATIENCE = 10.0  # seconds until an event must have reached the bridge
PAUSE = 0.2  # seconds between two questions about the events
STORED = ("delivered", "partly_delivered", "stored")  # codes of `wsbridge why`


async def canary(d: Deployment) -> Finding:
    """Whether an event of each partition arrives: not if another replica or a blocked delivery has the partition."""
    if not d.canary:
        raise NotChecked("--canary publishes an event in each partition")
    is_kafka = any(c.get("type") == "pubsub.kafka" for c in (await d.metadata()).get("components", []))
    await d.stats()  # the bridge must answer
    retried = await retries(d)
    user = f"wsbridge-canary-{secrets.token_hex(4)}"
    waiting: dict[str, str] = {}  # id of an event → its topic and partition
    for topic, _ in d.settings.topics:
        for number in range(MOST if is_kafka else 1):
            event_id = secrets.token_hex(8)
            problem = await _publish(d, topic, user, event_id, number if is_kafka else None)
            if problem and number == 0:
                cure = "see the sidecar's log; with scopes for publishers, the app id needs the topic"
                return failure(f"the sidecar does not publish to {topic}: {problem}", cure)
            if problem:  # there is no such partition
                break
            waiting[event_id] = f"{topic}/{number}" if is_kafka else topic
    return await _arrived(d, user, waiting, retried, is_kafka=is_kafka)


async def _arrived(
    d: Deployment, user: str, waiting: dict[str, str], retried: Mapping[str, int], *, is_kafka: bool
) -> Finding:
    """Wait until the bridge has stored every event. `retried` are the numbers of retried events before them."""
    places, started, patience = list(waiting.values()), time.monotonic(), PATIENCE + d.settings.bulk_wait
    d.note(f"canary: waits up to {patience:.0f} s for {', '.join(places)}")
    while waiting and time.monotonic() - started < patience:
        for event_id, place in list(waiting.items()):
            found = await _why(d, user, event_id)
            if found.get("code") == "dropped":
                cure = "compare WSBRIDGE_USER_ID_FIELD here and on the bridge"
                return failure(f"the bridge dropped the event of {place}: {found['answer']}", cure)
            if found.get("code") not in STORED:
                continue
            receipts = [station["text"] for station in found["stations"] if station["name"] == "received"]
            if is_kafka and receipts and not receipts[0].startswith(f"{place}/"):
                raise NotChecked("this sidecar cannot publish to a partition of choice: it needs Dapr 1.18")
            del waiting[event_id]
        await asyncio.sleep(PAUSE if waiting else 0)
    seconds = time.monotonic() - started
    if not waiting:
        return ok(f"an event arrived through each of {', '.join(places)} within {seconds:.1f} s")
    silent, delivering = list(waiting.values()), [place for place in places if place not in waiting.values()]
    now = await retries(d)
    is_retrying = any(now.get(replica, 0) > count for replica, count in retried.items())
    return await _silent(d, silent, delivering, seconds, is_retrying=is_retrying)


async def _silent(
    d: Deployment, silent: list[str], delivering: list[str], seconds: float, *, is_retrying: bool
) -> Finding:
    """Why the `silent` partitions have not delivered within this time."""
    text = f"no event arrived within {seconds:.0f} s through {', '.join(silent)}"
    if delivering:
        text += f", while {', '.join(delivering)} {'deliver' if len(delivering) > 1 else 'delivers'}"
    if is_retrying:
        cure = (
            "event.retried in the bridge's log has the reason (docs/dapr.md#no-event-arrives-any-more-what-blocks-it)"
        )
        return failure(f"{text}{' and' if delivering else ', and'} events are retried", cure)
    group = f"kafka-consumer-groups.sh --describe --group {(await d.metadata()).get('id')} shows the members"
    if not delivering:
        for name, check in (("app-token", sidecar.app_token), ("subscription", sidecar.subscription)):
            if (await check(d)).state is State.FAILURE:
                raise NotChecked(f"no event can arrive: see {name}")
        cure = f"look for another member of the consumer group ({group}), and at the sidecar's log (docs/dapr.md)"
        return failure(f"{text}, and nothing is retried", cure)
    other = "a bridge with another Redis or prefix" if await d.uses_redis() else "a second replica without Redis"
    text += f" and nothing is retried: another member of the consumer group has {'them' if len(silent) > 1 else 'it'}"
    cure = f"one replica, Redis, or a consumer group each (docs/replicas.md); {group}"
    return failure(f"{text}, most likely {other}", cure)


async def _publish(d: Deployment, topic: str, user: str, event_id: str, partition: int | None) -> str:
    """Return "" or why the event was not published."""
    event = cloud_event(EVENT_TYPE, [user], {}, event_id=event_id, user_field=d.settings.user_id_field)
    try:
        await asyncio.to_thread(
            to_sidecar,
            event,
            str(d.sidecar),
            key=user,
            pubsub=d.settings.pubsub_name,
            topic=topic,
            token=d.api_token,
            partition=partition,
        )
    except (Failed, Unreachable) as why:
        return str(why)
    return ""


async def _why(d: Deployment, user: str, event_id: str) -> dict[str, Any]:
    """The answer that `wsbridge why` prints; empty if there is none."""
    try:
        return (await d.of_bridge(f"/user/events?{urlencode({'user_id': user, 'event_id': event_id})}")).json()
    except Unreachable:
        return {}
