"""Health, stats and metrics, and access to each route, on real sockets."""

import re
import socket
from typing import Any

import pytest

from tests.support.bugs import BlockedBroadcaster
from tests.support.deliveries import cloud_event
from tests.support.frames import Peer
from tests.support.logs import Logs
from tests.support.running import SECRET, Running, Start, closed, receive, token, until
from wsbridge import __version__

ADMIN, METRICS, SIDECAR = "the operator's token", "the scraper's token", "the sidecar's token"
VIEWER = "the viewer's token"
ROUTES = {
    "/dapr/subscribe": ("GET", "sidecar"),
    "/events/task-updates": ("POST", "sidecar"),
    "/stats": ("GET", "viewer"),
    "/user?user_id=u1": ("GET", "viewer"),
    "/user/events?user_id=u1&event_id=e1": ("GET", "viewer"),
    "/user/disconnect?user_id=u1": ("POST", "operator"),
    "/users/u1": ("GET", "viewer"),
    "/users/u1/events/e1": ("GET", "viewer"),
    "/users/u1/disconnect": ("POST", "operator"),
    "/metrics": ("GET", "prometheus"),
    "/health": ("GET", "anyone"),
    "/healthz": ("GET", "anyone"),
}
PROTECTED = {"APP_API_TOKEN": SIDECAR, "ADMIN_TOKEN": ADMIN, "METRICS_TOKEN": METRICS, "VIEWER_TOKEN": VIEWER}
CREDENTIALS = {
    "sidecar": {"dapr-api-token": SIDECAR},
    "operator": {"Authorization": f"Bearer {ADMIN}"},
    "viewer": {"Authorization": f"Bearer {VIEWER}"},
    "prometheus": {"Authorization": f"Bearer {METRICS}"},
    "anyone": {},
}


async def test_health_names_its_checks(bridge: Running) -> None:
    await bridge.opened()
    status, body = await bridge.get("/health")
    assert status == 200
    assert body["status"] == "healthy"
    assert set(body["checks"].values()) == {"ok"}
    assert (body["connections"], body["version"]) == (1, __version__)
    assert await bridge.get("/healthz") == (200, "ok\n")


@pytest.mark.fault("B3")
async def test_health_shows_reasons_to_operators_only(start: Start, unused_tcp_port: int) -> None:
    bridge = await start(
        JWT_SECRET=SECRET, INTERNAL_PORT="0", ADMIN_TOKEN=ADMIN, REDIS_URL=f"redis://127.0.0.1:{unused_tcp_port}"
    )
    public, internal = bridge.server.ports
    headers = {"Authorization": f"Bearer {ADMIN}"}
    for port, sent, shown in ((public, {}, False), (public, headers, True), (internal, {}, True)):
        async with bridge.http.get(f"http://127.0.0.1:{port}/health", headers=sent) as response:
            text = await response.text()
        assert (str(unused_tcp_port) in text) is (__version__ in text) is ("checks" in text) is shown
        assert '"status":' in text


