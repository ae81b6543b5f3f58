"""Which pages may connect, by the origin that browsers send (RFC 6454). Knows no route and no token."""

from aiohttp import hdrs, web

from wsbridge.kinds import ORIGIN

_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class Origins:
    """Which pages may connect (RFC 6454). A request without `Origin` is no browser and passes."""

    def __init__(self, allowed: tuple[str, ...], *, development: bool) -> None:
        self._any = "*" in allowed or (development and not allowed)
        self._exact = {_normal(origin) for origin in allowed}
        self._below = [
            (found["scheme"], "." + found["name"])
            for origin in allowed
            if (found := ORIGIN.fullmatch(_normal(origin))) and found["host"]
        ]
        self._configured = bool(allowed)

    def allows(self, request: web.BaseRequest) -> bool:
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None or self._any:
            return True
        if not self._configured:
            return self.is_same(origin, host_of(request))
        origin = _normal(origin.lower())
        scheme, _, rest = origin.partition("://")
        return origin in self._exact or any(scheme == s and rest.endswith(end) for s, end in self._below)

    def cors(self, request: web.BaseRequest) -> dict[str, str]:
        """Headers that let an allowed page of another origin read the answer (Fetch standard, CORS protocol)."""
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None or not self.allows(request):
            return {hdrs.VARY: hdrs.ORIGIN}
        return {
            hdrs.VARY: hdrs.ORIGIN,
            hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: origin,
            hdrs.ACCESS_CONTROL_ALLOW_CREDENTIALS: "true",
        }

    @staticmethod
    def is_same(origin: str, host: str) -> bool:
        """Host and port as in `Host`, whatever the scheme: TLS ends before us."""
        scheme, _, rest = _normal(origin.lower()).partition("://")
        host = host.lower()
        return bool(rest) and rest == host.removesuffix(_DEFAULT_PORTS.get(scheme, ""))


def host_of(request: web.BaseRequest) -> str:
    """As it was sent: `request.host` would ask the resolver where it was not, and block the loop."""
    return request.headers.get(hdrs.HOST, "")


def _normal(origin: str) -> str:
    """Without a default port, as browsers send it."""
    scheme, _, _ = origin.partition("://")
    return origin.removesuffix(_DEFAULT_PORTS.get(scheme, "\n"))
