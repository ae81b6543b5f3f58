"""Tokens: only valid ones are accepted, for any input of an untrusted peer."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from types import SimpleNamespace
from typing import Any, Self

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.examples import tries
from wsbridge.auth.jwks import Key
from wsbridge.auth.keys import FixedKeys, Unavailable, build
from wsbridge.auth.tokens import FOREVER, Identity, TokenVerifier, mint
from wsbridge.config.env import load
from wsbridge.config.settings import Settings, SettingsError
from wsbridge.core.close_codes import TOKEN_EXPIRED, TOKEN_INVALID, USER_ID_REQUIRED, Close, Refused
from wsbridge.telemetry.metrics import Metrics

SECRET, PREVIOUS, OTHER = "0123456789abcdef" * 4, "fedcba9876543210" * 4, "0011223344556677" * 4
SIGNERS: dict[str, Any] = {
    **dict.fromkeys(("RS256", "RS384", "RS512"), rsa.generate_private_key(65_537, 2048)),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}


def pem(algorithm: str) -> str:
    public = SIGNERS[algorithm].public_key()
    return str(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def verifier(**values: str) -> TokenVerifier:
    """A verifier, made from settings as in the bridge."""
    loaded, _ = load({f"WSBRIDGE_{name}": text for name, text in ({"JWT_SECRET": SECRET} | values).items() if text})
    return TokenVerifier(build(loaded, Metrics()), loaded)


def token(claims: Mapping[str, Any] | None = None, key: Any = SECRET, algorithm: str = "HS256", **headers: Any) -> str:
    """A valid token except for these claims; None leaves a claim out."""
    all_claims = {"sub": "u1", "exp": int(time.time()) + 60} | dict(claims or {})
    return jwt.encode({k: v for k, v in all_claims.items() if v is not None}, key, algorithm, headers=headers)


def part(value: object) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def crafted(header: object, claims: object, secret: bytes = SECRET.encode(), digest: Any = hashlib.sha256) -> str:
    """A token that PyJWT would not make: any header and claims, signed with HMAC."""
    signed = f"{part(header)}.{part(claims)}"
    return f"{signed}.{part(hmac.digest(secret, signed.encode(), digest))}"


def crafted_for(user: object, **claims: object) -> str:
    return crafted({"alg": "HS256"}, {"sub": user, "exp": int(time.time()) + 60} | claims)


def run(verifier: TokenVerifier, text: str) -> Identity:
    """Run a coroutine that never waits, because its keys are in memory. No loop is needed."""
    try:
        verifier.verify(text).send(None)
    except StopIteration as end:
        identity: Identity = end.value
        return identity
    raise AssertionError("it waited")


def refusal(verifier: TokenVerifier, text: str) -> Close:
    with pytest.raises(Refused) as caught:
        run(verifier, text)
    assert len(text) < 9 or text not in str(caught.value)
    return caught.value.close


# Good tokens.


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_verifier_with_a_secret_accepts_its_tokens(algorithm: str) -> None:
    assert run(verifier(), token(algorithm=algorithm)).user == "u1"


@pytest.mark.parametrize("algorithm", SIGNERS)
def test_verifier_with_a_public_key_accepts_tokens_of_the_private_key(algorithm: str) -> None:
    source = verifier(JWT_SECRET="", JWT_PUBLIC_KEY=pem(algorithm))
    assert run(source, token(key=SIGNERS[algorithm], algorithm=algorithm)).user == "u1"


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "ES384", "EdDSA"])
def test_verifier_with_several_public_keys_accepts_tokens_of_each(algorithm: str) -> None:
    source = verifier(JWT_SECRET="", JWT_PUBLIC_KEY="".join(pem(name) for name in ("ES384", "RS256", "EdDSA", "ES256")))
    assert run(source, token(key=SIGNERS[algorithm], algorithm=algorithm, kid="whatever")).user == "u1"


def test_verifier_with_two_keys_of_one_type_tries_both() -> None:
    other = rsa.generate_private_key(65_537, 2048)
    both = str(other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()) + pem("RS256")
    source = verifier(JWT_SECRET="", JWT_PUBLIC_KEY=both)
    assert run(source, token(key=SIGNERS["RS256"], algorithm="RS256")).user == "u1"
    assert run(source, token(key=other, algorithm="RS256")).user == "u1"


@pytest.mark.parametrize(("secret", "good"), [(SECRET, True), (PREVIOUS, True), (OTHER, False)])
def test_verifier_during_a_rotation_accepts_both_secrets(secret: str, good: bool) -> None:
    source = verifier(JWT_SECRET_PREVIOUS=PREVIOUS)
    if good:
        assert run(source, token(key=secret)).user == "u1"
    else:
        assert refusal(source, token(key=secret)) == TOKEN_INVALID


@pytest.mark.parametrize(("user", "expected"), [("u1", "u1"), (42, "42"), (0, "0"), ("é" * 128, "é" * 128)], ids=repr)
def test_verifier_by_default_takes_the_subject_as_user(user: object, expected: str) -> None:
    assert run(verifier(), crafted_for(user)).user == expected


def test_verifier_with_another_user_claim_reads_it() -> None:
    source = verifier(JWT_USER_CLAIM="uid")
    assert run(source, token({"sub": "s", "uid": 7})).user == "7"
    assert refusal(source, token()) == TOKEN_INVALID


@pytest.mark.fault("G5")
def test_verifier_with_a_path_as_user_claim_finds_the_nested_user() -> None:
    source = verifier(JWT_USER_CLAIM="account.owner.id")
    assert run(source, crafted_for("s", account={"owner": {"id": "u7"}})).user == "u7"
    assert run(source, crafted_for("s", **{"account.owner.id": "u8", "account": {"owner": {"id": "u7"}}})).user == "u8"
    wrongs: tuple[Any, ...] = ({"owner": {}}, {"owner": "u7"}, {"owner": {"id": ""}}, [], None, {"owner": {"id": [1]}})
    for wrong in wrongs:
        assert refusal(source, crafted_for("s", account=wrong)) == TOKEN_INVALID


@pytest.mark.fault("G5")
def test_verifier_with_a_url_as_user_claim_takes_it_as_a_name() -> None:
    source = verifier(JWT_USER_CLAIM="https://example.com/user_id")
    assert run(source, crafted_for("s", **{"https://example.com/user_id": "u7"})).user == "u7"


@pytest.mark.fault("G5")
@pytest.mark.parametrize(("name", "claim"), [("JWT_AUDIENCE", "aud"), ("JWT_ISSUER", "iss")])
def test_verifier_with_several_audiences_or_issuers_takes_each_and_no_other(name: str, claim: str) -> None:
    source = verifier(**{name: "https://sts.example/v1/, https://login.example/v2.0"})
    for good in ("https://sts.example/v1/", "https://login.example/v2.0"):
        assert run(source, crafted_for("u1", **{claim: good})).user == "u1"
    for bad in ("https://sts.example/v1", "https://sts.example/v1/, https://login.example/v2.0", ""):
        assert refusal(source, crafted_for("u1", **{claim: bad})) == TOKEN_INVALID


@pytest.mark.fault("G3")
@pytest.mark.parametrize("algorithm", ["PS256", "PS384", "PS512"])
def test_verifier_with_an_rsa_key_takes_pss_signatures(algorithm: str) -> None:
    text = token(key=SIGNERS["RS256"], algorithm=algorithm)
    assert run(verifier(**PUBLIC), text).user == "u1"
    assert refusal(verifier(**PUBLIC, JWT_ALGORITHMS="RS256"), text) == TOKEN_INVALID


@pytest.mark.fault("G3")
@pytest.mark.parametrize("algorithm", ["EdDSA", "Ed25519"])
def test_verifier_with_an_ed25519_key_takes_both_names_of_its_algorithm(algorithm: str) -> None:
    source = verifier(JWT_SECRET="", JWT_PUBLIC_KEY=pem("EdDSA"))
    assert run(source, token(key=SIGNERS["EdDSA"], algorithm=algorithm)).user == "u1"


def test_identity_expires_with_its_token() -> None:
    expires = int(time.time()) + 1234
    assert run(verifier(), token({"exp": expires})) == Identity("u1", float(expires))


@pytest.mark.parametrize("expires", [10**12, 10**30, 1e300], ids=repr)
def test_identity_of_a_token_without_end_expires_in_ten_years(expires: float) -> None:
    latest = time.time() + FOREVER
    assert latest - 60 < run(verifier(), crafted_for("u1", exp=expires)).expires < latest + 60


# Claims.


@pytest.mark.parametrize(
    ("claims", "close"),
    [
        pytest.param({"exp": None}, TOKEN_INVALID, id="no exp"),
        pytest.param({"exp": "soon"}, TOKEN_INVALID, id="exp is no number"),
        pytest.param({"exp": []}, TOKEN_INVALID, id="exp is a list"),
        pytest.param({"exp": float("inf")}, TOKEN_INVALID, id="exp is infinite"),
        pytest.param({"exp": float("nan")}, TOKEN_INVALID, id="exp is no number at all"),
        pytest.param({"exp": 10**400}, TOKEN_INVALID, id="exp is no float"),
        pytest.param({"exp": 1}, TOKEN_EXPIRED, id="expired in 1970"),
        pytest.param({"exp": True}, TOKEN_EXPIRED, id="exp is true"),
        pytest.param({"exp": -(10**400)}, TOKEN_EXPIRED, id="expired before time"),
        pytest.param({"nbf": 2**40}, TOKEN_INVALID, id="not yet"),
        pytest.param({"iat": 2**40}, TOKEN_INVALID, id="issued in the future"),
        pytest.param({"sub": None}, TOKEN_INVALID, id="no user"),
        pytest.param({"sub": ""}, TOKEN_INVALID, id="empty user"),
        pytest.param({"sub": True}, TOKEN_INVALID, id="user is true"),
        pytest.param({"sub": 1.5}, TOKEN_INVALID, id="user is a fraction"),
        pytest.param({"sub": ["u1"]}, TOKEN_INVALID, id="user is a list"),
        pytest.param({"sub": {"id": "u1"}}, TOKEN_INVALID, id="user is an object"),
        pytest.param({"sub": "x" * 257}, USER_ID_REQUIRED, id="user of 257 bytes"),
        pytest.param({"sub": "é" * 129}, USER_ID_REQUIRED, id="user of 258 bytes"),
        pytest.param({"sub": 10**300}, USER_ID_REQUIRED, id="user of 301 digits"),
    ],
)
def test_verifier_with_a_wrong_claim_refuses(claims: dict[str, Any], close: Close) -> None:
    all_claims = {"sub": "u1", "exp": int(time.time()) + 60} | claims
    text = crafted({"alg": "HS256"}, {name: value for name, value in all_claims.items() if value is not None})
    assert refusal(verifier(), text) == close


@pytest.mark.parametrize(("leeway", "late", "good"), [("10", 5, True), ("10", 15, False), ("0", 1, False)])
def test_verifier_with_leeway_accepts_a_token_within_it(leeway: str, late: int, good: bool) -> None:
    expires = int(time.time()) - late
    source, text = verifier(JWT_LEEWAY=leeway), token({"exp": expires})
    if good:
        assert run(source, text).expires == expires  # the session adds the leeway
    else:
        assert refusal(source, text) == TOKEN_EXPIRED


@pytest.mark.parametrize(
    ("setting", "value", "good"),
    [
        (None, "anything", True),
        (None, None, True),
        ("bridge", "bridge", True),
        ("bridge", ["other", "bridge"], True),
        ("bridge", "other", False),
        ("bridge", [], False),
        ("bridge", None, False),
        ("bridge", 5, False),
    ],
)
@pytest.mark.parametrize(("name", "claim"), [("JWT_AUDIENCE", "aud"), ("JWT_ISSUER", "iss")])
def test_verifier_checks_audience_and_issuer_only_if_configured(
    name: str, claim: str, setting: str | None, value: object, good: bool
) -> None:
    if claim == "iss" and isinstance(value, list):
        good = False  # RFC 7519 §4.1.1: an issuer is one
    source, text = verifier(**{name: setting or ""}), crafted_for("u1", **({} if value is None else {claim: value}))
    if good:
        assert run(source, text).user == "u1"
    else:
        assert refusal(source, text) == TOKEN_INVALID


def test_verifier_with_a_short_secret_refuses_algorithms_that_need_a_longer_one() -> None:
    source = verifier(JWT_SECRET=SECRET[:40])
    signed = crafted({"alg": "HS512"}, {"sub": "u1", "exp": 4_102_444_800}, SECRET[:40].encode(), hashlib.sha512)
    assert refusal(source, signed) == TOKEN_INVALID
    long_enough = crafted({"alg": "HS512"}, {"sub": "u1", "exp": 4_102_444_800}, digest=hashlib.sha512)
    assert run(verifier(), long_enough).user == "u1"


# Forgeries.

PUBLIC = {"JWT_SECRET": "", "JWT_PUBLIC_KEY": pem("RS256")}
GOOD = {"sub": "u1", "exp": 4_102_444_800}
HEAD, BODY, SIGNATURE = crafted({"alg": "HS256"}, GOOD).split(".")
FORGERIES: dict[str, tuple[dict[str, str], str]] = {
    "another secret": ({}, token(key=OTHER)),
    "alg none": ({}, f"{part({'alg': 'none'})}.{part(GOOD)}."),
    "alg none, any case": ({}, f"{part({'alg': 'nOnE'})}.{part(GOOD)}."),
    "alg none against a public key": (PUBLIC, f"{part({'alg': 'none'})}.{part(GOOD)}."),
    "HMAC with the public key": (PUBLIC, crafted({"alg": "HS256"}, GOOD, pem("RS256").encode())),
    "HMAC with the public key, stripped": (PUBLIC, crafted({"alg": "HS256"}, GOOD, pem("RS256").strip().encode())),
    "a public key's algorithm": ({}, token(key=SIGNERS["RS256"], algorithm="RS256")),
    "another algorithm of HMAC than allowed": ({"JWT_ALGORITHMS": "HS256"}, token(algorithm="HS512")),
    "another family of public keys": (PUBLIC, token(key=SIGNERS["ES256"], algorithm="ES256")),
    "unknown crit": ({}, crafted({"alg": "HS256", "crit": ["x"], "x": 1}, GOOD)),
    "crit of a known name": ({}, crafted({"alg": "HS256", "crit": ["exp"], "exp": 1}, GOOD)),
    "empty crit": ({}, crafted({"alg": "HS256", "crit": []}, GOOD)),
    "no alg": ({}, crafted({"typ": "JWT"}, GOOD)),
    "alg is a list": ({}, crafted({"alg": ["HS256"]}, GOOD)),
    "kid is a number": ({}, crafted({"alg": "HS256", "kid": 7}, GOOD)),
    "its own key in the header": (PUBLIC, crafted({"alg": "HS256", "jwk": {"kty": "oct", "k": "QQ"}}, GOOD, b"A")),
    "no signature": ({}, f"{HEAD}.{BODY}."),
    "two parts": ({}, f"{HEAD}.{BODY}"),
    "four parts": ({}, f"{HEAD}.{BODY}.{SIGNATURE}.{SIGNATURE}"),
    "another body": ({}, f"{HEAD}.{part(GOOD | {'sub': 'root'})}.{SIGNATURE}"),
    "a cut signature": ({}, f"{HEAD}.{BODY}.{SIGNATURE[:-4]}"),
    "claims are a list": ({}, crafted({"alg": "HS256"}, [GOOD])),
    "claims are null": ({}, crafted({"alg": "HS256"}, None)),
    "claims are no JSON": ({}, crafted({"alg": "HS256"}, b"{")),
    "claims are no UTF-8": ({}, crafted({"alg": "HS256"}, b'{"sub":"\xff"}')),
    "claims are 100,000 deep": ({}, crafted({"alg": "HS256"}, b"[" * 100_000)),
    "header is 100,000 deep": ({}, crafted(b"[" * 100_000, GOOD)),
    "header is a list": ({}, crafted([1], GOOD)),
    "compressed": ({}, crafted({"alg": "HS256", "zip": "DEF"}, b"\x78\x9c\xab\xae\x05\x00\x01\x75\x00\xf9")),
    "detached": ({}, crafted({"alg": "HS256", "b64": False, "crit": ["b64"]}, GOOD)),
}


def test_verifier_accepts_the_token_that_the_forgeries_are_made_of() -> None:
    assert run(verifier(), f"{HEAD}.{BODY}.{SIGNATURE}").user == "u1"


@pytest.mark.parametrize(("values", "text"), FORGERIES.values(), ids=FORGERIES)
def test_verifier_refuses_forgeries(values: dict[str, str], text: str) -> None:
    assert refusal(verifier(**values), text) == TOKEN_INVALID


@pytest.mark.parametrize(
    "text",
    ["", ".", "..", "...", "x", "\xff", "é.é.é", "\udcff", "\udcff.\udcff.\udcff", "a.b.c", "null", "=.=.=", " ", "\n",
     "e30.e30.e30", "[].[].[]", "." * 10_000, "x" * 100_000],
    ids=lambda text: ascii(text[:12]),
)  # fmt: skip
def test_verifier_refuses_text_that_is_not_a_token(text: str) -> None:
    assert refusal(verifier(), text) == TOKEN_INVALID


STRICT = verifier()
BYTES = st.binary(max_size=60).map(lambda data: data.decode("utf-8", "surrogateescape"))  # as headers are decoded


@given(st.text(st.characters()) | BYTES | st.lists(BYTES | st.text(), min_size=3, max_size=3).map(".".join))
@tries(300)
def test_verifier_for_any_text_raises_refused_only(text: str) -> None:
    assert refusal(STRICT, text) == TOKEN_INVALID


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
HEADERS = st.fixed_dictionaries(
    {"alg": st.just("HS256") | VALUES},
    optional=dict.fromkeys(("kid", "typ", "crit", "b64", "zip", "jwk", "x5c"), VALUES),
)
CLAIMS = st.fixed_dictionaries({}, optional=dict.fromkeys(("sub", "exp", "nbf", "iat", "aud", "iss", "jti"), VALUES))


VERIFIERS = (STRICT, verifier(JWT_AUDIENCE="a", JWT_ISSUER="i"))


@given(HEADERS, CLAIMS)
@example({"alg": "HS256"}, {"sub": "\ud800", "exp": 1e10})
@tries(250)
def test_verifier_for_any_signed_claims_returns_a_user_or_refuses(
    header: dict[str, Any], claims: dict[str, Any]
) -> None:
    for source in VERIFIERS:
        try:
            identity = run(source, crafted(header, claims))
        except Refused as refused:
            code = refused.close.code
        else:
            code = 0
            identity.user.encode()
        assert code in (0, 4401, 4500)


# Keys with an id, and missing keys.


class Known(FixedKeys):
    """Keys by id."""

    def __init__(self, **keys: Key) -> None:
        super().__init__(list(keys.values()))
        self._by_id = keys

    async def candidates(self, kid: str | None) -> Sequence[Key]:
        if not self._by_id:
            raise Unavailable
        return [self._by_id[kid]] if kid in self._by_id else []


def known(**keys: Key) -> TokenVerifier:
    return TokenVerifier(Known(**keys), Settings(jwt_leeway=0))


def test_verifier_selects_the_key_by_kid() -> None:
    source = known(a=Key(SECRET, ("HS256",)), b=Key(OTHER, ("HS256",)))
    assert run(source, token(kid="a")).user == "u1"
    assert refusal(source, token(kid="b")) == TOKEN_INVALID
    assert refusal(source, token(kid="c")) == TOKEN_INVALID


# Tokens that are remembered.


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens whose signatures were checked."""
    found, decode = list[str](), jwt.decode

    def checked(text: str, *args: Any, **options: Any) -> Any:
        found.append(text)
        return decode(text, *args, **options)

    monkeypatch.setattr(jwt, "decode", checked)
    return found


