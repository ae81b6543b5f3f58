"""Leave politely: an early goodbye to every session, then closes that are spread over the time there is."""

import asyncio
import random
import time
import weakref

from wsbridge.protocol import SHUTDOWN, goodbye
from wsbridge.registry import Registry
from wsbridge.session import Session

SLICE = 500  # goodbyes written before others may run
TICK = 0.05  # seconds
USABLE = 0.9  # of the time: the rest is for close handshakes
CHANGE_OVER = 0.25  # of that: what every client has, at least, between its hint to reconnect and its close


async def drain(registry: Registry, timeout: float) -> None:  # noqa: ASYNC109 - it is the plan, not a limit on it
    """Close every session within `timeout` seconds, sooner if all have left by themselves.

    Updates go on until a session's close, so that a client can open its next connection first.
    """
    started = time.monotonic()
    try:
        plan = await _say_goodbye(registry, timeout * USABLE)
        while len(registry) and time.monotonic() < started + timeout:
            while plan and plan[-1][0] <= time.monotonic():
                session = plan.pop()[1]()
                if session is not None:
                    session.end(SHUTDOWN)
            await asyncio.sleep(TICK)
    finally:  # a drain that is cut short still tells everyone why
        for batch in registry.slices(SLICE):
            for session in batch:
                session.end(SHUTDOWN)


async def _say_goodbye(registry: Registry, window: float) -> list[tuple[float, weakref.ref[Session]]]:
    """When each session is to be closed, the last one first."""
    change_over = window * CHANGE_OVER
    plan = []
    for batch in registry.slices(SLICE):
        now = time.monotonic()
        for session in batch:
            leave = random.uniform(0, window - change_over)  # noqa: S311 - jitter, no secret
            if session.epoch:  # it has had its `connected`, which comes first
                session.send(goodbye(SHUTDOWN, leave, leave + change_over))
            plan.append((now + leave + change_over, weakref.ref(session)))
        await asyncio.sleep(0)
    return sorted(plan, key=lambda planned: -planned[0])
