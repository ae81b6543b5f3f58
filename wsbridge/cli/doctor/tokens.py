"""Compares a token with the settings, without verifying its signature."""

import time
from collections.abc import Iterator

import jwt

from wsbridge.auth.jwks import HMAC
from wsbridge.auth.token_refusals import ENCRYPTED, FOR_GRAPH, is_encrypted
from wsbridge.auth.tokens import found_claim
from wsbridge.config.settings import Settings
from wsbridge.telemetry.stations.fates import span


def mismatches(token: str, s: Settings) -> Iterator[str]:
    """What of the token the settings do not accept."""
    if is_encrypted(token):
        yield ENCRYPTED
        return
    try:
        header = jwt.get_unverified_header(token)
        claims = jwt.decode(token, options={"verify_signature": False})
    except jwt.PyJWTError as error:
        yield f"it is not a JWT ({error})"
        return
    if "nonce" in header:
        yield FOR_GRAPH
    for claim, accepted in (("aud", s.jwt_audience), ("iss", s.jwt_issuer)):
        found = claims.get(claim)
        values = found if isinstance(found, list) else [found]
        if accepted and not any(value in accepted for value in values):
            setting = f"WSBRIDGE_JWT_{'AUDIENCE' if claim == 'aud' else 'ISSUER'}"
            has = f"its {claim} is {', '.join(map(str, values))}" if claim in claims else f"it has no {claim}"
            yield f"{has}, but {setting} is {', '.join(accepted)}"
    if found_claim(claims, s.jwt_user_claim) is None:
        yield f"it has no {s.jwt_user_claim}, but WSBRIDGE_JWT_USER_CLAIM takes the user from it"
    algorithm = str(header.get("alg"))
    possible = s.jwt_algorithms or (() if s.jwt_jwks_url or s.jwt_public_key else HMAC)
    if possible and algorithm not in possible:
        yield f"its alg is {algorithm}, but the settings accept {', '.join(possible)}"
    expires = claims.get("exp")
    if not isinstance(expires, int | float):
        yield "it has no exp, which is required"
    elif (late := time.time() - expires) > s.jwt_leeway:
        yield f"its exp was {span(late)} ago"
