"""Who a request comes from: the tokens that it offers, and the one among them that counts."""

from collections.abc import Iterator
from itertools import islice

from aiohttp import hdrs, web

from wsbridge.auth.access import bearer
from wsbridge.auth.keys import Unavailable
from wsbridge.auth.tokens import Identity, Verifier
from wsbridge.connections.websocket_handshake import offered_subprotocols
from wsbridge.core.close_codes import (
    TOKEN_EXPIRED,
    TOKEN_MISSING,
    UNAVAILABLE,
    USER_ID_REQUIRED,
    USER_MISMATCH,
    Refused,
)
from wsbridge.core.events import is_user
from wsbridge.core.messages import SUBPROTOCOL

MOST_TOKENS = 4  # of one request that are verified: each costs CPU before anybody is known; further ones are ignored
_BEARER = "bearer."


class Authenticator:
    """Identifies requests. Without a `verifier` everybody is who they say they are, and tokens are ignored."""

    def __init__(self, verifier: Verifier | None, *, cookie: str | None) -> None:
        self._verifier = verifier
        self._cookie = cookie

    async def identify(self, request: web.Request) -> Identity:
        """The user of a request; `expires` is infinite without authentication.

        Raises:
            Refused: nobody, another user than the one asked for, or not to be found out now.

        """
        asked = request.query.get("user_id") or None
        if asked is not None and not is_user(asked):
            raise Refused(USER_ID_REQUIRED, "user_id is longer than 256 bytes")
        if self._verifier is not None:
            return await self._by_token(self._verifier, request, asked)
        if asked is None:
            raise Refused(USER_ID_REQUIRED, "there is no user_id in the query")
        return Identity(asked, float("inf"))

    async def refresh(self, user: str, token: str) -> Identity | None:
        """The identity of a fresh token of the same user; None without authentication.

        Raises:
            Refused: it is not a valid token, or another user's.
            Unavailable: there is no key to verify it with now.

        """
        if self._verifier is None:
            return None
        identity = await self._verifier.verify(token)
        if identity.user != user:
            raise Refused(USER_MISMATCH, "the fresh token is another user's")
        return identity

    async def _by_token(self, verifier: Verifier, request: web.Request, asked: str | None) -> Identity:
        """The first good token: a stale cookie or a proxy's own credential must not hide it."""
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
            refusals.append(Refused(USER_MISMATCH, f"the token is another user's than {asked!r}"))
        raise min(refusals, key=_rank, default=Refused(TOKEN_MISSING))


def _rank(refused: Refused) -> int:
    """The refusal of the token that came nearest to a good one says most."""
    order = (USER_MISMATCH, USER_ID_REQUIRED, TOKEN_EXPIRED)
    return order.index(refused.close) if refused.close in order else len(order)


def offered_tokens(request: web.Request, cookie: str | None) -> Iterator[str]:
    """Tokens in the order in which they count: header, subprotocols, query, cookies."""
    protocols = offered_subprotocols(request)
    carriers = protocols if SUBPROTOCOL in protocols else ()  # looked for once: a header may hold 30,000 names
    candidates = [
        bearer(request),
        *(name.removeprefix(_BEARER) for name in carriers if name.startswith(_BEARER)),
        *request.query.getall("token", ()),
        *(_cookies(request, cookie) if cookie else ()),
    ]
    return iter(dict.fromkeys(token for token in candidates if token))


def _cookies(request: web.Request, name: str) -> Iterator[str]:
    """All values of a cookie: browsers send one for each path and domain, in one header or several (RFC 6265 §5.4).

    `http.cookies` and aiohttp keep one of them.
    """
    for header in request.headers.getall(hdrs.COOKIE, ()):
        for pair in header.split(";"):
            found, _, value = pair.partition("=")
            if found.strip() == name:
                yield value.strip().strip('"')
