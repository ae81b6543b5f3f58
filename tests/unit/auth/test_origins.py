"""Origins, as browsers send them, and the pages that may connect."""

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from wsbridge.auth.origins import Origins, _canonical, canonical
from wsbridge.config.env import load


def request(host: str = "localhost:8004", **headers: str) -> web.Request:
    return make_mocked_request("GET", "/ws", headers={"Host": host} | headers)


def allows(origin: str, *allowed: str, host: str = "localhost:8004", development: bool = False) -> bool:
    return Origins(allowed, development=development).allows(request(host=host, Origin=origin))


@pytest.mark.parametrize("allowed", [(), ("https://example.com",), ("*",)], ids=str)
@pytest.mark.parametrize("development", [True, False])
def test_origins_without_an_origin_header_allow(allowed: tuple[str, ...], development: bool) -> None:
    assert Origins(allowed, development=development).allows(request())


@pytest.mark.parametrize(
    ("origin", "host", "same"),
    [
        ("http://example.com", "example.com", True),
        ("https://example.com", "example.com", True),
        ("https://example.com:8443", "example.com:8443", True),
        ("https://EXAMPLE.com", "Example.COM", True),
        ("https://example.com", "example.com:443", True),
        ("https://example.com:443", "example.com", True),
        ("http://example.com", "example.com:80", True),
        ("http://[::1]:8004", "[::1]:8004", True),
        ("http://localhost:8004", "localhost:8004", True),
        ("http://localhost:3000", "localhost:8004", False),
        ("http://127.0.0.1:8004", "localhost:8004", False),
        ("https://example.com", "example.com:8443", False),
        ("https://example.com:80", "example.com", False),
        ("https://example.com.evil.net", "example.com", False),
        ("https://evil.net", "example.com", False),
        ("https://app.example.com", "example.com", False),
        ("https://example.com", "app.example.com", False),
        ("https://notexample.com", "example.com", False),
        ("https://example.com/", "example.com", False),
        ("example.com", "example.com", False),
        ("null", "example.com", False),
        ("null", "null", False),
        ("", "example.com", False),
        ("https://", "", False),
    ],
)
def test_origins_without_a_list_allow_the_same_host_with_any_scheme(origin: str, host: str, same: bool) -> None:
    assert allows(origin, host=host) is same
    assert Origins.is_same(origin, host) is same


@pytest.mark.parametrize(
    ("allowed", "origin", "good"),
    [
        ("https://example.com", "https://example.com", True),
        ("https://example.com", "HTTPS://EXAMPLE.COM", True),
        ("https://example.com", "https://example.com:443", True),
        ("https://example.com:443", "https://example.com", True),
        ("http://example.com", "http://example.com:80", True),
        ("https://example.com", "http://example.com", False),
        ("https://example.com", "https://example.com:80", False),
        ("https://example.com", "https://example.com:8443", False),
        ("https://example.com", "https://example.com.evil.net", False),
        ("https://example.com", "https://example.com@evil.net", False),
        ("https://example.com", "https://evil.net/https://example.com", False),
        ("https://example.com", "https://app.example.com", False),
        ("https://example.com", "https://example.co", False),
        ("https://example.com", "null", False),
        ("https://example.com", "", False),
        ("https://example.com", "http://localhost:8004", False),
        ("https://*.example.com", "https://app.example.com", True),
        ("https://*.example.com", "https://a.b.example.com", True),
        ("https://*.example.com", "https://APP.example.com:443", True),
        ("https://*.example.com:443", "https://app.example.com", True),
        ("https://*.example.com:8443", "https://app.example.com:8443", True),
        ("https://*.example.com:8443", "https://app.example.com", False),
        ("https://*.example.com", "https://app.example.com:8443", False),
        ("https://*.example.com", "https://example.com", False),
        ("https://*.example.com", "https://evilexample.com", False),
        ("https://*.example.com", "http://app.example.com", False),
        ("https://*.example.com", "https://app.example.com.evil.net", False),
        ("https://*.example.com", "null", False),
        ("chrome-extension://abc", "chrome-extension://abc", True),
        ("*", "https://evil.net", True),
        ("*", "null", True),
    ],
)
def test_origins_with_a_list_allow_its_origins_only(allowed: str, origin: str, good: bool) -> None:
    assert allows(origin, allowed) is good
    assert allows(origin, allowed, development=True) is good
    assert allows(origin, "https://other.org", allowed) is good


