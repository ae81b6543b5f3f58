"""Rate limits: failed requests per address, and handshakes of the whole process."""

import functools
import ipaddress
import time
from collections.abc import Callable

BURST = 10.0  # seconds: the burst is that many seconds of the rate
HANDSHAKE_BURST = 2.0  # seconds, for handshakes: smaller, since a burst blocks the loop for as long as its work
MAX_ADDRESSES = 10_000  # with remembered failures; above, the address with the oldest failure is forgotten
_ROUNDING = 1e-6  # seconds
_V6_BLOCK = 64  # prefix length: a household or server has at least such a network


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
    """A token bucket of failures for each address, and one of `handshakes` for the process.

    Rates are for a second; 0 is no limit. An address that `trusts` accepts is a proxy with many clients behind it: it
    is never refused.
    """

    def __init__(
        self,
        *,
        failure_rate: float,
        handshake_rate: float,
        trusts: Callable[[str], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.handshakes = TokenBucket(handshake_rate, HANDSHAKE_BURST, clock)
        self._rate = failure_rate
        self._trusts = trusts
        self._clock = clock
        self._paid_until: dict[str, float] = {}  # by address; the most recent failure is the last

    @property
    def addresses(self) -> int:
        """The number of remembered addresses."""
        return len(self._paid_until)

    def failed(self, address: str) -> None:
        """Count a request of an address that was answered with 4xx."""
        if not self._rate or self._trusts(address):
            return
        now, block = self._clock(), _block(address)
        # capped, so that an address is no longer refused soon after its failures stop, however many there were
        debt = min(max(self._paid_until.pop(block, 0.0), now) + 1 / self._rate, now + BURST)
        self._paid_until[block] = debt
        if len(self._paid_until) > MAX_ADDRESSES:
            del self._paid_until[next(iter(self._paid_until))]

    def refuses(self, address: str) -> bool:
        debt = self._paid_until.get(_block(address))
        return debt is not None and debt - self._clock() > BURST - 1 / self._rate + _ROUNDING
