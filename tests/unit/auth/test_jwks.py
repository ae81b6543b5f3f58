"""Parsing a JSON Web Key Set: the usable keys with their algorithms, and the reasons to skip others."""

import base64
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import tries
from tests.support.key_material import EC_KEYS, ED, ED_KEY, RS, RSA_KEY, SECRET, jwk
from wsbridge.auth.jwks import keys_of_set


@pytest.mark.parametrize("document", [None, [], "keys", {}, {"keys": None}, {"keys": {}}], ids=repr)
def test_keys_of_set_for_another_document_raises(document: object) -> None:
    with pytest.raises(ValueError, match="list named keys"):
        keys_of_set(document, ())


def test_keys_of_set_keeps_ids_and_algorithms() -> None:
    document = {
        "keys": [jwk(RSA_KEY, "r", use="sig"), jwk(EC_KEYS["ES384"], "e", alg="ES384"), jwk(ED_KEY),
                 jwk(RSA_KEY, "r5", alg="RS512")]
    }  # fmt: skip
    found = [(key.id, key.algorithms) for key in keys_of_set(document, ())[0]]
    assert found == [("r", RS), ("e", ("ES384",)), (None, ED), ("r5", ("RS512",))]
    narrowed = [(key.id, key.algorithms) for key in keys_of_set(document, ("RS256", "EdDSA"))[0]]
    assert narrowed == [("r", ("RS256",)), (None, ("EdDSA",))]


USELESS: dict[str, Any] = {
    "for encryption": jwk(RSA_KEY, "x", use="enc"),
    "symmetric": {"kty": "oct", "k": base64.urlsafe_b64encode(SECRET.encode()).decode(), "alg": "HS256"},
    "another algorithm's": jwk(RSA_KEY, "x", alg="RSA-OAEP"),
    "alg none": jwk(RSA_KEY, "x", alg="none"),
    "alg of HMAC": jwk(RSA_KEY, "x", alg="HS256"),
    "alg of another family": jwk(RSA_KEY, "x", alg="ES256"),
    "a short RSA key": jwk(rsa.generate_private_key(65_537, 1024), "x"),
    "an unknown curve": jwk(ec.generate_private_key(ec.SECP256K1()), "x"),
    "an unknown kind": {"kty": "XYZ"},
    "no kind": {"kid": "x"},
    "broken": jwk(RSA_KEY, "x") | {"n": "!"},
    "mistyped": jwk(RSA_KEY, "x") | {"n": 5},
    "not an object": "key",
    "null": None,
}


@pytest.mark.parametrize("entry", USELESS.values(), ids=USELESS)
def test_keys_of_set_with_an_unusable_key_skips_it(entry: object) -> None:
    keys, passed_over = keys_of_set({"keys": [entry, jwk(ED_KEY, "good")]}, ())
    assert [key.id for key in keys] == ["good"]
    assert len(passed_over) == 1
    assert passed_over[0].partition(": ")[0] in ("x", "0")


@pytest.mark.fault("G3")
@pytest.mark.parametrize(
    ("entry", "allowed", "why"),
    [
        (USELESS["for encryption"], (), "x: its use is 'enc', not 'sig'"),
        (
            USELESS["alg of another family"],
            (),
            "x: its alg is 'ES256', not one of " + ", ".join(RS),
        ),
        (USELESS["a short RSA key"], (), "x: its type, curve or size is not supported"),
        (jwk(RSA_KEY, "x", alg="PS256"), ("RS256",), "x: WSBRIDGE_JWT_ALGORITHMS does not allow PS256"),
        ("key", (), "0: it is not an object"),
    ],
)
def test_keys_of_set_names_each_skipped_key_and_the_reason(entry: Any, allowed: tuple[str, ...], why: str) -> None:
    assert keys_of_set({"keys": [entry]}, allowed) == ((), (why,))


@pytest.mark.fault("G3")
@pytest.mark.parametrize("name", ["PS256", "PS384", "PS512"])
def test_keys_of_set_with_a_pss_key_takes_it(name: str) -> None:
    assert [key.algorithms for key in keys_of_set({"keys": [jwk(RSA_KEY, "x", alg=name)]}, ())[0]] == [(name,)]


@pytest.mark.fault("G3")
@pytest.mark.parametrize("name", ["EdDSA", "Ed25519"])
def test_keys_of_set_with_either_name_of_ed25519_takes_it(name: str) -> None:
    assert [key.algorithms for key in keys_of_set({"keys": [jwk(ED_KEY, "x", alg=name)]}, ())[0]] == [ED]


ANYTHING = st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.lists(st.integers(), max_size=2)
MEMBERS = {"kty": st.sampled_from(["RSA", "EC", "OKP", "oct"]), "crv": st.sampled_from(["P-256", "Ed25519"])}


@given(
    st.fixed_dictionaries(
        {},
        optional={
            name: MEMBERS.get(name, ANYTHING) | ANYTHING for name in ("kty", "crv", "alg", "use", "kid", *"nexykd")
        },
    )
)
@tries(200)
def test_keys_of_set_with_any_malformed_entry_keeps_the_others(entry: dict[str, object]) -> None:
    assert "good" in [key.id for key in keys_of_set({"keys": [entry, jwk(ED_KEY, "good")]}, ())[0]]