@given(st.text(st.sampled_from("ab.:/@#?-%*104 3"), min_size=1, max_size=9))
def test_origins_with_text_behind_an_allowed_origin_refuse(suffix: str) -> None:
    assert allows("https://example.com" + suffix, "https://example.com") is (suffix in (":443", ".", ".:443"))


@pytest.mark.fault("G6")
@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("https://BÜCHER.example:443", "https://xn--bcher-kva.example"),
        ("https://straße.example", "https://xn--strae-oqa.example"),
        ("https://例え.テスト:8443", "https://xn--r8jz45g.xn--zckzah:8443"),
        ("https://example.com.", "https://example.com"),
        ("https://example.com.:443", "https://EXAMPLE.com"),
        ("http://[::1]:80", "http://[0:0:0:0:0:0:0:1]"),
        ("http://[2001:DB8::1]:8004", "http://[2001:db8:0::1]:8004"),
        ("null", "NULL"),
        ("file://", "FILE://"),
    ],
)
def test_canonical_of_two_spellings_is_equal(one: str, other: str) -> None:
    for listed, origin in ((one, other), (other, one), (one, one)):
        settings, _ = load({"WSBRIDGE_ALLOWED_ORIGINS": listed})
        assert allows(origin, *settings.allowed_origins), (listed, origin)
        assert not allows(origin, "https://example.org")
        _, _, host = listed.partition("://")
        assert Origins.is_same(origin, host) is bool(host)


@pytest.mark.fault("G6")
@pytest.mark.parametrize(
    ("listed", "origin"),
    [
        ("https://bücher.example", "https://bucher.example"),
        ("https://example.com", "https://example.com.."),
        ("https://example.com", "https://example.com:0443"),
        ("https://example.com", "https://example.com:443:443"),
        ("https://example.com", "https://examplé.com"),
        ("https://*.bücher.example", "https://xn--bcher-kva.example"),
        ("https://[::1]", "https://[::2]"),
        ("https://[::1]", "https://::1"),
        ("file://", "null"),
        ("file://", "file:///etc/passwd"),
        ("null", "file://"),
        ("null", ""),
    ],
)
def test_canonical_of_lookalikes_differs(listed: str, origin: str) -> None:
    assert not allows(origin, listed)


@pytest.mark.fault("G6")
@pytest.mark.parametrize("times", [2, 100, 10_000])
def test_origins_with_many_wildcards_are_refused_without_recursion_and_not_cached(times: int) -> None:
    origin = f"https://{'*.' * times}example.com"
    assert not allows(origin, "https://*.example.org")
    assert Origins.is_same(origin, origin.removeprefix("https://"))
    before = _canonical.cache_info().currsize
    assert canonical(origin.upper()) == origin
    assert _canonical.cache_info().currsize - before == (times < 200)


@pytest.mark.fault("G6")
def test_origins_with_an_international_wildcard_allow_its_subdomains() -> None:
    assert allows("https://a.xn--bcher-kva.example", "https://*.bücher.example")
    assert allows("https://a.bücher.example", "https://*.xn--bcher-kva.example")


def test_origins_in_development_allow_every_page() -> None:
    assert allows("https://evil.net", development=True)
    assert allows("null", development=True)


@pytest.mark.parametrize(
    ("allowed", "origin", "good"),
    [("https://example.com", "https://example.com", True), ("https://example.com", "https://evil.net", False),
     ("*", "https://evil.net", True)],
)  # fmt: skip
def test_cors_for_an_allowed_origin_lets_the_page_read_the_response(allowed: str, origin: str, good: bool) -> None:
    headers = Origins((allowed,), development=False).cors(request(Origin=origin))
    assert headers.get("Access-Control-Allow-Origin") == (origin if good else None)
    assert headers["Vary"] == "Origin"


def test_cors_without_an_origin_allows_nothing() -> None:
    assert Origins(("*",), development=False).cors(request()) == {"Vary": "Origin"}
