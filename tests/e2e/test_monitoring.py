"""A real Prometheus scrapes a real bridge and its real sidecar, while events come through Kafka."""

import asyncio
import time
from pathlib import Path

import pytest

from tests.e2e.chain import Chain
from tests.e2e.kafka import Kafka
from tests.e2e.process import settled
from tests.support.prometheus import Prometheus, queries
from tests.support.running import DEADLINE, receive

WAITED = 10.0  # seconds before now, in the timestamps of events: long beside the delays of a busy machine


async def test_dashboard_of_a_bridge_and_its_sidecar_has_data(chain: Chain, kafka: Kafka, tmp_path: Path) -> None:
    [pod] = chain.pods
    tab, _ = await pod.bridge.opened("u1")
    jobs = {"websocket-service": [pod.bridge.internal.port], "sidecar": [pod.sidecar.metrics_port]}
    measured, events = 0.0, 0
    async with Prometheus(tmp_path, jobs) as prometheus, asyncio.timeout(DEADLINE):
        missing = queries(dapr=True)
        while missing:
            began = time.time() - WAITED
            await kafka.produce(b'{"user_id":"u1"}', key="u1", at=began)
            await receive(tab)
            measured, events = measured + time.time() - began, events + 1
            missing = {panel: query for panel, query in missing.items() if not await prometheus.query(query)}

        async def all_counted() -> bool:
            return await prometheus.value("wsbridge_event_delivery_seconds_count") == events

        await settled(all_counted)
        stages = await prometheus.value("sum(wsbridge_event_stage_seconds_sum)")
        assert stages == pytest.approx(measured, rel=0.05)
