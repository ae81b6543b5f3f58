"""Keys for signing and verifying in tests."""

from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

SECRET, PREVIOUS = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"
RSA_KEY = rsa.generate_private_key(65_537, 2048)
EC_KEYS = {f"ES{bits}": ec.generate_private_key(curve()) for bits, curve in
           ((256, ec.SECP256R1), (384, ec.SECP384R1), (512, ec.SECP521R1))}  # fmt: skip
ED_KEY = ed25519.Ed25519PrivateKey.generate()
RS, ES, ED = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), ("ES256",), ("EdDSA", "Ed25519")


def pem(key: Any) -> str:
    return str(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def jwk(key: Any, kid: str | None = None, **members: object) -> dict[str, Any]:
    """A public key as a member of a JWKS."""
    public = key.public_key()
    kinds = {rsa.RSAPublicKey: RSAAlgorithm, ec.EllipticCurvePublicKey: ECAlgorithm}
    (kind,) = [found for wanted, found in kinds.items() if isinstance(public, wanted)] or [OKPAlgorithm]
    found: dict[str, Any] = kind.to_jwk(public, as_dict=True)  # type: ignore[attr-defined]  # all three have it
    return found | ({} if kid is None else {"kid": kid}) | members
