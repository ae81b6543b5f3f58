"""Token → identity, and test tokens. Knows nothing of connections."""

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jwt
from jwt.algorithms import OKPAlgorithm

from wsbridge.auth.jwks import HMAC
from wsbridge.auth.keys import Keys
from wsbridge.config.settings import PREFIX, SECRET_BYTES, Settings, SettingsError
from wsbridge.core.close_codes import TOKEN_EXPIRED, TOKEN_INVALID, USER_ID_REQUIRED, Refused
from wsbridge.core.events import is_user

with contextlib.suppress(ValueError):  # a newer PyJWT may have it
    jwt.register_algorithm("Ed25519", OKPAlgorithm())  # RFC 9864's name for EdDSA on this curve
FOREVER = 10 * 365 * 86_400.0  # seconds: an `exp` beyond is as good as none, and must not overflow a clock


class Identity(NamedTuple):
    """Who a token speaks for; `expires` is in seconds since 1970, leeway not included."""

    user: str
    expires: float


class Verifier(Protocol):
    """What the doors ask."""

    async def verify(self, token: str) -> Identity:
        """Who it is.

        Raises:
            Refused: not a valid token.
            Unavailable: there is no key to check it with now.

        """
        ...


class TokenVerifier:
    """JSON Web Tokens (RFC 7519), with the checks that PyJWT leaves to the caller."""

    def __init__(
        self, keys: Keys, *, audiences: Sequence[str], issuers: Sequence[str], leeway: float, claim: str
    ) -> None:
        self._keys = keys
        self._audiences = list(audiences) or None
        self._issuers = list(issuers) or None
        self._leeway = leeway
        self._claim = claim

    async def verify(self, token: str) -> Identity:
        try:
            header = jwt.get_unverified_header(token)
        except Exception as error:  # a stranger wrote it: whatever it does to a parser, it is no token
            raise Refused(TOKEN_INVALID, _why(error)) from None
        algorithm, kid = header.get("alg"), header.get("kid")
        reason = f"no key is for alg {algorithm!r}" + (f" and kid {kid!r}" if kid else "")
        for key in await self._keys.candidates(kid):
            if algorithm not in key.algorithms:
                continue
            try:
                return self._identity(self._decode(token, key.material, key.algorithms))
            except jwt.ExpiredSignatureError:
                raise Refused(TOKEN_EXPIRED) from None
            except Refused:
                raise
            except Exception as error:  # as above; the next key may fit
                reason = _why(error)
        raise Refused(TOKEN_INVALID, reason)

    def _decode(self, token: str, key: Any, algorithms: tuple[str, ...]) -> dict[str, Any]:
        return jwt.decode(
            token,
            key,
            algorithms=list(algorithms),
            audience=self._audiences,
            issuer=self._issuers,
            leeway=self._leeway,
            options={
                "require": ["exp"],
                "verify_aud": self._audiences is not None,
                "verify_sub": False,  # an integer is a user too, here as in events
                "enforce_minimum_key_length": True,
            },
        )

    def _identity(self, claims: dict[str, Any]) -> Identity:
        user = _found(claims, self._claim)
        if user is None:
            raise Refused(TOKEN_INVALID, f"the claim {self._claim} is missing")
        if type(user) not in (str, int) or not str(user):
            raise Refused(TOKEN_INVALID, f"the claim {self._claim} is not a user")
        if not is_user(str(user)):
            raise Refused(USER_ID_REQUIRED, f"the claim {self._claim} is longer than a user may be")
        expires = float(claims["exp"])  # finite: PyJWT has made an integer of it
        return Identity(str(user), min(expires, time.time() + FOREVER))


def mint(settings: Settings, user: str, *, ttl: float, algorithm: str = "HS256", now: float | None = None) -> str:
    """A token for tests, signed with the configured secret, valid for `ttl` seconds.

    Raises:
        SettingsError: there is no secret to sign with, or the algorithm is not one of a secret.

    """
    if not settings.jwt_secret:
        raise SettingsError(
            f"{PREFIX}JWT_SECRET, or {PREFIX}JWT_SECRET_FILE, is not set: it is the secret to sign with. "
            "A public key or a JWKS can only verify, "
            "so get a token from whoever holds the private key"
        )
    possible = settings.jwt_algorithms or HMAC
    if algorithm not in possible:
        raise SettingsError(f"--algorithm: expected one of {', '.join(possible)}, got {algorithm}")
    if len(settings.jwt_secret.encode()) < SECRET_BYTES[algorithm]:
        raise SettingsError(f"{PREFIX}JWT_SECRET: expected {SECRET_BYTES[algorithm]} bytes or more for {algorithm}")
    issued = int(time.time() if now is None else now)
    claims: dict[str, Any] = {settings.jwt_user_claim: user, "iat": issued, "exp": issued + int(ttl)}
    claims |= {"aud": settings.jwt_audience[0]} if settings.jwt_audience else {}
    claims |= {"iss": settings.jwt_issuer[0]} if settings.jwt_issuer else {}
    return jwt.encode(claims, settings.jwt_secret, algorithm=algorithm)


def _found(claims: Mapping[str, Any], name: str) -> Any:
    """A claim by its name, which may have dots (`https://example.com/user`), or by a dotted path; None if missing."""
    if name in claims:
        return claims[name]
    value: Any = claims
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _why(error: Exception) -> str:
    """For our log: PyJWT's words name claims and algorithms, never the token."""
    return f"{type(error).__name__}: {error}" if isinstance(error, jwt.PyJWTError) else type(error).__name__
