"""Explains for the log why a token was refused: the setting that decides, and what to do.

The texts contain at most `aud`, `iss`, `alg` and `kid` of the token, escaped and bounded.
"""

from collections.abc import Sequence
from typing import Any

import jwt

from wsbridge.auth.jwks import Key
from wsbridge.config.settings import PREFIX, Settings

_CHARACTERS = 80  # shown of a value that the peer has chosen; an issuer of Entra ID has 75
_VALUES = 3  # shown of a list
_DOTS_OF_JWE = 4  # RFC 7516 §3.1; a signed token has two
ENCRYPTED = (
    "the token is encrypted (JWE), so only its issuer can read it: let the client request a token for an audience; "
    "for Auth0 that is the identifier of an API"
)
FOR_GRAPH = (
    "its header has a nonce, as in tokens for Microsoft Graph, which nobody else can verify: let the client request "
    "a token for an API of your own"
)
_SETTINGS = {"aud": ("JWT_AUDIENCE", "jwt_audience"), "iss": ("JWT_ISSUER", "jwt_issuer")}
# PyJWT raises these after it has verified the signature, so that no other key needs to be tried.
OF_CLAIMS = (
    jwt.MissingRequiredClaimError, jwt.InvalidAudienceError, jwt.InvalidIssuerError, jwt.ImmatureSignatureError,
    jwt.InvalidIssuedAtError, jwt.ExpiredSignatureError,
)  # fmt: skip


def why_invalid(error: Exception, token: str, settings: Settings) -> str:
    """The reason for an error of PyJWT."""
    leeway = f"WSBRIDGE_JWT_LEEWAY ({settings.jwt_leeway:g} s)"
    clocks = "compare the clocks of this machine and of the identity provider"
    match error:
        case jwt.MissingRequiredClaimError():
            why = _missing(error.claim, settings)
        case jwt.InvalidAudienceError():
            why = _wrong("aud", token, settings)
        case jwt.InvalidIssuerError():
            why = _wrong("iss", token, settings)
        case jwt.ImmatureSignatureError():
            why = f"the token is not valid yet: its nbf or iat is more than {leeway} in the future: {clocks}"
        case jwt.ExpiredSignatureError():
            why = f"the token expired more than {leeway} ago: the client must get a new one; if it was new, {clocks}"
        case jwt.InvalidSignatureError():
            is_for_graph = "nonce" in jwt.get_unverified_header(token)
            what = FOR_GRAPH if is_for_graph else "does the identity provider use this key?"
            why = f"the token's signature does not match {_source(settings)}: {what}"
        case jwt.InvalidKeyError():
            why = f"{_source(settings)} is too short for the algorithm of the token: use a longer one"
        case _:  # PyJWT's texts never contain the token
            text = f": {_shown(str(error))}" if isinstance(error, jwt.PyJWTError) else ""
            name = type(error).__name__
            why = f"not a valid JSON Web Token ({name}{text}): does the client send an opaque token, or another text?"
    return why


def is_encrypted(token: str) -> bool:
    return token.count(".") == _DOTS_OF_JWE


def why_without_key(header: dict[str, Any], candidates: Sequence[Key], settings: Settings) -> str:
    """The reason if no key fits a token with that header; `candidates` are the keys that its `kid` allows."""
    algorithm, source = f"the token's alg {_shown(header.get('alg'))}", _source(settings)
    if not candidates:
        return (
            f"{source} has no key for {algorithm} and kid {_shown(header.get('kid'))}: is the token from that "
            "identity provider? jwks.fetched in the log names the keys that cannot be used"
        )
    accepted = ", ".join(dict.fromkeys(name for key in candidates for name in key.algorithms))
    also = " and WSBRIDGE_JWT_ALGORITHMS" if settings.jwt_algorithms else ""
    return (
        f"{algorithm} is not allowed: with {source}{also} it must be one of {accepted}. Let the identity provider "
        "sign with one of them, or change the settings"
    )


def why_no_user(problem: str, settings: Settings) -> str:
    claim = settings.jwt_user_claim
    return (
        f"the token's claim {claim} {problem}, but WSBRIDGE_JWT_USER_CLAIM ({claim}) takes the user id from it: let "
        "the identity provider change it, or change the setting"
    )


def _source(settings: Settings) -> str:
    """The setting that the keys come from."""
    if settings.jwt_jwks_url:
        return "the key set of WSBRIDGE_JWT_JWKS_URL"
    return "WSBRIDGE_JWT_PUBLIC_KEY" if settings.jwt_public_key else "WSBRIDGE_JWT_SECRET"


def _missing(claim: str, settings: Settings) -> str:
    if claim not in _SETTINGS:
        return f"the token has no claim {claim}: only tokens that expire are accepted; let the identity provider add it"
    required = f"the token has no claim {claim}, but {_setting(claim, settings)} requires it"
    return f"{required}: let the identity provider add it, or change the setting"


def _wrong(claim: str, token: str, settings: Settings) -> str:
    value = jwt.decode(token, options={"verify_signature": False}).get(claim)  # it was verified before
    differs = f"the token's claim {claim} is {_shown(value)}, but {_setting(claim, settings)} requires another"
    return f"{differs}: let the identity provider change it, or add it to the setting if it is meant for this bridge"


def _setting(claim: str, settings: Settings) -> str:
    name, field = _SETTINGS[claim]
    return f"{PREFIX}{name} ({', '.join(getattr(settings, field))})"


def _shown(value: object) -> str:
    values = value if isinstance(value, list) else [value]
    texts = [_escaped(v) if isinstance(v, str) else f"({type(v).__name__})" for v in values[:_VALUES]]
    return ", ".join(texts) + ", …" * (len(values) > _VALUES) or "[]"


def _escaped(text: str) -> str:
    return ascii(text[:_CHARACTERS]) + "…" * (len(text) > _CHARACTERS)
