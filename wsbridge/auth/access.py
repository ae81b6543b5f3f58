"""Who may call which route. One rule decides, from the request and the settings: docs/configuration.md explains it."""

import functools
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from wsbridge.auth.origins import Origins, host_of
from wsbridge.config.settings import PREFIX, is_loopback
from wsbridge.connections.client_address import address_of
from wsbridge.telemetry.log import log
from wsbridge.telemetry.metrics import Metrics

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
DAPR_TOKEN = "dapr-api-token"  # noqa: S105 - the name of a header
# The sidecar puts these on a call that another app makes through it, whatever that app has sent; not on deliveries.
_INVOCATION = ("dapr-caller-app-id", "dapr-callee-app-id", "dapr-caller-namespace")
_DELIVERY = ("pubsubname", "__offset")
_ERRORS = {error.status_code: error for error in (web.HTTPUnauthorized, web.HTTPForbidden, web.HTTPNotFound)}


class Caller(Enum):
    """For whom a route is."""

    ANYONE = "anyone"
    SIDECAR = "sidecar"
    OPERATOR = "operator"
    PROMETHEUS = "prometheus"


TOKENS = {
    Caller.SIDECAR: "APP_API_TOKEN",
    Caller.OPERATOR: f"{PREFIX}ADMIN_TOKEN",
    Caller.PROMETHEUS: f"{PREFIX}METRICS_TOKEN",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Trust:
    """What the settings say about who is trusted."""

    tokens: Mapping[Caller, str | None]
    development: bool = False
    demo: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """What a request shows of its sender."""

    token: str = ""
    internal: bool = False  # it came in on the internal port, where there is one
    invoked: bool = False  # another Dapr app sent it through the sidecar
    delivered: bool = False  # it has headers of a single delivery, and so may have those of a message, too
    foreign: bool = False  # a page of another origin sent it
    local: bool = False  # a program on this machine sent it: means something in development mode only


class Refusal(NamedTuple):
    why: str
    status: int
    text: str


def refusal(caller: Caller, call: Call, trust: Trust) -> Refusal | None:
    """The trust rule: None if the call may go on.

    A peer's address proves nothing outside of development mode: a proxy or a mesh in front is a peer on loopback, too.
    """
    if caller is Caller.ANYONE:
        return None
    if call.invoked:
        # For the sidecar 404 is a drop. With 403 a message that has such a header of its own would come for ever.
        return Refusal("invocation", 404 if call.delivered else 403, "Dapr apps may not invoke this route.")
    token = trust.tokens[caller]
    if token:
        return None if _equal(call.token, token) else Refusal("token", 401, _how_to_send(caller))
    return _refusal_without_token(caller, call, trust)


def _refusal_without_token(caller: Caller, call: Call, trust: Trust) -> Refusal | None:
    name = TOKENS[caller]
    if call.foreign:
        return Refusal("foreign_page", 403, f"A page of another origin may not call this route. Set {name}.")
    if trust.development:
        return None if call.local else Refusal("not_local", 403, f"Only this machine may call this route. Set {name}.")
    if trust.demo or (call.internal and caller is not Caller.SIDECAR):
        return None
    return Refusal("no_token", 403, _how_to_set(caller))


def _how_to_send(caller: Caller) -> str:
    header = f"the header {DAPR_TOKEN}" if caller is Caller.SIDECAR else "the header Authorization: Bearer"
    return f"This route needs the {caller.value}'s token: send the value of {TOKENS[caller]} in {header}."


def _how_to_set(caller: Caller) -> str:
    if caller is Caller.SIDECAR:
        return f"This route needs a token: set {TOKENS[caller]} to the same value for the bridge and for its sidecar."
    return (
        f"This route needs a token or a port of its own: set {TOKENS[caller]} and send it in the header "
        f"Authorization: Bearer, or set {PREFIX}INTERNAL_PORT and call that port."
    )


def _equal(sent: str, token: str) -> bool:
    return hmac.compare_digest(sent.encode("utf-8", "surrogateescape"), token.encode())


class Access:
    """Guards the routes of one port."""

    def __init__(self, trust: Trust, metrics: Metrics, *, internal: bool) -> None:
        self._trust = trust
        self._metrics = metrics
        self._internal = internal

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
            web.HTTPForbidden: no token is set, or none would help.
            web.HTTPNotFound: the sidecar shall drop the message.

        """
        refused = refusal(caller, self._call(caller, request), self._trust)
        if refused is None:
            return
        self._metrics.failed("denied")
        log.warning("request.denied", path=request.path, caller=caller.value, why=refused.why, peer=address_of(request))
        headers = {hdrs.WWW_AUTHENTICATE: "Bearer"} if refused.status == web.HTTPUnauthorized.status_code else None
        raise _ERRORS[refused.status](text=refused.text, headers=headers)

    def shows_details(self, request: web.Request) -> bool:
        """Whether a route for anyone may show what only operators should see."""
        call = self._call(Caller.OPERATOR, request)
        return (call.internal and not call.invoked) or refusal(Caller.OPERATOR, call, self._trust) is None

    def _call(self, caller: Caller, request: web.Request) -> Call:
        headers = request.headers
        origin = headers.get(hdrs.ORIGIN)
        foreign = origin is not None and not Origins.is_same(origin, host_of(request))
        return Call(
            token=headers.get(DAPR_TOKEN, "") if caller is Caller.SIDECAR else bearer(request) or "",
            internal=self._internal,
            invoked=any(name in headers for name in _INVOCATION),
            delivered=any(name in headers for name in _DELIVERY),
            foreign=foreign,
            local=self._trust.development and _is_local(request),
        )


def _is_local(request: web.Request) -> bool:
    """A peer on this machine, not behind a proxy that says so, and not called by a name of the DNS.

    A page in a browser on this machine may have made its own name point here (DNS rebinding); then that name is in
    `Host`.
    """
    headers = request.headers
    if hdrs.FORWARDED in headers or hdrs.X_FORWARDED_FOR in headers or _is_domain(host_of(request)):
        return False
    return request.remote is not None and is_loopback(request.remote.removeprefix("::ffff:"))


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


def bearer(request: web.BaseRequest) -> str | None:
    """The token of `Authorization: Bearer …` (RFC 6750 §2.1)."""
    scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None
