"""How many failed requests an address has, and how many handshakes there are in all. Independent of connections."""

import functools
import ipaddress
import time
from collections.abc import Callable

BURST = 10.0  # seconds' worth of the rate that may come at once
HANDSHAKE_BURST = 2.0  # for handshakes: what is admitted at once is work at once
MAX_ADDRESSES = 10_000  # of which failures are remembered; above, the one that failed longest ago is forgotten
_ROUNDING = 1e-6  # seconds
_V6_BLOCK = 64  # bits: one household or server has at least so many addresses


class TokenBucket:
    """A token bucket: `rate` a second, `burst` seconds' worth at once; a rate of 0 allows everything."""

    __slots__ = ("_burst", "_clock", "_paid_until", "_rate")

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._paid_until = 0.0  # when the bucket is full again

    def take(self) -> bool:
        """Take one token, if there is one."""
        if not self._rate:
            return True
        now = self._clock()
        debt = max(self._paid_until, now)
        if debt - now > self._burst - 1 / self._rate + _ROUNDING:
            return False
        self._paid_until = debt + 1 / self._rate
        return True


class FailureLimit:
    """A token bucket of failures for each address: `rate` a second; 0 is no limit."""

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._paid_until: dict[str, float] = {}  # the one that failed last is the last

    def __len__(self) -> int:
        return len(self._paid_until)

    def record(self, address: str) -> None:
        if not self._rate:
            return
        now, block = self._clock(), _block(address)
        # not above the bound, so that it is forgiven a moment after it stops, however often it has failed
        debt = min(max(self._paid_until.pop(block, 0.0), now) + 1 / self._rate, now + BURST)
        self._paid_until[block] = debt
        if len(self._paid_until) > MAX_ADDRESSES:
            del self._paid_until[next(iter(self._paid_until))]

    def is_exhausted(self, address: str) -> bool:
        debt = self._paid_until.get(_block(address))
        return debt is not None and debt - self._clock() > BURST - 1 / self._rate + _ROUNDING


@functools.lru_cache(MAX_ADDRESSES)
def _block(address: str) -> str:
    """An IPv4 address, or the /64 that an IPv6 address is in."""
    if ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network((address, _V6_BLOCK), strict=False))
    except ValueError:
        return address


class RateLimits:
    """Who may go on. `trusts` says whether an address is a proxy's: others come through it, so it is never refused."""

    def __init__(
        self,
        *,
        failure_rate: float,
        handshake_rate: float,
        trusts: Callable[[str], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._failures = FailureLimit(failure_rate, clock)
        self._handshakes = TokenBucket(handshake_rate, HANDSHAKE_BURST, clock)
        self._trusts = trusts

    @property
    def addresses(self) -> int:
        """How many addresses are remembered."""
        return len(self._failures)

    def failed(self, address: str) -> None:
        """A request of that address was malformed, or its sender was not who it should be."""
        if not self._trusts(address):
            self._failures.record(address)

    def refuses(self, address: str) -> bool:
        return self._failures.is_exhausted(address)

    def take_handshake(self) -> bool:
        return self._handshakes.take()
