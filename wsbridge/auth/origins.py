"""Checks the `Origin` header of browsers against the allowed origins (RFC 6454), and makes the CORS headers."""

import functools
import ipaddress
import re

from aiohttp import hdrs, web
from yarl import URL

from wsbridge.config.value_types import ORIGIN

LONGEST = 512  # characters of an origin that is normalised and cached; a host name has 253 at most
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}
_AUTHORITY = re.compile(r"(?P<host>\[[0-9a-f:.]+\]|[^:/?#@\[\]\s]+)(?P<port>:\d+)?")


class Origins:
    """The allowed origins. A request without `Origin` does not come from a page and is allowed."""

    def __init__(self, allowed: tuple[str, ...], *, development: bool) -> None:
        self._any = "*" in allowed or (development and not allowed)
        self._exact = {canonical(origin) for origin in allowed}
        self._below = [
            (found["scheme"], "." + found["name"])
            for origin in allowed
            if (found := ORIGIN.fullmatch(canonical(origin))) and found["host"]
        ]
        self._configured = bool(allowed)

    def allows(self, request: web.BaseRequest) -> bool:
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None or self._any:
            return True
        if not self._configured:
            return self.is_same(origin, host_of(request))
        origin = canonical(origin)
        scheme, _, rest = origin.partition("://")
        return origin in self._exact or any(scheme == s and rest.endswith(end) for s, end in self._below)

    def cors(self, request: web.BaseRequest) -> dict[str, str]:
        """Headers that let an allowed page of another origin read the response (Fetch standard, CORS protocol)."""
        return self.refusal_cors(request) if self.allows(request) else {hdrs.VARY: hdrs.ORIGIN}

    @staticmethod
    def refusal_cors(request: web.BaseRequest) -> dict[str, str]:
        """The same headers for any page. Only for responses without data: a refused page can then show the reason."""
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None:
            return {hdrs.VARY: hdrs.ORIGIN}
        return {
            hdrs.VARY: hdrs.ORIGIN,
            hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: origin,
            hdrs.ACCESS_CONTROL_ALLOW_CREDENTIALS: "true",
        }

    @staticmethod
    def is_same(origin: str, host: str) -> bool:
        """Whether the origin has the host and port of `Host`. The scheme is ignored, because a proxy may end TLS."""
        scheme, _, rest = origin.partition("://")
        return bool(rest) and canonical(origin) == canonical(f"{scheme}://{host}")


def host_of(request: web.BaseRequest) -> str:
    """`Host` as it was sent. Without it `request.host` would call the resolver and block the loop."""
    return request.headers.get(hdrs.HOST, "")


def canonical(origin: str) -> str:
    """Normalise an origin: lower case, names in punycode, without default port and trailing dot of the host."""
    return _canonical(origin) if len(origin) <= LONGEST else origin.lower()


@functools.lru_cache(1024)
def _canonical(origin: str) -> str:
    scheme, _, rest = origin.lower().partition("://")
    if not rest:  # `null`, `file://`
        return origin.lower()
    found = _AUTHORITY.fullmatch(rest.removesuffix(_DEFAULT_PORTS.get(scheme, "\n")))
    if not found:
        return origin.lower()
    name = found["host"].removeprefix("*.")
    below = "*." if name != found["host"] else ""
    return f"{scheme}://{below}{_ascii(name)}{found['port'] or ''}"


def _ascii(host: str) -> str:
    try:
        if host.startswith("["):
            return f"[{ipaddress.IPv6Address(host[1:-1]).compressed}]"
        return URL.build(scheme="https", host=host.removesuffix(".")).raw_host or host
    except ValueError:  # not a valid host name: compared verbatim
        return host
