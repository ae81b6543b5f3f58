"""Log lines about requests."""

import logging
from collections.abc import Iterator

import pytest
from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage, InvalidHeader
from aiohttp.test_utils import make_mocked_request

from tests.support.captured_log import CONTROLS, Output, logging_to
from wsbridge.connections.access_log import AccessLog, ServerLog
from wsbridge.telemetry.log import LONGEST_VALUE
from wsbridge.telemetry.metrics import Metrics


@pytest.fixture
def output() -> Iterator[Output]:
    with logging_to() as output:
        yield output


def request(path: str = "/") -> web.Request:
    return make_mocked_request("GET", path).clone(remote="10.0.0.9")


# Messages of aiohttp's server.


class Bad:
    """Counts bad requests."""

    def __init__(self) -> None:
        self.count = 0
        self.metrics = Metrics()
        self.log = ServerLog(self.found, self.metrics.internal)

    def found(self, peer: str) -> None:
        assert peer == "10.0.0.9"
        self.count += 1


@pytest.mark.parametrize(
    "error",
    [InvalidHeader("Authorization: Bearer secret\x00"), BadHttpMessage("secret"), web.HTTPBadRequest(text="secret")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
@pytest.mark.parametrize("level", [logging.DEBUG, logging.ERROR], ids=["debug", "error"])
def test_server_log_of_a_bad_request_is_one_line_without_its_text(output: Output, error: Exception, level: int) -> None:
    bad = Bad()
    bad.log.log(level, "Error handling request from %s", "10.0.0.9", exc_info=error)
    (record,) = output.records
    assert (record["event"], record["level"], record["peer"]) == ("request.bad", "info", "10.0.0.9")
    assert record["error"] == type(error).__name__
    assert "secret" not in output.text
    assert "Traceback" not in output.text
    assert bad.count == 1


def test_server_log_of_an_internal_error_keeps_its_traceback(output: Output) -> None:
    bad = Bad()
    try:
        raise RuntimeError("a bug")
    except RuntimeError:
        bad.log.exception("Error handling request from %s", "10.0.0.9")
    (record,) = output.records
    assert (record["event"], record["level"]) == ("internal.error", "error")
    assert (record["doing"], record["peer"]) == ("Error handling request from 10.0.0.9", "10.0.0.9")
    assert record["exception"].endswith("RuntimeError: a bug")
    assert (bad.count, +bad.metrics.errors) == (0, {"internal": 1})


def test_server_log_of_an_incomplete_body_is_empty(output: Output) -> None:
    bad = Bad()
    bad.log.error("Error handling request from %s", "10.0.0.9", exc_info=web.RequestPayloadError("secret"))
    assert (output.text, bad.count) == ("", 0)


def test_server_log_below_warning_is_empty(output: Output) -> None:
    bad = Bad()
    bad.log.debug("Ignored premature client disconnection")
    bad.log.info("something %s", "else")
    bad.log.warning("100%")
    assert [(record["event"], record["doing"]) for record in output.records] == [("internal.error", "100%")]


# Requests.


def access(asked: web.Request, status: int = 200) -> None:
    AccessLog(logging.getLogger("wsbridge.access"), "").log(asked, web.Response(status=status), 0.0123)


def test_access_log_masks_the_secrets_of_the_query(output: Output) -> None:
    access(request("/ws?user_id=u1&token=se.cr.et&token=se.cr.et&last_event_id=e:1"), 426)
    (record,) = output.records
    assert {name: record[name] for name in ("event", "level", "method", "path", "query", "status", "ms", "peer")} == {
        "event": "http.request",
        "level": "info",
        "method": "GET",
        "path": "/ws",
        "query": "user_id=u1&token=***&token=***&last_event_id=e:1",
        "status": 426,
        "ms": 12.3,
        "peer": "10.0.0.9",
    }


@pytest.mark.parametrize("path", ["/%0a%1b[31m", "/?%0a=%0d", "/?x=%ff", "/?" + "x" * 8_000])
@pytest.mark.parametrize("style", ["json", "console"])
def test_access_log_of_any_path_is_one_line(style: str, path: str) -> None:
    with logging_to(style) as output:
        access(request(path))
    (line,) = output.lines
    assert not CONTROLS & set(line)
    assert len(line) < 3 * LONGEST_VALUE


@pytest.mark.parametrize("level", ["debug", "info"])
@pytest.mark.parametrize(
    ("path", "status", "shown"),
    [
        ("/events/task-updates", 200, "debug"),
        ("/health", 200, "debug"),
        ("/healthz", 200, "debug"),
        ("/metrics", 200, "debug"),
        ("/events/task-updates", 399, "debug"),
        ("/events/task-updates", 400, "info"),
        ("/events/task-updates", 401, "info"),
        ("/health", 503, "info"),
        ("/stats", 200, "info"),
        ("/ws", 101, "debug"),
    ],
)
def test_access_log_of_frequent_requests_is_at_debug_unless_they_fail(
    level: str, path: str, status: int, shown: str
) -> None:
    with logging_to(level=level) as output:
        access(request(path), status)
    expected = [shown] if level == "debug" or shown == "info" else []
    assert [record["level"] for record in output.records] == expected
