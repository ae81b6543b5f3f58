"""Compares another machine's clock with the clock of this one."""

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from wsbridge.cli.doctor.findings import Finding, NotChecked, failure, ok, warning

TOLERANCE = 2.0  # seconds: a `Date` has whole seconds, and its response took some time
CURE = "synchronise the clocks (NTP, chrony)"


def time_of(headers: Mapping[str, str]) -> float:
    """Seconds since 1970, from `Date` and `Age`. Raises `NotChecked` if there is no valid `Date`."""
    try:
        at = parsedate_to_datetime(headers["Date"]).timestamp()
        return at + float(headers.get("Age", "0"))  # a cache has kept it for that long
    except (KeyError, ValueError, TypeError, OverflowError):
        raise NotChecked("the response has no valid Date") from None


def compared(whose: str, theirs: float, limit: float) -> Finding:
    """`limit` is the difference in seconds above which something fails."""
    ahead = theirs - time.time()
    if abs(ahead) <= TOLERANCE:
        return ok(f"{whose} and this one agree within {TOLERANCE:g} s")
    text = f"{whose} is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this one"
    return (failure if abs(ahead) > max(limit, TOLERANCE) else warning)(text, CURE)
