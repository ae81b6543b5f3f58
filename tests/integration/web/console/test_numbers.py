"""The numbers in the stream, compared with what has happened."""

from tests.support.console import watching
from tests.support.running import Running, receive, until


async def test_numbers_count_what_has_happened(bridge: Running) -> None:
    ws, _ = await bridge.opened("alice")
    gone, _ = await bridge.opened("bob")
    await bridge.publish({"user_id": "alice"}, id="e1")
    await bridge.publish({"user_id": "alice"}, id="e1")
    await bridge.publish({})
    await receive(ws)
    await gone.close()
    await until(lambda: len(bridge.bridge.registry) == 1)
    async with watching(bridge, show="numbers") as console:
        found = await console.line("numbers")
    assert (found["connections"], found["users"], found["opened"], found["deliveries"]) == (1, 1, 2, 1)
    assert found["events"] == {"stored": 1, "duplicate": 1, "dropped": 1, "retried": 0}
    assert (found["closes"], found["drops"], found["retries"]) == ({"1000 client": 1}, {"no_user": 1}, {})
    assert found["queue"] == {"entries": 0, "bytes": 0, "max_entries": 10_000, "max_bytes": 134_217_728}
    assert set(found["checks"].values()) == {"ok"}
    assert set(found["latency"]) == {"kafka", "history", "socket", "delivery", "redis", "loop_lag"}
    stage = found["latency"]["socket"]
    assert (sum(stage["counts"]), len(stage["counts"])) == (1, len(stage["bounds"]) + 1)


async def test_numbers_during_the_drain_say_so(bridge: Running) -> None:
    async with watching(bridge, show="numbers") as console:
        assert not (await console.line("numbers"))["draining"]
        bridge.bridge.admission.draining = True
        assert await console.line("numbers", lambda line: line["draining"])
