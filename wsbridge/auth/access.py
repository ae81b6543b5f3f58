"""Access control for routes: one rule decides from the request and the settings. See docs/configuration.md."""

import functools
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Self
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from wsbridge.auth.origins import Origins, host_of
from wsbridge.config.settings import PREFIX, Settings, is_loopback
from wsbridge.connections.client_address import address_of
from wsbridge.telemetry.log import log
from wsbridge.telemetry.metrics import Metrics

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
DAPR_TOKEN = "dapr-api-token"  # noqa: S105 - the name of a header
# The sidecar sets these on a call that another app makes through it (service invocation), but not on a delivery.
_INVOCATION = ("dapr-caller-app-id", "dapr-callee-app-id", "dapr-caller-namespace")
_DELIVERY = ("pubsubname", "__offset")
_ERRORS = {error.status_code: error for error in (web.HTTPUnauthorized, web.HTTPForbidden, web.HTTPNotFound)}


class Caller(StrEnum):
    ANYONE = "anyone"
    SIDECAR = "sidecar"
    OPERATOR = "operator"
    VIEWER = "viewer"  # or an operator
    PROMETHEUS = "prometheus"


Route = tuple[str, str, Caller, Handler]  # method, path, who may call it
Denied = Callable[[str, int | None], object]  # path, and status or None if anybody could have sent the request

