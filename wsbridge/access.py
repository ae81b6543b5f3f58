"""Who may call what: tokens, loopback, origins (PROTOCOL.md section 5). Knows no route's business."""

import functools
import hmac
import ipaddress
from collections.abc import Awaitable, Callable
from enum import Enum
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from wsbridge.kinds import ORIGIN
from wsbridge.log import log
from wsbridge.metrics import Metrics
from wsbridge.settings import is_loopback

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class Caller(Enum):
    """Whom a route is for."""

    ANYONE = "anyone"
    SIDECAR = "sidecar"
    OPERATOR = "operator"
    PROMETHEUS = "prometheus"


class Access:
    """Guards routes. Without a token of its own a route for the sidecar or the operator serves loopback peers only."""

    def __init__(
        self,
        *,
        app_token: str | None,
        admin_token: str | None,
        metrics_token: str | None,
        origins: "Origins",
        metrics: Metrics,
    ) -> None:
        self._metrics = metrics
        self._tokens = {
            Caller.SIDECAR: app_token,
            Caller.OPERATOR: admin_token,
            Caller.PROMETHEUS: metrics_token,
        }
        self._origins = origins

    def guard(self, caller: Caller, handler: Handler) -> Handler:
        """The handler, for that caller only."""
        if caller is Caller.ANYONE:
            return handler

        async def guarded(request: web.Request) -> web.StreamResponse:
            self.check(caller, request)
            return await handler(request)

        return guarded

    def check(self, caller: Caller, request: web.Request) -> None:
        """Return if the caller may go on.

        Raises:
            web.HTTPUnauthorized: a token is set and was not sent.
            web.HTTPForbidden: no token is set and the peer is not on this machine.

        """
        token = self._tokens[caller]
        if token:
            sent = request.headers.get("dapr-api-token", "") if caller is Caller.SIDECAR else bearer(request) or ""
            if not hmac.compare_digest(sent.encode("utf-8", "surrogateescape"), token.encode()):
                self._denied(request, caller, "token")
                raise web.HTTPUnauthorized(
                    text=f"This route wants the {caller.value}'s token.",
                    headers={hdrs.WWW_AUTHENTICATE: "Bearer"},
                )
        elif caller is not Caller.PROMETHEUS and not self._is_local(request):
            self._denied(request, caller, "not_loopback")
            name = "APP_API_TOKEN" if caller is Caller.SIDECAR else "WSBRIDGE_ADMIN_TOKEN"
            raise web.HTTPForbidden(text=f"Without {name} this route serves loopback peers only.")

    def _denied(self, request: web.Request, caller: Caller, why: str) -> None:
        self._metrics.failed("denied")
        log.warning("request.denied", path=request.path, caller=caller.value, why=why, peer=request.remote)

    def _is_local(self, request: web.Request) -> bool:
        """A peer on this machine, not behind a proxy, and not a foreign page in a browser on this machine.

        Such a page has its origin, or, if it made its own name point here (DNS rebinding), that name in `Host`.
        """
        headers = request.headers
        if hdrs.FORWARDED in headers or hdrs.X_FORWARDED_FOR in headers:
            return False
        origin, host = headers.get(hdrs.ORIGIN), _host(request)
        if _is_domain(host) or (origin is not None and not self._origins.is_same(origin, host)):
            return False
        return request.remote is not None and is_loopback(request.remote.removeprefix("::ffff:"))


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
            return self.is_same(origin, _host(request))
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


def _host(request: web.BaseRequest) -> str:
    """As it was sent: `request.host` would ask the resolver where it was not, and block the loop."""
    return request.headers.get(hdrs.HOST, "")


@functools.lru_cache
def _is_domain(host: str) -> bool:
    """Whether it is a name of the DNS, as no sidecar and no `localhost` is."""
    try:
        name = (urlsplit(f"//{host}").hostname or "").removesuffix(".localhost")
    except ValueError:  # an unfinished [
        return False
    return "." in name and not _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _normal(origin: str) -> str:
    """Without a default port, as browsers send it."""
    scheme, _, _ = origin.partition("://")
    return origin.removesuffix(_DEFAULT_PORTS.get(scheme, "\n"))


def bearer(request: web.BaseRequest) -> str | None:
    """The token of `Authorization: Bearer …` (RFC 6750 §2.1)."""
    scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None
