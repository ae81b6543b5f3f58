"""Many handshakes at once do not block other tasks."""

import asyncio

import pytest

from wsbridge.connections.handshake_pacer import PER_TURN, HandshakePacer


async def passes(pacer: HandshakePacer, log: list[object], number: int) -> None:
    await pacer.enter()
    log.append(number)


@pytest.mark.fault("C3")
async def test_handshake_pacer_lets_other_tasks_run_between_handshakes() -> None:
    pacer, log = HandshakePacer(), list[object]()

    async def another() -> None:
        while len(log) < 200:
            await asyncio.sleep(0)
            log.append("another")

    waiting = [asyncio.create_task(passes(pacer, log, number)) for number in range(100)]
    await asyncio.gather(another(), *waiting)
    assert [each for each in log if each != "another"] == list(range(100))
    runs = "".join("." if each == "another" else "h" for each in log).split(".")
    assert max(map(len, runs)) <= 2 * PER_TURN  # those that passed at once, and those of the first turn
    assert len(pacer) == 0


async def test_handshake_pacer_when_free_does_not_wait() -> None:
    pacer = HandshakePacer()
    entering = pacer.enter()
    with pytest.raises(StopIteration):
        entering.send(None)
    await asyncio.sleep(0)


async def test_handshake_pacer_skips_an_ended_connection() -> None:
    pacer, log = HandshakePacer(), list[object]()
    tasks = [asyncio.create_task(passes(pacer, log, number)) for number in range(PER_TURN + 3)]
    await asyncio.sleep(0)
    tasks[PER_TURN].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert log == [number for number in range(PER_TURN + 3) if number != PER_TURN]
    assert len(pacer) == 0
