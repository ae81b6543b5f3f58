"""Parses a JSON Web Key Set (RFC 7517) into keys, each with the algorithms that it may be used with."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

HMAC = ("HS256", "HS384", "HS512")
RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
ED25519 = ("EdDSA", "Ed25519")  # RFC 8037, and its fully specified name of RFC 9864
CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
MIN_RSA_BITS = 2048
_OTHER_USE = "its use is {!r}, not 'sig'"
FOR_ENCRYPTION = _OTHER_USE.format("enc")


class Key(NamedTuple):
    """A key and the algorithms that it may be used with."""

    material: Any
    algorithms: tuple[str, ...]
    id: str | None = None


def algorithms_of(public: Any) -> tuple[str, ...]:
    """The algorithms of a public key; empty if its type, curve or size is not supported."""
    match public:
        case RSAPublicKey():
            return RSA if public.key_size >= MIN_RSA_BITS else ()
        case EllipticCurvePublicKey():
            return (CURVES[public.curve.name],) if public.curve.name in CURVES else ()
        case Ed25519PublicKey():
            return ED25519
        case _:
            return ()


def keys_of_set(document: Any, allowed: tuple[str, ...]) -> tuple[tuple[Key, ...], tuple[str, ...]]:
    """The usable public keys of a parsed JWKS, and for each of the others its name and why it was skipped.

    Raises `ValueError` if the document is not a key set.
    """
    entries = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(entries, list):
        raise ValueError("expected a JSON object with a list named keys")  # noqa: TRY004 - the input is external data
    found, passed_over = [], []
    for number, entry in enumerate(entries):
        try:
            found.append(_usable(entry, allowed))
        except ValueError as why:
            name = entry.get("kid", number) if isinstance(entry, Mapping) else number
            passed_over.append(f"{name}: {why}")
    return tuple(found), tuple(passed_over)


def _usable(entry: Any, allowed: tuple[str, ...]) -> Key:
    """One entry of a key set. Raises `ValueError` if the key is not usable; the text gives the reason."""
    if not isinstance(entry, Mapping):
        raise ValueError("it is not an object")  # noqa: TRY004 - the input is external data
    named, use, kid = entry.get("alg"), entry.get("use", "sig"), entry.get("kid")
    if use != "sig":
        raise ValueError(_OTHER_USE.format(use))
    try:  # without `alg`: PyJWT does not support all of its names
        public = jwt.PyJWK.from_dict({name: value for name, value in entry.items() if name != "alg"}).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, NotImplementedError) as error:
        raise ValueError(f"it cannot be read: {error}") from None
    possible = algorithms_of(public)
    if not possible:
        raise ValueError("its type, curve or size is not supported")
    if named is not None and named not in possible:
        raise ValueError(f"its alg is {named!r}, not one of {', '.join(possible)}")
    if named and named not in ED25519:  # else all names: the key set may use one of them and the tokens another
        possible = (named,)
    chosen = tuple(name for name in possible if not allowed or name in allowed)
    if not chosen:
        raise ValueError(f"WSBRIDGE_JWT_ALGORITHMS does not allow {named or ', '.join(possible)}")
    return Key(public, chosen, kid if isinstance(kid, str) else None)
