"""Secrets are masked in the log, wherever a mistake has put them in a URL or an error text."""

import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict
from yarl import URL

from tests.support.running import token
from wsbridge.telemetry.redaction import MASK, scrubbed, shown_path, shown_query

JWT = token()
OPAQUE = "s3cr3tOpaque"


@pytest.mark.fault("B4")
@pytest.mark.parametrize("secret", [JWT, OPAQUE], ids=["jwt", "opaque"])
@pytest.mark.parametrize(
    "query",
    [
        "token={}", "access_token={}", "jwt={}", "Token={}", "a=1&amp;token={}", "user_id=u1&amp;token={}",
        "user_id=u1?token={}", "user_id=u1%3Ftoken={}", "user_id=u1;token={}", "user_id=u1%26token%3D{}", "x={}",
        "last_event_id=e:1?access_token={}", "apikey={}", "password={}", "%74oken={}",
    ],
)  # fmt: skip
def test_shown_query_with_a_misplaced_secret_masks_it(query: str, secret: str) -> None:
    shown = shown_query(URL("http://h/ws?" + query.format(secret)).query)
    assert secret not in shown
    assert JWT.split(".")[1] not in shown


@pytest.mark.fault("B4")
def test_shown_query_keeps_harmless_values() -> None:
    query = MultiDict([("user_id", "u1"), ("last_event_id", "ab12:41"), ("token", "x"), ("flag", "")])
    assert shown_query(query) == "user_id=u1&last_event_id=ab12:41&token=***&flag="
    assert shown_query(MultiDict()) == ""


@pytest.mark.fault("B4")
def test_shown_query_masks_a_jwt_in_place_of_the_user() -> None:
    assert shown_query(MultiDict([("user_id", JWT)])) == "user_id=***"


@pytest.mark.fault("B4")
def test_shown_query_with_a_token_as_name_masks_it() -> None:
    assert JWT not in shown_query(MultiDict([(JWT, "")]))


@pytest.mark.fault("B4")
@pytest.mark.parametrize("path", [f"/ws/{JWT}", f"/ws/{quote(JWT + '=', safe='')}", f"/{'a1' * 20}", "/ws/token=abc"])
def test_shown_path_masks_a_token_in_the_path(path: str) -> None:
    shown = shown_path(path, is_route=False)
    assert MASK in shown
    assert path.rsplit("/", 1)[1] not in shown


def test_shown_path_keeps_ordinary_paths() -> None:
    assert shown_path("/api/v1/ws", is_route=False) == "/api/v1/ws"
    assert shown_path("/users/" + "u" * 100, is_route=True) == "/users/" + "u" * 100


@pytest.mark.fault("B4")
@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer {}", "bearer.{}", "cannot connect to https://keys/?access_token={}", '{{"token": "{}"}}',
        "jwt={}", "token%3D{}", "id_token={}&x=1", "Bearer%20{}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("secret", [JWT, OPAQUE], ids=["jwt", "opaque"])
def test_scrubbed_masks_secrets_in_any_text(text: str, secret: str) -> None:
    shown = scrubbed(text.format(secret))
    assert secret not in shown
    assert JWT.split(".")[2] not in shown


@pytest.mark.parametrize(
    "text",
    [
        "token_expired", "WSBRIDGE_ADMIN_TOKEN: expected 16 bytes or more", "no key for alg 'HS256' and kid 'k1'",
        "u1", "the token is another user's", "Signature verification failed", "ewe.lamb", "https://eyewear.example.com/keys",
    ],
)  # fmt: skip
def test_scrubbed_keeps_plain_words(text: str) -> None:
    assert scrubbed(text) == text


@given(st.text(st.sampled_from("eyJw.token=bearer :-_%3d\"'&"), max_size=300))
def test_scrubbed_twice_equals_scrubbed_once(text: str) -> None:
    once = scrubbed(text)
    assert scrubbed(once).count(MASK) >= once.count(MASK)


@pytest.mark.growth
@pytest.mark.parametrize("piece", ["eyJ", "ey.", "token", "token=", "bearer ", "bearer.", "-", "jwt:", "eyJaaaaaaaa."])
def test_scrubbed_takes_linear_time(piece: str) -> None:
    """Fifty times the input takes far less than 2,500 times as long, as it would with a quadratic pattern."""

    def best(text: str) -> float:
        def once() -> float:
            started = time.thread_time()
            scrubbed(text)
            return time.thread_time() - started

        return min(once() for _ in range(5))

    assert best(piece * 200_000) < 1_000 * max(best(piece * 4_000), 1e-5)
