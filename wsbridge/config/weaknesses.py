"""Valid settings that are insecure: a line for each, for the log at start and for `wsbridge check`."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from wsbridge.config.settings import PREFIX, Settings, is_loopback

_ANY_PAGE = {"*", "null"}  # a sandboxed frame in any page has the origin `null`


def weaknesses(settings: Settings) -> list[str]:
    if settings.development:
        return []
    return [*_authentication(settings), *_lists(settings), *_routes(settings)]


def _authentication(s: Settings) -> Iterator[str]:
    if s.demo:
        yield f"{PREFIX}DEMO=true: everybody who can reach the bridge can connect as any user, publish and disconnect"
    elif not s.authenticates:
        yield f"{PREFIX}AUTH=none: everybody who can reach {PREFIX}HOST={s.host} can connect as any user"
    if s.keys and not s.authenticates:
        yield f"{PREFIX}AUTH=none: {s.keys[0]} is set, but no token is checked; remove {PREFIX}AUTH"
    if s.authenticates and s.jwt_jwks_url:
        url = urlsplit(s.jwt_jwks_url)
        if url.scheme == "http" and not is_loopback(url.hostname or ""):
            yield f"{PREFIX}JWT_JWKS_URL: without TLS, an attacker on the network can replace the keys; use https"
    if s.authenticates and not s.jwt_secret and not s.jwt_audience:
        yield f"{PREFIX}JWT_AUDIENCE is not set: tokens of the issuer for other applications are accepted; set it"


def _lists(s: Settings) -> Iterator[str]:
    found = sorted(_ANY_PAGE & set(s.allowed_origins))
    if found and s.authenticates and s.jwt_cookie:
        yield (
            f"{PREFIX}ALLOWED_ORIGINS has {found[0]} and {PREFIX}JWT_COOKIE is set: every page that a user visits can "
            "read that user's events; list only your own origins"
        )
    everywhere = [network for network in s.trusted_proxies if network.endswith("/0")]
    if everywhere:
        yield (
            f"{PREFIX}TRUSTED_PROXIES has {everywhere[0]}: every client can pretend to have any address; list "
            "only the addresses of your proxies"
        )


def _routes(s: Settings) -> Iterator[str]:
    if not s.app_api_token and not s.demo:
        yield "APP_API_TOKEN is not set: all deliveries are refused; set it for the bridge and its sidecar"
    if s.internal_port is not None or s.demo:
        return
    yield (
        f"{PREFIX}INTERNAL_PORT is not set: the routes for the sidecar, operators and Prometheus are on the port "
        "that browsers reach; only tokens protect them"
    )
    for name, token, routes in (
        ("ADMIN_TOKEN", s.admin_token, "/console/stream, /stats, /user and /users are"),
        ("METRICS_TOKEN", s.metrics_token, "/metrics is"),
    ):
        if not token:
            yield f"{PREFIX}{name} is not set: {routes} refused; set it, or {PREFIX}INTERNAL_PORT"
