"""Named health checks: whether each has ever been good, since when one fails, and a log line a minute while it does."""

import asyncio
import time
from collections.abc import Callable, Mapping

from wsbridge.telemetry.log import log

INTERVAL = 1.0  # seconds between two looks
REMIND = 60.0  # seconds that a check fails until the log says so, and between two lines about it
OK = "ok"

Check = Callable[[], str | None]  # None is good; else what is wrong


class _State:
    __slots__ = ("failing_since", "reminded", "was_good")

    def __init__(self, *, was_good: bool) -> None:
        self.was_good = was_good
        self.failing_since: float | None = None
        self.reminded: float | None = None  # None: not since it began to fail


class Checks:
    """A check that is `required` must be good once before the bridge is ready: a wrong Secret must not roll out.

    Afterwards one that fails makes the bridge degraded, which is ready: sockets stay, and taking every replica out of
    service would help nobody.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._checks: dict[str, Check] = {}
        self._states: dict[str, _State] = {}

    def add(self, name: str, check: Check, *, required: bool = False) -> None:
        self._checks[name] = check
        self._states[name] = _State(was_good=not required)

    def look(self) -> Mapping[str, str]:
        """What each says now, by name."""
        now = self._clock()
        return {name: self._look(name, check, now) or OK for name, check in self._checks.items()}

    def are_ready(self) -> bool:
        """Whether every required check was good once, as far as `look` has seen."""
        return all(state.was_good for state in self._states.values())

    async def watch(self) -> None:
        """Look for as long as the bridge lives: between two requests for the health a check may come and go."""
        while True:
            self.look()
            await asyncio.sleep(INTERVAL)

    def _look(self, name: str, check: Check, now: float) -> str | None:
        wrong, state = check(), self._states[name]
        if wrong is None:
            self._recovered(name, state, now)
        else:
            self._remind(name, state, now, wrong)
        return wrong

    def _recovered(self, name: str, state: _State, now: float) -> None:
        state.was_good = True
        if state.reminded is not None and state.failing_since is not None:
            log.info("check.recovered", check=name, seconds=round(now - state.failing_since))
        state.failing_since = state.reminded = None

    def _remind(self, name: str, state: _State, now: float, wrong: str) -> None:
        if state.failing_since is None:
            state.failing_since = now
        if now - (state.failing_since if state.reminded is None else state.reminded) >= REMIND:
            state.reminded = now
            seconds = round(now - state.failing_since)
            log.warning("check.failing", check=name, why=wrong, seconds=seconds, ready=state.was_good)
