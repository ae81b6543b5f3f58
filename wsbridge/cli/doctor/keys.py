"""Checks of the key set (JWKS): whether it has usable keys, and its server's clock."""

import aiohttp
import msgspec

from wsbridge.auth.jwks import FOR_ENCRYPTION, keys_of_set
from wsbridge.auth.keys import FETCH_ERRORS, described, fetch
from wsbridge.cli.doctor.clock import compared, time_of
from wsbridge.cli.doctor.deployment import Deployment
from wsbridge.cli.doctor.findings import Finding, NotChecked, failure, ok, warning

EMPTY = "check WSBRIDGE_JWT_JWKS_URL, and let the issuer publish the public keys that it signs with"
NONE = "let the issuer add a key for signing (RSA of 2048 bits or more, P-256, P-384, P-521 or Ed25519)"
OTHERS = "let the issuer replace this key if it signs tokens with it; otherwise nothing is to be done"


def _url(d: Deployment) -> str:
    if not d.settings.jwt_jwks_url:
        raise NotChecked("WSBRIDGE_JWT_JWKS_URL is not set")
    return d.settings.jwt_jwks_url


async def jwks(d: Deployment) -> Finding:
    """Whether the key set can be fetched and has a key that the bridge can use."""
    try:
        keys, skipped = keys_of_set(msgspec.json.decode((await fetch(_url(d))).body), d.settings.jwt_algorithms)
    except FETCH_ERRORS as error:
        cure = "check WSBRIDGE_JWT_JWKS_URL, and the network from here to it"
        return failure(f"the key set cannot be fetched: {described(error)}", cure)
    why = "; ".join(skipped)
    or_setting = ", or correct WSBRIDGE_JWT_ALGORITHMS" if d.settings.jwt_algorithms else ""
    if not keys and not skipped:
        return failure("the key set has no usable key (it is empty)", EMPTY)
    if not keys:
        return failure(f"the key set has no usable key ({why})", NONE + or_setting)
    if any(not reason.endswith(FOR_ENCRYPTION) for reason in skipped):
        return warning(f"usable keys: {len(keys)}, not usable: {why}", OTHERS + or_setting)
    return ok(f"usable keys: {len(keys)}" + f", not for signatures: {len(skipped)}" * bool(skipped))


async def jwks_clock(d: Deployment) -> Finding:
    """The clock of the issuer: with a wrong one its tokens begin or end at the wrong time."""
    try:
        headers = (await fetch(_url(d))).headers
    except (aiohttp.ClientError, TimeoutError):
        raise NotChecked("the key set cannot be fetched") from None
    return compared("the clock of the key set's server", time_of(headers), d.settings.jwt_leeway)
