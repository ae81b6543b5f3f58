"""Refused requests: the response, and the failure that is counted against the client."""

import json

import pytest

from tests.support.logs import Logs
from wsbridge.connections.client_address import TrustedProxies
from wsbridge.connections.rate_limits import RateLimits
from wsbridge.connections.refusals import Refusals
from wsbridge.connections.request_head import Head
from wsbridge.telemetry.metrics import Metrics

PROXY, CLIENT = "10.0.0.1", "192.0.2.9"
HEAD = b"GET /ws HTTP/1.1\r\nX-Forwarded-For: 192.0.2.9\r\nSec-WebSocket-Key: a\r\n"


class Limits(RateLimits):
    """Remembers which addresses have failed."""

    def __init__(self) -> None:
        super().__init__(failure_rate=1.0, handshake_rate=1.0, trusts=lambda _: False)
        self.blamed: list[str] = []

    def failed(self, address: str) -> None:
        self.blamed.append(address)


@pytest.fixture
def limits() -> Limits:
    return Limits()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest.fixture
def refusals(metrics: Metrics, limits: Limits) -> Refusals:
    return Refusals(metrics, limits, TrustedProxies([PROXY]), 1_000)


def test_malformed_request_behind_a_proxy_counts_against_the_client(
    refusals: Refusals, limits: Limits, metrics: Metrics, logs: Logs
) -> None:
    response = refusals.malformed(PROXY, "no colon", HEAD)
    assert response.startswith(b"HTTP/1.1 400 ")
    assert limits.blamed == [CLIENT]
    assert (metrics.errors["bad_request"], metrics.refusals["malformed"]) == (1, 1)
    assert len(logs.of("request.bad", peer=CLIENT, error="no colon")) == 1


def test_malformed_request_without_a_head_counts_against_the_peer(
    refusals: Refusals, limits: Limits, logs: Logs
) -> None:
    refusals.malformed(PROXY, "not HTTP")
    assert limits.blamed == [PROXY]


def test_too_large_head_is_answered_with_its_largest_field_and_the_setting(refusals: Refusals, logs: Logs) -> None:
    response = refusals.too_large(PROXY, HEAD + b"Cookie: " + b"x" * 2_000 + b"\r\n\r\n")
    head, _, body = response.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 ")
    detail = json.loads(body)["detail"]
    assert "1000 bytes" in detail
    assert "cookie" in detail.lower()
    assert "WSBRIDGE_MAX_HEADER_BYTES" in detail


def test_overloaded_handshake_is_accepted_and_closed_with_1013(
    refusals: Refusals, limits: Limits, metrics: Metrics, logs: Logs
) -> None:
    response = refusals.overloaded(PROXY, Head(HEAD + b"\r\n"))
    assert response.startswith(b"HTTP/1.1 101 ")
    assert b'"code":1013' in response
    assert limits.blamed == []
    assert metrics.closes["1013", "overloaded"] == 1
