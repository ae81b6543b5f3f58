"""Verifies JSON Web Tokens (RFC 7519), and makes them for tests."""

import contextlib
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jwt
from jwt.algorithms import OKPAlgorithm

from wsbridge.auth.jwks import HMAC
from wsbridge.auth.keys import Keys
from wsbridge.auth.token_cache import TokenCache
from wsbridge.auth.token_refusals import (
    ENCRYPTED,
    OF_CLAIMS,
    is_encrypted,
    why_invalid,
    why_no_user,
    why_without_key,
)
from wsbridge.config.settings import PREFIX, SECRET_BYTES, Settings, SettingsError
from wsbridge.core.close_codes import TOKEN_EXPIRED, TOKEN_INVALID, USER_ID_REQUIRED, Refused
from wsbridge.core.user_ids import is_user

with contextlib.suppress(ValueError):  # raised if PyJWT already supports it
    jwt.register_algorithm("Ed25519", OKPAlgorithm())  # RFC 9864's name for EdDSA on this curve
FOREVER = 10 * 365 * 86_400.0  # seconds: the lifetime of a session at most, so that a huge `exp` does not overflow


class Identity(NamedTuple):
    """The user of a token; `expires` is in seconds since 1970, leeway not included."""

    user: str
    expires: float


class TokenVerifier:
    """Verifies JSON Web Tokens, with the checks that PyJWT leaves to the caller."""

    def __init__(self, keys: Keys, settings: Settings) -> None:
        self._keys = keys
        self._audiences = list(settings.jwt_audience) or None
        self._issuers = list(settings.jwt_issuer) or None
        self._leeway = settings.jwt_leeway
        self._claim = settings.jwt_user_claim
        self._settings = settings
        self._cache = TokenCache()

    async def verify(self, token: str) -> Identity:
        """The identity of a token, which is remembered until the token expires or the keys change.

        Raises `Refused` if the token is not valid, and `Unavailable` if there is no key to verify it with now.
        """
        if (found := self._cache.get(token, self._keys.current)) is not None:
            return Identity(*found)
        identity = await self._verify(token)
        self._cache.put(token, self._keys.current, *identity)  # nothing was awaited since the keys were read
        return identity

    async def _verify(self, token: str) -> Identity:
        if is_encrypted(token):
            raise Refused(TOKEN_INVALID, ENCRYPTED)
        try:
            header = jwt.get_unverified_header(token)
        except Exception as error:  # untrusted input: any error of the parser means an invalid token
            raise Refused(TOKEN_INVALID, why_invalid(error, token, self._settings)) from None
        candidates = await self._keys.candidates(header.get("kid"))
        reason = ""
        for key in candidates:
            if header.get("alg") not in key.algorithms:
                continue
            try:
                return self._identity(self._decode(token, key.material, key.algorithms))
            except Refused:
                raise
            except Exception as error:  # as above; another key may verify it
                reason = why_invalid(error, token, self._settings)
                if isinstance(error, OF_CLAIMS):
                    close = TOKEN_EXPIRED if isinstance(error, jwt.ExpiredSignatureError) else TOKEN_INVALID
                    raise Refused(close, reason) from None
        raise Refused(TOKEN_INVALID, reason or why_without_key(header, candidates, self._settings))

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
                "verify_sub": False,  # an integer is allowed as user id, as in events
                "enforce_minimum_key_length": True,
            },
        )

    def _identity(self, claims: dict[str, Any]) -> Identity:
        user = found_claim(claims, self._claim)
        if user is None:
            raise Refused(TOKEN_INVALID, why_no_user("is missing", self._settings))
        if type(user) not in (str, int) or not str(user):
            raise Refused(TOKEN_INVALID, why_no_user("is neither a text nor an integer", self._settings))
        if not is_user(str(user)):
            raise Refused(USER_ID_REQUIRED, why_no_user("is longer than 256 bytes", self._settings))
        expires = float(claims["exp"])  # finite: PyJWT has converted it to an integer
        return Identity(str(user), min(expires, time.time() + FOREVER))


def mint(settings: Settings, user: str, *, ttl: float, algorithm: str = "HS256", now: float | None = None) -> str:
    """A token for tests, signed with the configured secret, valid for `ttl` seconds.

    Raises `SettingsError` if no secret is configured, or the algorithm does not fit it.
    """
    if not settings.jwt_secret:
        raise SettingsError(
            f"{PREFIX}JWT_SECRET (or {PREFIX}JWT_SECRET_FILE) is not set, and tokens are signed with it. "
            "A public key or a JWKS can only verify tokens: get one from your identity provider"
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


def found_claim(claims: Mapping[str, Any], name: str) -> Any:
    """The claim of that name, which may have dots (`https://example.com/user`), else of that dotted path, or None."""
    if name in claims:
        return claims[name]
    value: Any = claims
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
