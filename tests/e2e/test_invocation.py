"""Calls of another Dapr app to the bridge through its sidecar: real sidecars, no broker."""

import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.e2e.process import Log, settled
from tests.e2e.sidecar import K8S, Manifest, Sidecar
from tests.support.logs import Logs
from tests.support.running import APP_TOKEN, SECRET, Running, Start, receive, token, until

IN_MEMORY = """
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: pubsub-kafka}
spec: {type: pubsub.in-memory, version: v1, metadata: []}
"""
EVENT = {"user_id": "alice", "n": 1}
ROUTES = [
    ("POST", "events/task-updates"),
    ("GET", "dapr/subscribe"),
    ("GET", "stats"),
    ("GET", "users/alice"),
    ("POST", "users/alice/disconnect"),
    ("GET", "metrics"),
]
# Both sidecars treat headers that `Connection` names as hop-by-hop and remove them, even their own ones.
STRIPPED = {"Connection": "close, dapr-caller-app-id, dapr-callee-app-id, dapr-caller-namespace"}


@dataclasses.dataclass
class Pair:
    """The bridge with its sidecar, and the sidecar of another app."""

    bridge: Running
    sidecar: Sidecar
    intruder: Sidecar
    app_id: str
    http: aiohttp.ClientSession

    async def invoke(self, method: str, path: str, **headers: str) -> tuple[int, str]:
        url = f"{self.intruder.url}/v1.0/invoke/{self.app_id}/method/{path}"
        body: Any = EVENT if path.startswith("events") else None
        async with self.http.request(method, url, json=body, headers=headers) as response:
            return response.status, await response.text()


Pairing = Callable[..., Awaitable[Pair]]


@pytest.fixture
async def paired(start: Start, tmp_path: Path) -> AsyncIterator[Pairing]:
    """Start both; `controlled` adds the shipped access control."""
    (tmp_path / "components").mkdir()
    (tmp_path / "components" / "pubsub.yaml").write_text(IN_MEMORY)
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())

        async def run(name: str, annotations: dict[str, str], **options: Any) -> Sidecar:
            manifest = Manifest(annotations, {})
            log = Log(tmp_path / f"{name}.log")
            sidecar = Sidecar(manifest, tmp_path / "components", log, http, name=name, **options)
            stack.callback(sidecar.kill)
            sidecar.start()
            await sidecar.ready()
            return sidecar

        async def pairing(*, controlled: bool) -> Pair:
            bridge = await start(JWT_SECRET=SECRET, INTERNAL_PORT="0", APP_API_TOKEN=APP_TOKEN, ADMIN_TOKEN="")
            internal = bridge.server.ports[1]
            app_id = f"websocket-service-{internal}"  # other tests on this machine run sidecars as well
            annotations = dict(Manifest.read(K8S / "websocket-service.yaml").annotations) | {"dapr.io/app-id": app_id}
            if not controlled:
                del annotations["dapr.io/config"]
            sidecar = await run("bridge", annotations, app_port=internal, app_token=APP_TOKEN)
            await settled(sidecar.subscriptions)
            intruder = await run("intruder", {"dapr.io/app-id": f"intruder-{internal}"})
            return Pair(bridge, sidecar, intruder, app_id, http)

        yield pairing


@pytest.mark.fault("B2")
async def test_bridge_refuses_an_invocation_and_accepts_a_delivery(paired: Pairing, logs: Logs) -> None:
    pair = await paired(controlled=False)
    tab, _ = await pair.bridge.opened("alice", token=token("alice"))
    for method, path in ROUTES:
        status, text = await pair.invoke(method, path)
        assert (status, "must not be called through" in text) == (403, True), (path, status, text)
        await until(lambda path=path: logs.of("request.denied", path=f"/{path}", why="invocation"))  # type: ignore[misc]  # a default, not a parameter
    assert (await pair.invoke("GET", "healthz"))[0] == 200
    assert "checks" not in (await pair.invoke("GET", "health"))[1]
    await pair.sidecar.publish(b'{"user_id":"alice","n":2}', "alice")
    assert (await receive(tab))["event"]["n"] == 2  # the first message: the invocation delivered nothing


@pytest.mark.fault("B2")
@pytest.mark.parametrize("headers", [{}, STRIPPED], ids=["plain", "stripped"])
async def test_sidecar_with_the_shipped_access_control_refuses_an_invocation(
    paired: Pairing, logs: Logs, headers: dict[str, str]
) -> None:
    pair = await paired(controlled=True)
    tab, _ = await pair.bridge.opened("alice", token=token("alice"))
    for method, path in (*ROUTES, ("GET", "healthz")):
        status, text = await pair.invoke(method, path, **headers)
        assert (status, "access control policy has denied access" in text) == (403, True), (path, status, text)
    assert logs.of("request.denied") == []  # no invocation reached the bridge
    await pair.sidecar.publish(b'{"user_id":"alice","n":2}', "alice")
    assert (await receive(tab))["event"]["n"] == 2


async def test_bridge_accepts_an_invocation_with_stripped_headers(paired: Pairing) -> None:
    """The reason why the access control is shipped. If this test fails, Dapr has fixed it: update SECURITY.md."""
    pair = await paired(controlled=False)
    status, text = await pair.invoke("POST", "events/task-updates", **STRIPPED)
    assert (status, text) == (200, '{"status":"SUCCESS"}')
