"""The demo page stays complete while the bridges are replaced."""

from tests.e2e.chain import WITH_REDIS, Start
from tests.e2e.demo import launched, open_demo
from tests.support.valkey import Valkey

# isort: split

from playwright.async_api import expect


async def test_demo_page_after_a_rolling_update_has_every_task_once(chained: Start, redis: Valkey) -> None:
    chain = await chained(WITH_REDIS, replicas=2, REDIS_URL=redis.url)
    tasks: list[str] = []

    async def publish() -> None:
        tasks.append(f"Task {len(tasks)}")
        await chain.publish("alice", event_type="task.created", task_id=tasks[-1], title=tasks[-1])

    async with launched() as browser:
        page = await browser.new_page()
        await open_demo(page, chain)
        first, second, bobs = await page.locator("article.tab").all()
        for tab in (first, second, bobs):
            await expect(tab.locator(".badge")).to_have_text("open")
        await publish()
        for pod in chain.pods:
            await publish()
            async with chain.rolled_over(pod):
                await publish()
            await publish()
        for tab in (first, second):
            await expect(tab.locator(".tasks .title")).to_have_text(tasks[::-1])
        await expect(bobs.locator(".tasks .title")).to_have_count(0)
