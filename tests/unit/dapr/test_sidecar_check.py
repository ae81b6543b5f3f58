"""The health check for a missing sidecar."""

import re
import time

import pytest

from tests.support.fake_time import Clock
from wsbridge.dapr.sidecar_check import PATIENCE, SidecarCheck
from wsbridge.supervision.health_checks import Pending
from wsbridge.telemetry.metrics import Metrics
from wsbridge.telemetry.stations.ring import Stations


def test_sidecar_check_without_a_sidecar_fails_when_its_time_is_over() -> None:
    clock = Clock()
    check = SidecarCheck(Metrics(), Stations(0), clock)
    assert check.trouble() == Pending("no sidecar seen yet (started 0 s ago)")
    clock.now += PATIENCE - 0.1
    assert isinstance(check.trouble(), Pending)
    clock.now += 0.1
    trouble = check.trouble()
    assert (isinstance(trouble, Pending), "APP_API_TOKEN" in (trouble or "")) == (False, True)


@pytest.mark.parametrize("sign", ["subscription_read_at", "delivered_at"])
def test_sidecar_check_after_a_sign_of_one_passes(sign: str) -> None:
    clock, metrics = Clock(), Metrics()
    check = SidecarCheck(metrics, Stations(0), clock)
    clock.now += 2 * PATIENCE
    assert check.trouble() is not None
    setattr(metrics, sign, 1.0)
    assert check.trouble() is None


@pytest.mark.parametrize("sign", ["subscription_read_at", "delivered_at"])
def test_sidecar_check_after_a_refused_read_fails_until_the_next_sign(sign: str) -> None:
    metrics, stations = Metrics(), Stations(0)
    check = SidecarCheck(metrics, stations)
    metrics.subscription_read_at = 1.0
    check.denied("/dapr/subscribe", 401)
    assert re.fullmatch(
        r"its last read of the subscriptions was refused \(401, .* ago\): check its APP_API_TOKEN with wsbridge doctor",
        check.trouble() or "",
    )
    setattr(metrics, sign, time.time() + 1)
    assert (check.trouble(), stations.denials) == (None, 1)


@pytest.mark.parametrize(("path", "status"), [("/events/t", 401), ("/dapr/subscribe", 403), ("/dapr/subscribe", None)])
def test_sidecar_check_ignores_a_refusal_that_is_not_of_a_sidecars_read(path: str, status: int | None) -> None:
    metrics, stations = Metrics(), Stations(0)
    check = SidecarCheck(metrics, stations)
    metrics.subscription_read_at = 1.0
    check.denied(path, status)
    assert (check.trouble(), stations.denials) == (None, 1)