# Looking up a member of an enum takes as long as a call.
_SIDECAR, _OPERATOR, _VIEWER = Caller.SIDECAR, Caller.OPERATOR, Caller.VIEWER
TOKENS = {
    Caller.SIDECAR: "APP_API_TOKEN",
    Caller.OPERATOR: f"{PREFIX}ADMIN_TOKEN",
    Caller.VIEWER: f"{PREFIX}ADMIN_TOKEN",
    Caller.PROMETHEUS: f"{PREFIX}METRICS_TOKEN",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Trust:
    """The part of the settings that the access rule needs: the secret of each caller, and the modes.

    The routes of viewers need a token if the operators' is set, and accept both.
    """

    tokens: Mapping[Caller, str | None]
    development: bool = False
    demo: bool = False

    @classmethod
    def of(cls, s: Settings) -> Self:
        tokens = {
            Caller.SIDECAR: s.app_api_token,
            Caller.OPERATOR: s.admin_token,
            Caller.VIEWER: s.viewer_token,
            Caller.PROMETHEUS: s.metrics_token,
        }
        return cls(tokens=tokens, development=s.development, demo=s.demo)


class Call(NamedTuple):
    """The part of a request that the access rule needs."""

    token: str = ""
    internal: bool = False  # received on the internal port
    invoked: bool = False  # sent by another Dapr app through the sidecar
    delivered: bool = False  # has the headers of a single delivery; then headers of the message are passed on as well
    foreign: bool = False  # sent by a page of another origin
    local: bool = False  # sent by a program on this machine; only set in development mode


class Refusal(NamedTuple):
    """A denied request: `why` is the word for the log, `text` the explanation for the caller.

    `challenge` is the header of a 401 (RFC 6750 §3). It tells a wrong token from a missing one.
    """

    why: str
    status: int
    text: str
    challenge: str = ""


def refusal(caller: Caller, call: Call, trust: Trust) -> Refusal | None:
    """Apply the access rule. Returns None if the call is allowed.

    The peer's address counts in development mode only. In production a proxy or a mesh can be a peer on loopback.
    """
    if caller is Caller.ANYONE:
        return None
    if call.invoked:
        # The sidecar drops a message that is answered with 404. After 403 it would redeliver forever a message that
        # happens to have such a header itself.
        status = 404 if call.delivered else 403
        return Refusal("invocation", status, "This route must not be called through Dapr service invocation.")
    token = trust.tokens[_OPERATOR if caller is _VIEWER else caller]
    if token and any(_equal(call.token, accepted) for accepted in (token, trust.tokens[caller]) if accepted):
        return None
    if token:
        header = f"the header {DAPR_TOKEN}" if caller is _SIDECAR else "the header Authorization: Bearer"
        text = f"This route needs the {caller.value}'s token: send the value of {TOKENS[caller]} in {header}."
        return Refusal("token", 401, text, 'Bearer error="invalid_token"' if call.token else "Bearer")
    return _refusal_without_token(caller, call, trust)


def _equal(sent: str, token: str) -> bool:
    return hmac.compare_digest(sent.encode("utf-8", "surrogateescape"), token.encode())


def _refusal_without_token(caller: Caller, call: Call, trust: Trust) -> Refusal | None:
    name = TOKENS[caller]
    if call.foreign:
        text = f"A page of another origin must not call this route without a token. Set {name}."
        return Refusal("foreign_page", 403, text)
    if trust.development and not call.local:
        return Refusal("not_local", 403, f"In development mode only this machine may call this route. Set {name}.")
    if trust.development or trust.demo or (call.internal and caller is not _SIDECAR):
        return None
    if caller is _SIDECAR:
        text = f"This route needs a token: set {name} to the same value for wsbridge and for its sidecar."
    else:
        text = (
            f"This route needs a token or a port of its own: set {name} and send it in the header "
            f"Authorization: Bearer, or set {PREFIX}INTERNAL_PORT and call that port."
        )
    return Refusal("no_token", 403, text)


class Access:
    """Guards the routes of one port; `internal` is True for a separate internal port.

    `sidecar_denied` is called when a request for a route of the sidecar is denied, unless `wsbridge doctor` sent it.
    """

    def __init__(
        self, trust: Trust, metrics: Metrics, *, internal: bool, sidecar_denied: Denied = lambda _, __: None
    ) -> None:
        self._trust = trust
        self._metrics = metrics
        self._internal = internal
        self._sidecar_denied = sidecar_denied

    def guard(self, caller: Caller, handler: Handler) -> Handler:
        """Wrap the handler so that only that caller reaches it."""
        if caller is Caller.ANYONE:
            return handler

        async def guarded(request: web.Request) -> web.StreamResponse:
            self.check(caller, request)
            return await handler(request)

        return guarded

    def check(self, caller: Caller, request: web.Request) -> None:
        """Log and count a denied request.

        Raises `web.HTTPUnauthorized` if a token is configured and the request does not carry it, `web.HTTPForbidden` if
        no token is configured or a token does not help, `web.HTTPNotFound` if the sidecar must drop the message.
        """
        refused = refusal(caller, self._call(caller, request), self._trust)
        if refused is None:
            return
        self._metrics.failed("denied")
        # A sidecar sends GET and POST. `wsbridge doctor` sends HEAD, directly or through a sidecar.
        if caller is _SIDECAR and request.method != hdrs.METH_HEAD:
            is_near = self._internal or _is_local(request)
            self._sidecar_denied(request.path, refused.status if is_near else None)
        whose = {"path": request.path, "caller": caller.value, "peer": address_of(request)}
        log.warning("request.denied", **whose, why=refused.why, todo=refused.text)
        headers = {hdrs.WWW_AUTHENTICATE: refused.challenge} if refused.challenge else None
        raise _ERRORS[refused.status](text=refused.text, headers=headers)

    def may_write(self, request: web.Request) -> bool:
        """Whether the caller of a route for viewers is an operator."""
        return refusal(Caller.OPERATOR, self._call(Caller.OPERATOR, request), self._trust) is None

    def shows_details(self, request: web.Request) -> bool:
        """Whether a public route may include details that are meant for operators."""
        call = self._call(Caller.OPERATOR, request)
        return (call.internal and not call.invoked) or refusal(Caller.OPERATOR, call, self._trust) is None

    def _call(self, caller: Caller, request: web.Request) -> Call:
        headers = request.headers
        return Call(
            token=headers.get(DAPR_TOKEN, "") if caller is _SIDECAR else bearer(request) or "",
            internal=self._internal,
            invoked=not headers.keys().isdisjoint(_INVOCATION),
            delivered=not headers.keys().isdisjoint(_DELIVERY),
            foreign=_is_foreign(request),
            local=self._trust.development and _is_local(request),
        )


def _is_foreign(request: web.Request) -> bool:
    """Whether a page of another origin has sent the request. A link in one that a person follows does not count.

    Browsers send no `Origin` for images, scripts and opaque fetches, but `Sec-Fetch-Site` (W3C Fetch Metadata).
    """
    headers = request.headers
    origin = headers.get(hdrs.ORIGIN)
    if origin is not None:
        return not Origins.is_same(origin, host_of(request))
    is_elsewhere = headers.get("Sec-Fetch-Site") in ("cross-site", "same-site")
    return is_elsewhere and headers.get("Sec-Fetch-Dest") != "document"


def _is_local(request: web.Request) -> bool:
    """Whether the peer is on this machine, no proxy has forwarded the request, and `Host` is not a DNS name.

    The last condition is against DNS rebinding: a page in a local browser whose own DNS name resolves to 127.0.0.1.
    """
    headers = request.headers
    if hdrs.FORWARDED in headers or hdrs.X_FORWARDED_FOR in headers or _is_domain(host_of(request)):
        return False
    return request.remote is not None and is_loopback(request.remote.removeprefix("::ffff:"))


@functools.lru_cache
def _is_domain(host: str) -> bool:
    """Whether a `Host` value is a DNS name. A sidecar sends an address or `localhost`."""
    try:
        name = (urlsplit(f"//{host}").hostname or "").removesuffix(".localhost")
    except ValueError:  # an unfinished [
        return False
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "." in name
    return False


def bearer(request: web.BaseRequest) -> str | None:
    """The token of `Authorization: Bearer …` (RFC 6750 §2.1)."""
    scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None
