"""The roles: what a viewer may do, and what only an operator may do."""

import pytest

from tests.support.deliveries import cloud_event
from tests.support.running import ADMIN_TOKEN, SECRET, Running, Start, receive, token

VIEWER = "what only viewers know"
READING = ("/stats", "/user?user_id=u1", "/user/events?user_id=u1&event_id=e1", "/console/stream?show=numbers")
OTHERS = (
    ("GET", "/console/payload"),
    ("POST", "/console/events/task-updates"),
    ("POST", "/user/disconnect?user_id=u1"),
)
NOT_OF_CONSOLE = (("GET", "/metrics"), ("GET", "/dapr/subscribe"), ("POST", "/events/task-updates"))


@pytest.fixture
async def guarded(start: Start) -> Running:
    return await start(JWT_SECRET=SECRET, VIEWER_TOKEN=VIEWER, METRICS_TOKEN="what only Prometheus knows")


async def status(bridge: Running, method: str, path: str, sent: str) -> int:
    headers = {"Authorization": f"Bearer {sent}"}
    async with bridge.http.request(method, bridge.url + path, headers=headers) as response:
        return response.status


@pytest.mark.parametrize("path", READING)
async def test_viewer_may_read_what_an_operator_may(guarded: Running, path: str) -> None:
    assert [await status(guarded, "GET", path, sent) for sent in (VIEWER, ADMIN_TOKEN, "x")] == [200, 200, 401]


@pytest.mark.parametrize(("method", "path"), OTHERS + NOT_OF_CONSOLE)
async def test_viewer_may_not_disconnect_publish_unmask_or_deliver(guarded: Running, method: str, path: str) -> None:
    assert await status(guarded, method, path, VIEWER) == 401


async def test_operator_may_publish_a_test_event(guarded: Running) -> None:
    ws, _ = await guarded.opened("u1", token=token())
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}", "content-type": "application/cloudevents+json"}
    event = cloud_event({"user_id": "u1", "title": "A test"})
    url = f"{guarded.url}/console/events/task-updates"
    async with guarded.http.post(url, json=event, headers=headers) as response:
        assert (response.status, await response.json()) == (200, {"status": "SUCCESS"})
    assert (await receive(ws))["event"]["title"] == "A test"
    assert guarded.bridge.metrics.delivered_at == 0  # no sidecar has delivered it


async def test_page_of_another_origin_may_not_call_without_a_token(bridge: Running) -> None:
    assert (await bridge.get("/console/stream", Origin="https://evil.net"))[0] == 403
