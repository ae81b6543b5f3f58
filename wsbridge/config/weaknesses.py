"""Settings that are valid and leave something open. A line for each, for the log at start and for `wsbridge check`."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from wsbridge.config.settings import PREFIX, Settings, is_loopback

_ANY_PAGE = {"*", "null"}  # a sandboxed frame in any page has the origin `null`


def weaknesses(settings: Settings) -> list[str]:
    """What an operator should know before others reach the bridge; nothing in development mode."""
    if settings.development:
        return []
    return [*_authentication(settings), *_pages(settings), *_proxies(settings), *_routes(settings)]


def _authentication(s: Settings) -> Iterator[str]:
    if s.demo:
        yield f"{PREFIX}DEMO=true: everybody who reaches the bridge may connect as anybody, publish and disconnect"
    elif not s.authenticates:
        yield f"{PREFIX}AUTH=none: everybody who reaches {PREFIX}HOST={s.host} may connect as anybody"
    sources = (("JWT_SECRET", s.jwt_secret), ("JWT_PUBLIC_KEY", s.jwt_public_key), ("JWT_JWKS_URL", s.jwt_jwks_url))
    keys = [PREFIX + name for name, value in sources if value]
    if keys and not s.authenticates:
        yield f"{PREFIX}AUTH=none: {keys[0]} is set and no token is checked with it; leave {PREFIX}AUTH out"
    if s.authenticates and s.jwt_jwks_url:
        url = urlsplit(s.jwt_jwks_url)
        if url.scheme == "http" and not is_loopback(url.hostname or ""):
            yield f"{PREFIX}JWT_JWKS_URL: without TLS, keys can be replaced on their way; use https"
    if s.authenticates and not s.jwt_secret and not s.jwt_audience:
        yield f"{PREFIX}JWT_AUDIENCE is not set: tokens that the issuer made for other applications are accepted"


def _pages(s: Settings) -> Iterator[str]:
    found = sorted(_ANY_PAGE & set(s.allowed_origins))
    if found and s.authenticates and s.jwt_cookie:
        yield (
            f"{PREFIX}ALLOWED_ORIGINS has {found[0]} and {PREFIX}JWT_COOKIE is set: every page that a user visits can "
            "read that user's events; list your own origins"
        )


def _proxies(s: Settings) -> Iterator[str]:
    everywhere = [network for network in s.trusted_proxies if network.endswith("/0")]
    if everywhere:
        yield (
            f"{PREFIX}TRUSTED_PROXIES has {everywhere[0]}: every client may claim any address in a header; list the "
            "addresses of your proxies"
        )


def _routes(s: Settings) -> Iterator[str]:
    if not s.app_api_token and not s.demo:
        yield "APP_API_TOKEN is not set: all deliveries are refused; set it for the bridge and for its sidecar"
    if s.internal_port is not None or s.demo:
        return
    yield (
        f"{PREFIX}INTERNAL_PORT is not set: the routes of sidecar, operators and Prometheus are on the port that "
        "browsers reach, and tokens alone protect them"
    )
    for name, token, routes in (
        ("ADMIN_TOKEN", s.admin_token, "/stats and /users are"),
        ("METRICS_TOKEN", s.metrics_token, "/metrics is"),
    ):
        if not token:
            yield f"{PREFIX}{name} is not set: {routes} refused; set it, or {PREFIX}INTERNAL_PORT"