async def test_health_when_degraded_is_200(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    broadcaster = BlockedBroadcaster(monkeypatch)
    bridge = await start(QUEUE_SIZE="1")
    await bridge.publish({"user_id": "u1"})
    status, body = await bridge.get("/health")
    assert (status, body["status"], body["checks"]["queue"]) == (200, "degraded", "nearly full")
    broadcaster.release()
    await until(bridge.bridge.bus.is_empty)
    assert (await bridge.get("/health"))[1]["status"] == "healthy"


async def test_health_during_the_drain_is_503_and_healthz_200(bridge: Running) -> None:
    bridge.bridge.admission.draining = True
    status, body = await bridge.get("/health")
    assert (status, body["status"], body["checks"]["lifecycle"]) == (503, "unavailable", "draining")
    assert (await bridge.get("/healthz"))[0] == 200
    assert await bridge.publish({"user_id": "u1"}) == "SUCCESS"  # deliveries continue


async def test_stats_lists_users_and_connections(bridge: Running) -> None:
    async with bridge.http.get(f"{bridge.url}/stats") as response:
        assert (await response.read()).startswith(b'{"total_users":0,"total_connections":0,"users":{},"replica":')
    for user in ("user-123", "user-456", "user-123"):
        ws, _ = await bridge.opened(user)
    found = (await bridge.get("/stats"))[1]
    assert (found["total_users"], found["total_connections"]) == (2, 3)
    assert found["users"] == {"user-123": 2, "user-456": 1}
    await ws.close()
    await until(lambda: len(bridge.bridge.registry) == 2)
    assert (await bridge.get("/stats"))[1]["users"] == {"user-123": 1, "user-456": 1}


async def test_stats_names_the_replica_and_the_last_delivery_of_each_partition(start: Start) -> None:
    bridge = await start()
    await bridge.post(cloud_event({"user_id": "u1"}), __partition="3", __offset="7")
    found = (await bridge.get("/stats"))[1]
    assert found["replica"] == bridge.bridge.stations.replica
    assert list(found["deliveries"]) == ["task-updates/3"]
    assert found["started_at"] <= found["deliveries"]["task-updates/3"] <= found["at"]
    silent = await start(STATIONS_MAX_BYTES="0")
    assert (await silent.get("/stats"))[1]["deliveries"] is None


async def test_health_without_a_sidecar_yet_is_healthy_but_says_so(start: Start) -> None:
    bridge = await start(JWT_SECRET=SECRET)
    status, body = await bridge.get("/health")
    assert (status, body["status"]) == (200, "healthy")
    assert re.fullmatch(r"ok, but no sidecar seen yet \(started \d+ s ago\)", body["checks"]["sidecar"])
    assert bridge.bridge.metrics.registry.get_sample_value("wsbridge_health_check_ok", {"check": "sidecar"}) == 1
    await bridge.publish({"user_id": "u1"})
    assert (await bridge.get("/health"))[1]["checks"]["sidecar"] == "ok"


async def numbers(bridge: Running) -> dict[str, float]:
    _, text = await bridge.get("/metrics")
    samples = (line.rpartition(" ") for line in text.splitlines() if line.startswith("wsbridge_"))
    return {name: float(value) for name, _, value in samples}


async def test_metrics_count_connections_and_events(start: Start) -> None:
    bridge = await start(MAX_CONNECTIONS_PER_USER="2")
    ws, _ = await bridge.opened("secret-user")
    await bridge.opened("secret-user")
    assert await closed(await bridge.connect("secret-user")) == (4429, "too_many_connections")
    event = cloud_event({"user_id": "secret-user"})
    await bridge.post(event)
    await bridge.post(event)
    await bridge.post(b"not JSON")
    await receive(ws)
    await ws.send_str('{"type":"ping"}')
    await receive(ws)
    found = await numbers(bridge)
    expected = {
        "wsbridge_connections": 2,
        "wsbridge_users": 1,
        "wsbridge_queue_entries": 0,
        'wsbridge_events_received_total{outcome="stored"}': 1,
        'wsbridge_events_received_total{outcome="duplicate"}': 1,
        'wsbridge_events_received_total{outcome="dropped"}': 1,
        'wsbridge_events_received_total{outcome="retried"}': 0,
        "wsbridge_deliveries_total": 2,
        'wsbridge_messages_received_total{kind="ping"}': 1,
        "wsbridge_connections_opened_total": 2,
        'wsbridge_closes_total{code="4429",reason="too_many_connections"}': 1,
        'wsbridge_event_stage_seconds_count{stage="socket"}': 1,
    }
    assert {name: found.get(name) for name in expected} == expected
    assert found["wsbridge_messages_sent_total"] >= 2
    assert found["wsbridge_sent_bytes_total"] > 100
    await bridge.hang_up()
    await until(lambda: len(bridge.bridge.registry) == 0)
    found = await numbers(bridge)
    assert found["wsbridge_connection_duration_seconds_count"] == 2
    assert found["wsbridge_connections"] == 0
    assert "secret-user" not in (await bridge.get("/metrics"))[1]


async def test_metrics_for_unknown_close_codes_share_one_label(bridge: Running) -> None:
    for code in (3000, 3001, 4999, 1001):
        ws, _ = await bridge.opened()
        await ws.close(code=code)
    await until(lambda: bridge.bridge.metrics.closes.total() == 4)
    assert +bridge.bridge.metrics.closes == {("other", "client"): 3, ("1001", "client"): 1}


ODD_ACCEPTS = [
    "application/openmetrics-text; version=x",
    "application/openmetrics-text; version=1..0",
    "application/openmetrics-text; version=" + "9" * 5_000,
    "application/openmetrics-text; version=1.0.0; escaping=nope",
    "application/openmetrics-text; version=9.9.9, text/plain; version=x",
    "text/plain; version=x",
    "text/plain; version=\xff",
    ";;;,,,",
    "\xff",
]


@pytest.mark.fault("H6")
@pytest.mark.parametrize("accept", ODD_ACCEPTS, ids=lambda accept: ascii(accept[-30:]))
async def test_metrics_with_a_malformed_accept_header_use_the_text_format(bridge: Running, accept: str) -> None:
    async with Peer(bridge.port) as peer:
        status, answer = await peer.request(
            f"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n".encode("latin-1")
        )
    assert status == 200
    assert "wsbridge_connections 0.0" in answer


async def test_metrics_with_accept_openmetrics_use_it(bridge: Running) -> None:
    async with bridge.http.get(f"{bridge.url}/metrics", headers={"Accept": "application/openmetrics-text"}) as response:
        assert response.content_type == "application/openmetrics-text"
        assert (await response.text()).endswith("# EOF\n")


@pytest.mark.parametrize(("path", "status"), [("/nothing", 404), ("/healthz/", 404), ("/ws/x", 404)])
async def test_errors_are_problem_documents(bridge: Running, path: str, status: int) -> None:
    async with bridge.http.get(bridge.url + path) as response:
        assert (response.status, response.content_type) == (status, "application/problem+json")
        assert (await response.json(content_type=None))["status"] == status
    async with bridge.http.post(f"{bridge.url}/health") as response:
        assert (response.status, response.content_type) == (405, "application/problem+json")
    async with bridge.http.head(f"{bridge.url}/health") as response:
        assert response.status == 200


async def status_of(
    bridge: Running, path: str, headers: dict[str, str] | None = None, *, port: int = 0, host: str = "127.0.0.1"
) -> int:
    body: Any = cloud_event({"user_id": "u1"}) if path.startswith("/events") else None
    url = f"http://{host}:{port or bridge.port}{path}"
    async with bridge.http.request(ROUTES[path][0], url, json=body, headers=headers) as response:
        if response.status >= 400:
            assert response.content_type == "application/problem+json"
        return response.status


@pytest.mark.parametrize("path", ROUTES)
async def test_routes_with_a_token_configured_refuse_requests_without_it(start: Start, logs: Logs, path: str) -> None:
    bridge = await start(**PROTECTED)
    caller = ROUTES[path][1]
    for other, headers in CREDENTIALS.items():
        status = await status_of(bridge, path, headers)
        may = caller in (other, "anyone") or (caller, other) == ("viewer", "operator")
        assert status in (200, 202) if may else status == 401, (other, status)
    # with the token, a proxy in between does not matter
    proxied = {"X-Forwarded-For": "203.0.113.9"}
    assert await status_of(bridge, path, CREDENTIALS[caller] | proxied) in (200, 202)
    if caller != "anyone":
        nearly = {name: value[:-1] for name, value in CREDENTIALS[caller].items()}
        assert await status_of(bridge, path, nearly) == 401
        denied = logs.of("request.denied", path=path.partition("?")[0], caller=caller, why="token")
        assert len(denied) == bridge.bridge.metrics.errors["denied"] == (4 if caller == "viewer" else 5)


@pytest.mark.parametrize("path", ROUTES)
async def test_routes_in_development_mode_serve_this_machine_only(start: Start, logs: Logs, path: str) -> None:
    bridge = await start()
    is_open = ROUTES[path][1] == "anyone"
    assert await status_of(bridge, path) in (200, 202)
    for headers in (
        {"X-Forwarded-For": "203.0.113.9"},
        {"X-Forwarded-For": "127.0.0.1"},
        {"Forwarded": "for=203.0.113.9"},
        {"Origin": "https://evil.net"},  # a foreign page in a browser on this machine
    ):
        status = await status_of(bridge, path, headers)
        assert status in (200, 202) if is_open else status == 403, (headers, status)
    assert is_open or len(logs.of("request.denied", path=path.partition("?")[0], why="not_local")) == 3
    assert is_open or len(logs.of("request.denied", path=path.partition("?")[0], why="foreign_page")) == 1
    assert await status_of(bridge, path, {"Origin": bridge.url}) in (200, 202)  # a page of the bridge itself


def own_address() -> str:
    """An address of this machine that is not a loopback one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))  # TEST-NET-1: connecting a UDP socket sends nothing
            return str(sock.getsockname()[0])
        except OSError:
            return "127.0.0.1"


@pytest.mark.skipif(own_address().startswith("127."), reason="this machine has a loopback interface only")
@pytest.mark.parametrize("path", ROUTES)
async def test_routes_without_a_token_refuse_another_machine(start: Start, path: str) -> None:
    bridge = await start(HOST="0.0.0.0", AUTH="none")
    status = await status_of(bridge, path, host=own_address())
    assert status == 200 if ROUTES[path][1] == "anyone" else status == 403


@pytest.mark.fault("B1")
@pytest.mark.parametrize("settings", [{"JWT_SECRET": SECRET}, {"HOST": "0.0.0.0", "AUTH": "none"}], ids=str)
@pytest.mark.parametrize("path", ROUTES)
async def test_routes_outside_development_refuse_local_peers_without_a_token(
    start: Start, logs: Logs, path: str, settings: dict[str, str]
) -> None:
    """A proxy on the same host and the sidecar of a mesh are such peers, and need not reveal it."""
    bridge = await start(**settings, APP_API_TOKEN="", ADMIN_TOKEN="")
    ws, _ = await bridge.opened(token=token())
    status = await status_of(bridge, path)
    if ROUTES[path][1] == "anyone":
        assert status == 200
    else:
        assert status == 403
        assert logs.of("request.denied", path=path.partition("?")[0], why="no_token", peer="127.0.0.1")
    await ws.send_str('{"type":"ping"}')
    assert await receive(ws) == {"type": "pong"}  # no event and no close arrived before


@pytest.mark.fault("B1")
@pytest.mark.parametrize("path", ROUTES)
async def test_routes_without_tokens_serve_operators_on_the_internal_port(start: Start, path: str) -> None:
    bridge = await start(JWT_SECRET=SECRET, INTERNAL_PORT="0", APP_API_TOKEN="", ADMIN_TOKEN="")
    public, internal = bridge.server.ports
    status = await status_of(bridge, path, port=internal)
    assert status == 403 if ROUTES[path][1] == "sidecar" else status in (200, 202)
    assert await status_of(bridge, path, port=public) == (200 if ROUTES[path][1] == "anyone" else 404)


@pytest.mark.fault("B2")
@pytest.mark.parametrize("path", ROUTES)
async def test_routes_refuse_an_invocation_by_another_app(start: Start, logs: Logs, path: str) -> None:
    """The other app's sidecar calls the bridge's, which adds the app token and calls the internal port."""
    bridge = await start(JWT_SECRET=SECRET, INTERNAL_PORT="0", APP_API_TOKEN=SIDECAR, ADMIN_TOKEN="")
    headers = {"dapr-caller-app-id": "intruder", "dapr-callee-app-id": "websocket-service", "dapr-api-token": SIDECAR}
    status = await status_of(bridge, path, headers, port=bridge.server.ports[1])
    if ROUTES[path][1] == "anyone":
        assert status == 200
    else:
        assert status == 403
        assert logs.of("request.denied", path=path.partition("?")[0], why="invocation")


@pytest.mark.fault("A6")
@pytest.mark.parametrize("path", ROUTES)
async def test_routes_in_demo_mode_refuse_foreign_pages_only(start: Start, path: str) -> None:
    """As through the published port of a container."""
    bridge = await start(HOST="0.0.0.0", AUTH="none", DEMO="true")
    assert await status_of(bridge, path, {"Origin": bridge.url}) in (200, 202)
    assert await status_of(bridge, path, host=own_address()) in (200, 202)
    foreign = await status_of(bridge, path, {"Origin": "https://evil.net"})
    assert foreign == (200 if ROUTES[path][1] == "anyone" else 403)
    invoked = await status_of(bridge, path, {"dapr-caller-app-id": "intruder"})
    assert invoked == (200 if ROUTES[path][1] == "anyone" else 403)
    guarded = await start(HOST="0.0.0.0", AUTH="none", DEMO="true", **PROTECTED)
    assert await status_of(guarded, path) == (200 if ROUTES[path][1] == "anyone" else 401)


@pytest.mark.parametrize("path", ROUTES)
async def test_routes_with_an_internal_port_are_few_on_the_public_one(start: Start, path: str) -> None:
    bridge = await start(INTERNAL_PORT="0", **PROTECTED)
    public, internal = bridge.server.ports
    headers = CREDENTIALS[ROUTES[path][1]]
    on_both = path in ("/health", "/healthz")
    assert await status_of(bridge, path, headers, port=internal) in (200, 202)
    status = await status_of(bridge, path, headers, port=public)
    assert status == 200 if on_both else status == 404


async def test_demo_page_with_an_internal_port_connects_to_the_public_one(start: Start) -> None:
    bridge = await start(INTERNAL_PORT="0")
    public, internal = bridge.server.ports
    ws, _ = await bridge.opened()
    url = f"http://127.0.0.1:{internal}"
    async with bridge.http.post(f"{url}/events/task-updates", json=cloud_event({"user_id": "u1"})) as response:
        assert await response.json() == {"status": "SUCCESS"}
    assert (await receive(ws))["event"] == {"user_id": "u1"}
    async with bridge.http.get(f"{url}/ws?user_id=u1") as response:
        assert response.status == 404
    for port, status in ((public, 404), (internal, 200)):
        async with bridge.http.get(f"http://127.0.0.1:{port}/") as response:
            assert response.status == status
