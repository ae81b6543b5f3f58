"""When a missing sidecar is a fault."""

from collections.abc import Callable

import pytest

from wsbridge.dapr.sidecar_check import PATIENCE, SidecarCheck
from wsbridge.telemetry.metrics import Metrics


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_sidecar_check_without_a_sidecar_fails_when_its_time_is_over() -> None:
    clock = Clock()
    check = SidecarCheck(Metrics(), clock)
    assert check.trouble() is None
    clock.now += PATIENCE - 0.1
    assert check.trouble() is None
    clock.now += 0.1
    assert "APP_API_TOKEN" in (check.trouble() or "")


@pytest.mark.parametrize("sign", [Metrics.subscription_read, Metrics.delivery_came], ids=["subscriptions", "delivery"])
def test_sidecar_check_after_a_sign_of_one_passes(sign: Callable[[Metrics], None]) -> None:
    clock, metrics = Clock(), Metrics()
    check = SidecarCheck(metrics, clock)
    clock.now += 2 * PATIENCE
    assert check.trouble() is not None
    sign(metrics)
    assert check.trouble() is None
