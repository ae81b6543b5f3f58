"""Texts for the log about refused tokens: the setting and the remedy, and nothing else of the token."""

import base64
import hmac
import json
from collections.abc import Mapping
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from wsbridge.auth.jwks import Key
from wsbridge.auth.keys import build
from wsbridge.auth.token_refusals import why_without_key
from wsbridge.auth.tokens import TokenVerifier
from wsbridge.config.env import load
from wsbridge.config.settings import Settings
from wsbridge.core.close_codes import Refused
from wsbridge.telemetry.metrics import Metrics

SECRET, PREVIOUS, OTHER = "0123456789abcdef" * 4, "fedcba9876543210" * 4, "0011223344556677" * 4
SIGNER = rsa.generate_private_key(65_537, 2048)


def pem() -> str:
    public = rsa.generate_private_key(65_537, 2048).public_key()
    return str(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


PUBLIC = {"JWT_SECRET": "", "JWT_PUBLIC_KEY": pem()}


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def token(claims: Mapping[str, Any], key: Any = SECRET, algorithm: str = "HS256", **headers: Any) -> str:
    """A valid token except for these claims, also where PyJWT would refuse to make it; None leaves a claim out."""
    all_claims = {"sub": "u1", "exp": 2**40} | dict(claims)  # made when the module is read, long before its tests
    if algorithm == "RS256":
        return jwt.encode(all_claims, key, algorithm)
    present = {name: value for name, value in all_claims.items() if value is not None}
    signed = f"{part({'alg': algorithm} | headers)}.{part(present)}"
    signature = hmac.digest(key.encode(), signed.encode(), f"sha{algorithm[2:]}")
    return f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def why(values: dict[str, str], text: str) -> str:
    settings, _ = load(
        {f"WSBRIDGE_{name}": value for name, value in ({"JWT_SECRET": SECRET} | values).items() if value}
    )
    verifier = TokenVerifier(build(settings, Metrics()), settings)
    with pytest.raises(Refused) as caught:
        verifier.verify(text).send(None)  # its keys are in memory, so it never waits
    shown = str(caught.value)
    assert text not in shown
    assert text.rpartition(".")[2] not in shown
    assert shown.isprintable()
    assert len(shown) < 400
    return shown


PRIVATE = {"sub": "the-user", "email": "the-email"}


@pytest.mark.parametrize(
    ("values", "text", "parts"),
    [
        ({"JWT_AUDIENCE": "a,b"}, token(PRIVATE), ("no claim aud", "WSBRIDGE_JWT_AUDIENCE (a, b) requires it")),
        ({"JWT_ISSUER": "i"}, token(PRIVATE), ("no claim iss", "WSBRIDGE_JWT_ISSUER (i) requires it")),
        (
            {"JWT_AUDIENCE": "a"},
            token(PRIVATE | {"aud": ["x\n", "y"]}),
            ("claim aud is 'x\\n', 'y',", "WSBRIDGE_JWT_AUDIENCE (a) requires another"),
        ),
        ({"JWT_AUDIENCE": "a"}, token({"aud": "x" * 5_000}), ("claim aud is 'xxx", "…")),
        ({"JWT_AUDIENCE": "a"}, token({"aud": {"k": "v" * 999}}), ("claim aud is (dict)",)),
        ({"JWT_ISSUER": "i"}, token(PRIVATE | {"iss": "j"}), ("claim iss is 'j'", "WSBRIDGE_JWT_ISSUER (i)")),
        (
            {"JWT_AUDIENCE": "a", "JWT_SECRET_PREVIOUS": PREVIOUS},
            token(PRIVATE),
            ("no claim aud", "WSBRIDGE_JWT_AUDIENCE"),
        ),
        ({}, token(PRIVATE | {"exp": None}), ("no claim exp", "let the identity provider add it")),
        ({}, token(PRIVATE | {"exp": 1}), ("expired", "WSBRIDGE_JWT_LEEWAY (10 s)", "clocks")),
        ({}, token(PRIVATE | {"nbf": 2**40}), ("not valid yet", "WSBRIDGE_JWT_LEEWAY (10 s)", "clocks")),
        ({}, token(PRIVATE | {"exp": "soon"}), ("not a valid JSON Web Token", "exp")),
        ({}, token(PRIVATE, key=OTHER), ("signature does not match WSBRIDGE_JWT_SECRET", "this key")),
        (PUBLIC, token(PRIVATE, key=SIGNER, algorithm="RS256"), ("does not match WSBRIDGE_JWT_PUBLIC_KEY",)),
        (
            {"JWT_ALGORITHMS": "HS256"},
            token(PRIVATE, algorithm="HS512"),
            ("alg 'HS512' is not allowed", "WSBRIDGE_JWT_SECRET and WSBRIDGE_JWT_ALGORITHMS it must be one of HS256"),
        ),
        (PUBLIC, token(PRIVATE), ("alg 'HS256' is not allowed", "WSBRIDGE_JWT_PUBLIC_KEY it must be one of RS256, ")),
        ({}, token({"sub": None, "email": "the-email"}), ("claim sub is missing", "WSBRIDGE_JWT_USER_CLAIM (sub)")),
        ({}, token({"sub": ["the-user"]}), ("claim sub is neither a text nor", "WSBRIDGE_JWT_USER_CLAIM (sub)")),
        ({"JWT_SECRET": SECRET[:40]}, token(PRIVATE, key=SECRET[:40], algorithm="HS512"), ("SECRET is too short",)),
        ({}, "an-opaque-token", ("not a valid JSON Web Token", "Not enough segments", "an opaque token")),
        ({}, "e30..YQ.YQ.YQ", ("is encrypted (JWE)", "request a token for an audience")),
        ({}, token(PRIVATE, key=OTHER, nonce="n"), ("does not match WSBRIDGE_JWT_SECRET", "Microsoft Graph")),
        ({}, token(PRIVATE, crit=["x\n" * 999]), ("not a valid JSON Web Token", "x\\n")),
    ],
)  # fmt: skip
def test_refusal_of_a_token_names_the_setting_and_the_remedy(
    values: dict[str, str], text: str, parts: tuple[str, ...]
) -> None:
    shown = why(values, text)
    for expected in parts:
        assert expected in shown
    assert "the-" not in shown  # neither the user nor any other claim


def test_refusal_with_an_unknown_kid_names_the_key_set_and_the_kid() -> None:
    settings = Settings(jwt_jwks_url="https://login.example.com/keys")
    shown = why_without_key({"alg": "RS256", "kid": "k" * 99}, [], settings)
    assert "the key set of WSBRIDGE_JWT_JWKS_URL has no key for the token's alg 'RS256' and kid 'kkk" in shown
    assert "k" * 81 not in shown
    assert "must be one of ES256" in why_without_key({}, [Key(None, ("ES256",), "k")], settings)