def test_verify_a_valid_token_again_needs_no_check(checks: list[str]) -> None:
    source, first, second = verifier(), token(), token({"sub": "u2"})
    identities = [run(source, text) for text in (first, second, first, second)]
    assert [identity.user for identity in identities] == ["u1", "u2"] * 2
    assert identities[:2] == identities[2:]
    assert type(identities[2]) is Identity
    assert checks == [first, second]


def test_verify_a_refused_token_again_checks_it_again(checks: list[str]) -> None:
    source, text = verifier(), token(key=OTHER)
    assert [refusal(source, text) for _ in range(2)] == [TOKEN_INVALID] * 2
    assert checks == [text, text]


class Later(datetime):
    """A wall clock that is a minute fast, for PyJWT."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Self:
        return super().now(tz) + timedelta(minutes=1)


def test_verify_after_the_expiry_refuses_a_remembered_token(monkeypatch: pytest.MonkeyPatch) -> None:
    source, text = verifier(JWT_LEEWAY="0"), token({"exp": int(time.time()) + 60})
    assert run(source, text).user == "u1"
    later = time.time() + 60
    monkeypatch.setattr("wsbridge.auth.token_cache.time", SimpleNamespace(time=lambda: later))
    monkeypatch.setattr("jwt.api_jwt.datetime", Later)
    assert refusal(source, text) == TOKEN_EXPIRED


def test_verify_within_the_leeway_checks_the_token_each_time(checks: list[str]) -> None:
    source, text = verifier(JWT_LEEWAY="60"), token({"exp": int(time.time()) - 1})
    assert [run(source, text).user for _ in range(2)] == ["u1", "u1"]
    assert checks == [text, text]


def test_verify_after_a_key_was_withdrawn_refuses_a_remembered_token(checks: list[str]) -> None:
    old, new = Key(SECRET, ("HS256",)), Key(OTHER, ("HS256",))
    keys, text = FixedKeys([old]), token()
    source = TokenVerifier(keys, Settings())
    assert run(source, text).user == "u1"
    keys.current = [old, new]
    assert run(source, text).user == "u1"
    keys.current = [new]
    assert refusal(source, text) == TOKEN_INVALID
    assert len(checks) == 3


def test_verifier_refusal_names_algorithm_and_kid_but_not_the_token() -> None:
    text = token(kid="c\n")
    with pytest.raises(Refused, match=r"has no key for the token's alg 'HS256' and kid 'c\\n': "):
        run(known(a=Key(SECRET, ("HS256",))), text)


def test_verifier_uses_a_key_with_its_own_algorithms_only() -> None:
    assert refusal(known(a=Key(SECRET, ("HS512",))), token(kid="a")) == TOKEN_INVALID


def test_verifier_without_keys_raises_unavailable() -> None:
    with pytest.raises(Unavailable):
        run(known(), token())


# Test tokens.


def minted(algorithm: str = "HS256", values: Mapping[str, str] = {}, **how: Any) -> str:
    loaded, _ = load(
        {f"WSBRIDGE_{name}": text for name, text in ({"JWT_SECRET": SECRET} | dict(values)).items() if text}
    )
    return mint(loaded, "u1", algorithm=algorithm, **{"ttl": 60, **how})


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
@pytest.mark.parametrize(
    "values",
    [
        {},
        {"JWT_AUDIENCE": "bridge", "JWT_ISSUER": "tests"},
        {"JWT_USER_CLAIM": "uid"},
        {"JWT_SECRET_PREVIOUS": PREVIOUS},
    ],
    ids="+".join,
)
def test_mint_makes_a_token_that_the_verifier_accepts(algorithm: str, values: dict[str, str]) -> None:
    assert run(verifier(**values), minted(algorithm, values)).user == "u1"


def test_mint_with_ttl_sets_the_expiry() -> None:
    claims = jwt.decode(minted(ttl=90, now=1_000), options={"verify_signature": False})
    assert claims == {"sub": "u1", "iat": 1_000, "exp": 1_090}
    assert refusal(verifier(), minted(ttl=-60)) == TOKEN_EXPIRED


@pytest.mark.parametrize(
    ("values", "algorithm", "named"),
    [
        ({"JWT_SECRET": ""}, "HS256", "WSBRIDGE_JWT_SECRET"),
        (PUBLIC, "RS256", "WSBRIDGE_JWT_SECRET"),
        ({}, "RS256", "--algorithm"),
        ({"JWT_ALGORITHMS": "HS512"}, "HS256", "--algorithm"),
        ({"JWT_SECRET": SECRET[:40]}, "HS512", "WSBRIDGE_JWT_SECRET: expected 64 bytes or more for HS512"),
    ],
)
def test_mint_with_unusable_settings_raises(values: dict[str, str], algorithm: str, named: str) -> None:
    with pytest.raises(SettingsError) as caught:
        minted(algorithm, values)
    assert str(caught.value).startswith(named)
    assert SECRET[:40] not in str(caught.value)
