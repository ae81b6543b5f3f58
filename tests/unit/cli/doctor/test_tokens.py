"""What `wsbridge doctor` finds in a token that the bridge has refused."""

from typing import Any

import jwt
import pytest

from tests.support.running import SECRET, token, variables
from wsbridge.auth.token_refusals import ENCRYPTED, FOR_GRAPH
from wsbridge.cli.doctor.tokens import mismatches
from wsbridge.config.env import load


@pytest.mark.parametrize(
    ("settings", "claims", "expected"),
    [
        ({"JWT_AUDIENCE": "a,b", "JWT_ISSUER": "i"}, {"aud": ["x", "b"], "iss": "i"}, []),
        ({"JWT_AUDIENCE": "a,b"}, {"aud": ["x", "y"]}, ["its aud is x, y, but WSBRIDGE_JWT_AUDIENCE is a, b"]),
        ({"JWT_AUDIENCE": "a"}, {}, ["it has no aud, but WSBRIDGE_JWT_AUDIENCE is a"]),
        ({"JWT_ISSUER": "i"}, {"iss": "i/"}, ["its iss is i/, but WSBRIDGE_JWT_ISSUER is i"]),
        ({"JWT_ALGORITHMS": "HS512"}, {}, ["its alg is HS256, but the settings accept HS512"]),
        ({}, {"exp": None}, ["it has no exp, which is required"]),
        ({}, {"ttl": -7_200}, ["its exp was 2 h ago"]),
        ({}, {"ttl": -5}, []),  # within the leeway
    ],
)
def test_mismatches_name_the_claim_and_the_setting(
    settings: dict[str, str], claims: dict[str, Any], expected: list[str]
) -> None:
    loaded, _ = load(variables({"JWT_SECRET": SECRET * 2} | settings))
    assert list(mismatches(token(**claims), loaded)) == expected


def test_mismatches_of_a_text_that_is_not_a_token_say_so() -> None:
    settings, _ = load(variables({"JWT_SECRET": SECRET}))
    [why] = mismatches("a.b.c", settings)
    assert why.startswith("it is not a JWT (")
    assert list(mismatches("e30..YQ.YQ.YQ", settings)) == [ENCRYPTED]


def test_mismatches_of_a_token_for_microsoft_graph_say_so() -> None:
    settings, _ = load(variables({"JWT_SECRET": SECRET}))
    text = jwt.encode({"sub": "u1", "exp": 2**40}, SECRET, headers={"nonce": "n"})
    assert list(mismatches(text, settings)) == [FOR_GRAPH]
