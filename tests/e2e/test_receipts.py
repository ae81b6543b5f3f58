"""Receipts through real sidecars and a real Kafka, as docs/receipts.md says."""

import json
import re
from typing import Any

from tests.e2e.chain import WITH_REDIS, Start
from tests.e2e.demo import launched
from tests.support import shell
from tests.support.running import ROOT
from tests.support.valkey import Valkey

TOPIC = "receipts"
PAGE = """async () => {
  const { createClient } = await import('/client.js');
  const client = createClient({ url: '/ws', userId: 'bob', receipts: true });
  client.on('task_update', ({ event }) => (window.got = event));
  client.connect();
  await client.ready();
}"""


def typed() -> str:
    """The command of the document that publishes an event for alice."""
    [found] = re.findall(r"^```sh\n(curl .*?)```$", (ROOT / "docs/receipts.md").read_text(), re.DOTALL | re.MULTILINE)
    return str(found)


async def test_absent_user_is_unseen_and_a_tab_that_reports_has_handled_it(chained: Start, redis: Valkey) -> None:
    chain = await chained(WITH_REDIS, replicas=2, REDIS_URL=redis.url, RECEIPTS_TOPIC=TOPIC)
    await chain.kafka.make(TOPIC)
    starts = await chain.kafka.ends(TOPIC)
    async with launched() as browser:
        page = await browser.new_page()
        await page.goto(f"{chain.bridges[0].url}/health")
        await page.evaluate(PAGE)
        command = typed().replace(":3500", f":{chain.publisher.port}")
        assert " 204 " in (await shell.typed(command)).splitlines()[0]
        event = {
            "specversion": "1.0", "id": "for-bob", "source": "backend", "type": "task.created", "wsreceipt": 3,
            "data": {"user_id": "bob"},
        }  # fmt: skip
        await chain.publisher.publish(json.dumps(event).encode(), "bob", "application/cloudevents+json")
        receipts: list[Any] = [
            json.loads(message.value() or b"") for message in await chain.kafka.messages(TOPIC, starts, 2)
        ]
        assert await page.evaluate("got") == {"user_id": "bob"}
    found = {receipt["data"]["event_id"]: receipt for receipt in receipts}
    assert {name: receipt["data"]["outcome"] for name, receipt in found.items()} == {
        "order-7-paid": "unseen",
        "for-bob": "handled",
    }
    alice = found["order-7-paid"]
    assert (alice["type"], alice["source"], alice["subject"]) == ("wsbridge.receipt", "wsbridge", "alice")
    assert (alice["data"]["user_id"], alice["data"]["after_seconds"]) == ("alice", 5.0)
    assert [bridge.log.of("internal.error") for bridge in chain.bridges] == [[], []]
