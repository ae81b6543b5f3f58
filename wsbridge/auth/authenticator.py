"""Identifies the user of a request: collects the tokens that it carries and verifies them in order."""

from collections.abc import Iterator
from itertools import islice

from aiohttp import hdrs, web

from wsbridge.auth.access import bearer
from wsbridge.auth.keys import Unavailable
from wsbridge.auth.tokens import Identity, TokenVerifier
from wsbridge.connections.websocket_handshake import offered_subprotocols
from wsbridge.core.close_codes import (
    TOKEN_EXPIRED,
    TOKEN_MISSING,
    UNAVAILABLE,
    USER_ID_REQUIRED,
    USER_MISMATCH,
    Refused,
)
from wsbridge.core.messages import SUBPROTOCOL
from wsbridge.core.user_ids import is_user

MOST_TOKENS = 4  # verified for one request; more are ignored, since each costs CPU before the peer is authenticated
_BEARER = "bearer."


class Authenticator:
    """Identifies requests. Without a `verifier` the `user_id` of the query is trusted, and tokens are ignored."""

    def __init__(self, verifier: TokenVerifier | None, *, cookie: str | None) -> None:
        self._verifier = verifier
        self._cookie = cookie
        by_cookie = f"the cookie {cookie}" if cookie else "a cookie (set WSBRIDGE_JWT_COOKIE to its name)"
        places = "the header Authorization, a subprotocol, the parameter token of the URL"
        self._no_token = f"the request has no token; it may be in {places}, or {by_cookie}"

    async def identify(self, request: web.Request) -> Identity:
        """The user of a request; `expires` is infinite without authentication.

        Raises `Refused` if there is no valid token, a token of another user than `user_id`, or no key to verify with.
        """
        asked = request.query.get("user_id") or None
        if asked is not None and not is_user(asked):
            raise Refused(USER_ID_REQUIRED, "user_id is longer than 256 bytes")
        if self._verifier is not None:
            return await self._by_token(self._verifier, request, asked)
        if asked is None:
            raise Refused(USER_ID_REQUIRED, "user_id is missing in the query")
        return Identity(asked, float("inf"))

    async def refresh(self, user: str, token: str) -> Identity | None:
        """Verify a new token of the same user. Returns None without authentication.

        Raises `Refused` if the token is invalid or belongs to another user, and `Unavailable` if there is no key to
        verify it with now.
        """
        if self._verifier is None:
            return None
        identity = await self._verifier.verify(token)
        if identity.user != user:
            raise Refused(USER_MISMATCH, "the new token belongs to another user")
        return identity

    async def _by_token(self, verifier: TokenVerifier, request: web.Request, asked: str | None) -> Identity:
        """The identity of the first valid token. A stale cookie or a credential of a proxy may come before it."""
        refusals: list[Refused] = []
        for token in islice(offered_tokens(request, self._cookie), MOST_TOKENS):
            try:
                identity = await verifier.verify(token)
            except Refused as refused:
                refusals.append(refused)
                continue
            except Unavailable as unavailable:
                raise Refused(UNAVAILABLE, str(unavailable)) from None
            if asked in (None, identity.user):
                return identity
            refusals.append(
                Refused(USER_MISMATCH, f"the token does not belong to user_id {asked!r}: leave user_id out")
            )
        raise min(refusals, key=_rank, default=Refused(TOKEN_MISSING, self._no_token))


def _rank(refused: Refused) -> int:
    """Sort key: the refusal of the token that was closest to valid is reported."""
    order = (USER_MISMATCH, USER_ID_REQUIRED, TOKEN_EXPIRED)
    return order.index(refused.close) if refused.close in order else len(order)


def offered_tokens(request: web.Request, cookie: str | None) -> Iterator[str]:
    """The tokens of a request, in order of precedence: header, subprotocols, query, cookies."""
    protocols = offered_subprotocols(request)
    carriers = protocols if SUBPROTOCOL in protocols else ()  # checked once: a header may have 30,000 names
    candidates = [
        bearer(request),
        *(name.removeprefix(_BEARER) for name in carriers if name.startswith(_BEARER)),
        *request.query.getall("token", ()),
        *(_cookies(request, cookie) if cookie else ()),
    ]
    return iter(dict.fromkeys(token for token in candidates if token))


def _cookies(request: web.Request, name: str) -> Iterator[str]:
    """All values of a cookie. Browsers send one for each path and domain, in one header or several (RFC 6265 §5.4).

    Own parsing, because `http.cookies` and aiohttp keep only one of them.
    """
    for header in request.headers.getall(hdrs.COOKIE, ()):
        for pair in header.split(";"):
            found, _, value = pair.partition("=")
            if found.strip() == name:
                yield value.strip().strip('"')
