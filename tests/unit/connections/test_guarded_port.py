"""The limits of handshakes of a port."""

import pytest

from tests.support.ports import port
from wsbridge.telemetry.metrics import Metrics


@pytest.mark.parametrize(
    ("limit", "rate", "admitted", "reason"), [(10, 2.0, 4, "handshake_rate"), (-1, 2.0, 0, "descriptors")]
)
def test_port_over_a_limit_refuses_handshakes_and_counts_why(
    limit: int, rate: float, admitted: int, reason: str
) -> None:
    metrics = Metrics()
    found = port(metrics, limit=limit, handshake_rate=rate)
    assert sum(found.admits_handshake() for _ in range(6)) == admitted
    assert metrics.refusals[reason] == 6 - admitted
