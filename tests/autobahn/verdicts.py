"""Compares the verdicts about two servers. `behavior` is about a case's messages, `behaviorClose` about its end."""

from collections.abc import Mapping
from typing import Any

# From good to bad. NON-STRICT is not what RFC 6455 recommends, but allowed; an INFORMATIONAL case has no wrong outcome.
ORDER = ("OK", "INFORMATIONAL", "NON-STRICT", "UNIMPLEMENTED", "WRONG CODE", "FAILED BY CLIENT", "UNCLEAN", "FAILED")
PASSED = ("OK", "INFORMATIONAL", "NON-STRICT")
REASONS = {"behavior": "result", "behaviorClose": "resultClose"}
PARTS = tuple(REASONS)
Verdicts = Mapping[str, Mapping[str, Any]]


def worse(ours: Verdicts, theirs: Verdicts) -> list[str]:
    """One line for each case that is missing, or that we neither pass nor do as well in as they."""
    return [f"{case} {text}" for case in theirs if (text := _worse(ours.get(case), theirs[case]))]


def _worse(ours: Mapping[str, Any] | None, theirs: Mapping[str, Any]) -> str:
    if ours is None:
        return "did not run"
    parts = [part for part in PARTS if ours[part] not in PASSED and ORDER.index(ours[part]) > ORDER.index(theirs[part])]
    return ", ".join(f"{part} {ours[part]} (aiohttp: {theirs[part]}): {ours[REASONS[part]]}" for part in parts)


def summary(verdicts: Verdicts) -> str:
    """How many cases have which verdict, such as '290 OK, 8 NON-STRICT'."""
    found = [each["behavior"] for each in verdicts.values()]
    return ", ".join(f"{found.count(verdict)} {verdict}" for verdict in ORDER if verdict in found)
