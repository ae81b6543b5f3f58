"""Frames that carry their trace, on both transports, in a bridge without OpenTelemetry."""

import json

import pytest

from tests.support.collector import PARENT
from tests.support.deliveries import bulk_of, cloud_event
from tests.support.logs import Logs
from tests.support.running import Running, Start, receive

TASK = {"user_id": "u1"}


async def streamed(bridge: Running, **headers: str) -> dict[str, object]:
    """The first update of an event stream."""
    async with bridge.http.get(f"{bridge.url}/sse", params={"user_id": "u1"}, headers=headers) as response:
        async for line in response.content:
            if line.startswith(b"data: ") and b"task_update" in line:
                return dict(json.loads(line.removeprefix(b"data: ")))
    raise AssertionError("the stream has ended")


async def test_update_carries_the_publishers_trace_live_and_replayed(start: Start, logs: Logs) -> None:
    bridge = await start(SEND_TRACEPARENT="true")
    ws, hello = await bridge.opened()
    await bridge.post(cloud_event(TASK, traceparent=PARENT))
    assert (await receive(ws))["traceparent"] == PARENT
    again, _ = await bridge.opened(last_event_id=hello["last_event_id"])
    assert (await receive(again))["traceparent"] == PARENT
    assert (await streamed(bridge, **{"Last-Event-ID": hello["last_event_id"]}))["traceparent"] == PARENT


async def test_update_by_default_carries_no_trace(bridge: Running) -> None:
    ws, hello = await bridge.opened()
    await bridge.post(cloud_event(TASK, traceparent=PARENT))
    assert "traceparent" not in await receive(ws)
    assert "traceparent" not in await streamed(bridge, **{"Last-Event-ID": hello["last_event_id"]})


@pytest.mark.parametrize(
    "hostile", ["", "x" * 10_000, '"}', "٣", 7, None, ["a"], {"a": 1}, f"00-{'0' * 32}-{'0' * 16}-00"]
)
async def test_update_of_an_event_with_a_hostile_trace_arrives_without_it(start: Start, hostile: object) -> None:
    bridge = await start(SEND_TRACEPARENT="true")
    ws, _ = await bridge.opened()
    metadata = {"__partition": "0", "__offset": "1", "traceparent": hostile}
    bulk = bulk_of(cloud_event(TASK, id="1", traceparent=hostile), TASK, metadata=metadata)
    answer = await bridge.post(bulk, "application/json")
    assert [each["status"] for each in answer["statuses"]] == ["SUCCESS", "SUCCESS"]
    for _ in range(2):
        assert "traceparent" not in await receive(ws)
