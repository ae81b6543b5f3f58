"""Reports of a real browser: what it has handled, and how long that took."""

import re
import time
from typing import Any

import pytest

from tests.support.running import until_told
from tests.support.scene import Scene

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one browser for all

BUSY = 2_000  # ms that a handler takes: long beside the delays of a busy machine
SLOW_HANDLER = f"""() => {{
  window.ended = [];
  client.on('task_update', () => {{
    for (const until = performance.now() + {BUSY}; performance.now() < until; );
    ended.push(Date.now());
  }});
}}"""


async def session(scene: Scene) -> dict[str, Any]:
    (found,) = (await scene.bridge.ask(f"/users/{scene.user}"))["sessions"]
    return dict(found)


async def metrics(scene: Scene) -> dict[str, float]:
    async with scene.bridge.http() as http, http.get(f"{scene.bridge.url}/metrics") as response:
        text = await response.text()
    return {name: float(number) for name, number in re.findall(r"^(wsbridge_event_\S+) (\S+)$", text, re.MULTILINE)}


async def is_reported(scene: Scene) -> bool:
    found = await session(scene)
    return bool(found["handled"] == found["last_event_id"])


async def test_page_reports_what_it_has_handled_also_when_it_is_closed(scene: Scene) -> None:
    await scene.start(RECEIPTS="true")
    tab = await scene.opened(receipts=True)
    assert (await session(scene))["handled"] is None
    await scene.publish(1, 2)
    await until_told(lambda: is_reported(scene))
    await scene.publish(3)
    await tab.has(1, 2, 3)
    await tab.page.evaluate("client.close()")

    async def is_handled() -> bool:
        why = await scene.bridge.ask(f"/users/{scene.user}/events/{tab.frames('task_update')[-1]['event_id']}")
        return str(why["answer"]).endswith("handled by the client")

    await until_told(is_handled)


@pytest.mark.engines("chromium", reason="it waits for pings, and measures the bridge, not the engine")
async def test_stages_add_up_to_the_time_until_the_handlers_of_a_page_have_ended(scene: Scene) -> None:
    await scene.start(RECEIPTS="true", PING_INTERVAL="2")
    tab = await scene.opened(receipts=True)
    await tab.page.evaluate(SLOW_HANDLER)

    async def is_measured() -> bool:
        """Publish an event and wait for its report: it is measured once the round trip of a ping is known."""
        await scene.publish(0)
        await until_told(lambda: is_reported(scene))
        return (await metrics(scene))["wsbridge_event_handled_seconds_count"] > 0

    await until_told(is_measured)
    before, began = await metrics(scene), list[float]()
    for number in (1, 2, 3):
        began.append(time.time())
        await scene.publish(number)
        await until_told(lambda: is_reported(scene))
    after = await metrics(scene)
    moved = {name: number - before.get(name, 0.0) for name, number in after.items()}
    ended = (await tab.page.evaluate("ended"))[-3:]
    measured = sum(ended) / 1000 - sum(began)
    stages = sum(number for name, number in moved.items() if name.startswith("wsbridge_event_stage_seconds_sum"))
    assert moved["wsbridge_event_handled_seconds_count"] == 3
    assert stages == pytest.approx(measured, rel=0.05)
    assert moved["wsbridge_event_handled_seconds_sum"] == pytest.approx(stages, rel=0.05)
