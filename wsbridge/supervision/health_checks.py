"""Named health checks: runs them every second, and logs a check that fails for longer than a minute."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from wsbridge.telemetry.log import log

INTERVAL = 1.0  # seconds between two runs
REMIND = 60.0  # seconds that a check fails before it is logged, and between two lines about it
OK = "ok"

Check = Callable[[], str | None]  # returns None if all is well, else the reason


class Pending(str):
    """The reason of a check that does not fail yet: what it waits for."""

    __slots__ = ()


def passes(result: str) -> bool:
    """Whether a result of `Checks.run` is one of a check that does not fail."""
    return result.partition(",")[0] == OK


@dataclass(slots=True)
class _State:
    check: Check
    has_succeeded: bool
    failing_since: float | None = None
    reminded: float | None = None  # time of the last line about this failure


class Checks:
    """All health checks.

    A `required` check must succeed once before the replica is ready, so that a rollout with a wrong Secret stops.
    Afterwards a failing check makes the replica degraded, but it stays ready: its connections still work, and a failure
    of Redis would otherwise take all replicas out of service.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._checks: dict[str, _State] = {}

    def add(self, name: str, check: Check, *, required: bool = False) -> None:
        self._checks[name] = _State(check, has_succeeded=not required)

    def run(self) -> Mapping[str, str]:
        """Run all checks. Returns for each name `ok`, `ok, but` what it waits for, or the reason why it fails."""
        now = self._clock()
        return {name: self._run(name, state, now) or OK for name, state in self._checks.items()}

    def are_ready(self) -> bool:
        return all(state.has_succeeded for state in self._checks.values())

    async def watch(self) -> None:
        """Run the checks periodically, so that a short success between two health requests counts."""
        while True:
            self.run()
            await asyncio.sleep(INTERVAL)

    def _run(self, name: str, state: _State, now: float) -> str | None:
        reason = state.check()
        if reason is None or isinstance(reason, Pending):
            state.has_succeeded |= reason is None
            if state.reminded is not None and state.failing_since is not None:
                log.info("check.recovered", check=name, seconds=round(now - state.failing_since))
            state.failing_since = state.reminded = None
            return None if reason is None else f"{OK}, but {reason}"
        if state.failing_since is None:
            state.failing_since = now
        if now - (state.failing_since if state.reminded is None else state.reminded) >= REMIND:
            state.reminded, seconds = now, round(now - state.failing_since)
            log.warning("check.failing", check=name, why=reason, seconds=seconds, ready=state.has_succeeded)
        return reason
