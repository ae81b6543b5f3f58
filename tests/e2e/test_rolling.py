"""The rolling restart that `make benchchain` measures: no event is lost, none arrives twice."""

from pathlib import Path

import pytest

from benchmarks.rolling import measure
from tests.e2e.kafka import Kafka


async def test_rolling_restart_moves_all_clients_without_a_loss(
    kafka: Kafka, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counted = await measure(kafka, tmp_path, clients=16, seconds=1, drain_timeout=2)
    assert "'delivered'" in counted
    assert len(capsys.readouterr().out.splitlines()) == 2
