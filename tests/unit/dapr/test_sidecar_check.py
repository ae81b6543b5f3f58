"""The health check for a missing sidecar."""

import pytest

from tests.support.fake_time import Clock
from wsbridge.dapr.sidecar_check import PATIENCE, SidecarCheck
from wsbridge.supervision.health_checks import Pending
from wsbridge.telemetry.metrics import Metrics


def test_sidecar_check_without_a_sidecar_fails_when_its_time_is_over() -> None:
    clock = Clock()
    check = SidecarCheck(Metrics(), clock)
    assert check.trouble() == Pending("no sidecar seen yet (started 0 s ago)")
    clock.now += PATIENCE - 0.1
    assert isinstance(check.trouble(), Pending)
    clock.now += 0.1
    trouble = check.trouble()
    assert (isinstance(trouble, Pending), "APP_API_TOKEN" in (trouble or "")) == (False, True)


@pytest.mark.parametrize("sign", ["subscription_read_at", "delivered_at"])
def test_sidecar_check_after_a_sign_of_one_passes(sign: str) -> None:
    clock, metrics = Clock(), Metrics()
    check = SidecarCheck(metrics, clock)
    clock.now += 2 * PATIENCE
    assert check.trouble() is not None
    setattr(metrics, sign, 1.0)
    assert check.trouble() is None
