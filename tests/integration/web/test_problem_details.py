"""Errors of HTTP routes as problem documents (RFC 9457), on a real socket."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from structlog.testing import capture_logs

from wsbridge.telemetry.metrics import Metrics
from wsbridge.web.problem_details import middleware, response

NO_ROUTE = (
    "This port has no such route. docs/protocol.md lists all; those for operators and the sidecar are on "
    "WSBRIDGE_INTERNAL_PORT, if it is set."
)
Ask = Callable[[BaseException], Awaitable[tuple[int, Any, Any]]]


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
async def ask(metrics: Metrics) -> AsyncIterator[Ask]:
    """Status, headers and body of a route that raises this error."""
    raised: list[BaseException] = []

    async def handler(_: web.Request) -> web.Response:
        raise raised.pop()

    app = web.Application(middlewares=[middleware(metrics)])
    app.router.add_get("/raises", handler)
    async with TestClient(TestServer(app)) as client:

        async def asking(error: BaseException) -> tuple[int, Any, Any]:
            raised.append(error)
            async with client.get("/raises?token=secret") as answer:
                return answer.status, answer.headers, await answer.text()

        yield asking


@pytest.mark.parametrize(
    ("error", "status", "title", "detail"),
    [
        (web.HTTPNotFound(), 404, "Not Found", NO_ROUTE),
        (web.HTTPNotFound(text="No such topic."), 404, "Not Found", "No such topic."),
        (web.HTTPForbidden(text='<"é\n'), 403, "Forbidden", '<"é\n'),
        (web.HTTPServiceUnavailable(reason="Leaving"), 503, "Leaving", None),
        (web.HTTPConflict(text="409: Conflict"), 409, "Conflict", None),
        (web.RequestPayloadError("secret"), 400, "Bad Request", "The body is malformed or incomplete."),
    ],
)  # fmt: skip
async def test_error_of_a_route_becomes_a_problem_document(
    ask: Ask, error: Exception, status: int, title: str, detail: str | None
) -> None:
    found, headers, body = await ask(error)
    assert found == status
    assert headers["Content-Type"] == "application/problem+json"
    document = {"type": "about:blank", "title": title, "status": status}
    assert json.loads(body) == document | ({"detail": detail} if detail else {})


async def test_problem_document_keeps_the_headers_of_the_error(ask: Ask) -> None:
    error = web.HTTPUnauthorized(headers={"WWW-Authenticate": "Bearer", "Retry-After": "1"})
    _, headers, body = await ask(error)
    assert (headers["WWW-Authenticate"], headers["Retry-After"]) == ("Bearer", "1")
    assert int(headers["Content-Length"]) == len(body)
    assert headers.getall("Content-Type") == ["application/problem+json"]


async def test_problem_document_of_405_keeps_the_allowed_methods() -> None:
    found = response(web.HTTPMethodNotAllowed("POST", ["GET", "HEAD"]))
    assert (found.status, found.headers["Allow"]) == (405, "GET,HEAD")


async def test_unexpected_error_becomes_a_500_without_details(ask: Ask, metrics: Metrics) -> None:
    with capture_logs() as lines:
        status, headers, body = await ask(RuntimeError("secret"))
    assert (status, headers["Content-Type"]) == (500, "application/problem+json")
    assert "secret" not in body
    assert "Traceback" not in body
    assert +metrics.errors == {"internal": 1}
    (line,) = lines
    assert (line["event"], line["log_level"], line["doing"]) == ("internal.error", "error", "GET /raises")
    assert isinstance(line["exc_info"], RuntimeError)


async def test_response_without_an_error_is_unchanged(metrics: Metrics) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    app = web.Application(middlewares=[middleware(metrics)])
    app.router.add_get("/", handler)
    async with TestClient(TestServer(app)) as client, client.get("/") as answer:
        assert (answer.status, await answer.text()) == (200, "ok")
        async with client.get("/nowhere") as missing:
            assert (await missing.json(content_type="application/problem+json"))["status"] == 404


async def test_connection_error_of_a_disconnected_peer_is_not_an_internal_error(metrics: Metrics) -> None:
    async def handler(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        raise ConnectionResetError("secret")

    app = web.Application(middlewares=[middleware(metrics)])
    app.router.add_get("/", handler)
    with capture_logs() as lines:
        async with TestClient(TestServer(app)) as client:
            with pytest.raises(aiohttp.ClientConnectionError):
                await client.get("/")
    assert lines == []
    assert not +metrics.errors


async def test_connection_error_of_another_connection_is_an_internal_error(ask: Ask, metrics: Metrics) -> None:
    with capture_logs() as lines:
        status, _, _ = await ask(ConnectionResetError("of a server that we use"))
    assert status == 500
    assert [line["event"] for line in lines] == ["internal.error"]
    assert metrics.errors["internal"] == 1


async def test_incomplete_body_is_a_bad_request(ask: Ask, metrics: Metrics) -> None:
    with capture_logs() as lines:
        await ask(web.RequestPayloadError("secret"))
    assert [(line["event"], line["log_level"], line["error"]) for line in lines] == [
        ("request.bad", "info", "RequestPayloadError")
    ]
    assert "secret" not in str(lines)
    assert +metrics.errors == {"bad_request": 1}
