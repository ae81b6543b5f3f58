"""Graceful shutdown: an early goodbye to every session, then closes that are spread over the time-out."""

import asyncio
import random
import time

from wsbridge.core.close_codes import SHUTDOWN
from wsbridge.core.messages import goodbye
from wsbridge.sessions.record import NEVER
from wsbridge.sessions.registry import Registry
from wsbridge.sessions.session import Session
from wsbridge.sessions.state import State
from wsbridge.telemetry.log import log

SLICE = 500  # sessions that are handled before other tasks run
TICK = 0.05  # seconds
USABLE = 0.9  # share of the time for closes; the rest is for close handshakes
SPREAD = 5.0  # seconds over which clients reconnect that had no time before their close
CHANGE_OVER = 0.25  # share of that: the minimum for a client between its time to reconnect and its close


async def drain(registry: Registry, timeout: float) -> None:  # noqa: ASYNC109 - it is the plan, not a limit on it
    """Close every session within `timeout` seconds, or sooner if all have left.

    Updates continue until a session's close, so that a client can open its next connection first. A session that is not
    attached yet gets its goodbye once it is, after its `connected`.
    """
    started, sessions = time.monotonic(), len(registry)
    log.info("drain.started", sessions=sessions, timeout=timeout)
    end = started + timeout * USABLE
    try:
        await _look(registry, end)
        while len(registry) and time.monotonic() < started + timeout:
            await asyncio.sleep(TICK)
            await _look(registry, end)
    finally:  # a drain that is cancelled still sends each goodbye
        for batch in registry.slices(SLICE):
            for session in batch:
                session.end(SHUTDOWN, explain=session.closes_at == NEVER)
        seconds = round(time.monotonic() - started, 3)
        log.info("drain.done", sessions=sessions, left=len(registry), seconds=seconds)


def abandon(registry: Registry) -> None:
    """Close every session now. Clients reconnect spread over some seconds, to protect the other replicas."""
    for batch in registry.slices(SLICE):
        for session in batch:
            session.send(goodbye(SHUTDOWN, random.uniform(0, SPREAD)))  # noqa: S311 - jitter, no secret
            session.end(SHUTDOWN)


async def _look(registry: Registry, end: float) -> None:
    for batch in registry.slices(SLICE):
        now = time.monotonic()
        for session in batch:
            if session.closes_at == NEVER:
                _say_goodbye(session, now, max(0.0, end - now))
            elif now >= session.closes_at:
                session.end(SHUTDOWN)
        await asyncio.sleep(0)


def _say_goodbye(session: Session, now: float, window: float) -> None:
    """Choose the time of its close, and send the goodbye."""
    if session.state is State.JOINING:
        return
    change_over = window * CHANGE_OVER
    leave = random.uniform(0, window - change_over)  # noqa: S311 - jitter, no secret
    session.closes_at = now + leave + change_over
    session.send(goodbye(SHUTDOWN, leave, leave + change_over))
