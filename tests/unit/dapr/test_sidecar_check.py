"""The health check for a missing sidecar."""

import pytest

from tests.support.fake_time import Clock
from wsbridge.dapr.sidecar_check import PATIENCE, SidecarCheck
from wsbridge.telemetry.metrics import Metrics


def test_sidecar_check_without_a_sidecar_fails_when_its_time_is_over() -> None:
    clock = Clock()
    check = SidecarCheck(Metrics(), clock)
    assert check.trouble() is None
    clock.now += PATIENCE - 0.1
    assert check.trouble() is None
    clock.now += 0.1
    assert "APP_API_TOKEN" in (check.trouble() or "")


@pytest.mark.parametrize("sign", ["subscription_read_at", "delivered_at"])
def test_sidecar_check_after_a_sign_of_one_passes(sign: str) -> None:
    clock, metrics = Clock(), Metrics()
    check = SidecarCheck(metrics, clock)
    clock.now += 2 * PATIENCE
    assert check.trouble() is not None
    setattr(metrics, sign, 1.0)
    assert check.trouble() is None
