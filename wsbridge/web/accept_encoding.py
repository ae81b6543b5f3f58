"""Chooses the content coding of a response."""

import re
from collections.abc import Iterable

_ELEMENT = re.compile(r"\s*([\w.+*-]+)\s*(?:;\s*q\s*=\s*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*)?")
_LEAST = 0.0001  # the weight of `identity` if the header does not name it: acceptable, and less than all others


def choose(header: str, available: Iterable[str]) -> str | None:
    """The coding for an `Accept-Encoding` header (RFC 9110 §12.5.3), or None if it forbids all `available` ones.

    The coding with the highest weight, and of several the first one of `available`. Malformed elements are ignored.
    """
    elements = filter(None, map(_ELEMENT.fullmatch, header.lower().split(",")))
    weights = {element[1].removeprefix("x-"): float(element[2] or 1) for element in elements}

    def weight(coding: str) -> float:
        return weights.get(coding, weights.get("*", _LEAST if coding == "identity" else 0))

    best = max(available, key=weight)
    return best if weight(best) > 0 else None
