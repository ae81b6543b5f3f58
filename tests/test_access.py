"""Who may call what: origins as browsers send them, tokens, loopback peers."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict
from structlog.testing import capture_logs

from wsbridge.access import Access, Caller, Origins, bearer
from wsbridge.metrics import Metrics

PROXIES = ({"Forwarded": "for=10.0.0.9"}, {"X-Forwarded-For": "10.0.0.9"}, {"X-Forwarded-For": ""})


def request(remote: Any = "127.0.0.1", host: str = "localhost:8004", **headers: str) -> web.Request:
    """Underscores in names of headers are hyphens on the wire."""
    sent = {"Host": host} | {name.replace("_", "-"): value for name, value in headers.items()}
    return make_mocked_request("GET", "/stats?token=secret", headers=sent).clone(remote=remote)


def garbled(**headers: str) -> Any:
    """A request with bytes in its headers that are no UTF-8; make_mocked_request makes none."""
    sent = CIMultiDict({name.replace("_", "-"): value for name, value in headers.items()})
    return SimpleNamespace(headers=sent, remote="127.0.0.1", host="localhost:8004", path="/stats")


# Origins.


def allows(origin: str, *allowed: str, host: str = "localhost:8004", development: bool = False) -> bool:
    return Origins(allowed, development=development).allows(request(host=host, Origin=origin))


@pytest.mark.parametrize("allowed", [(), ("https://example.com",), ("*",)], ids=str)
@pytest.mark.parametrize("development", [True, False])
def test_a_request_without_an_origin_is_no_browser_and_passes(allowed: tuple[str, ...], development: bool) -> None:
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
def test_without_a_list_the_same_origin_may_connect_whatever_the_scheme(origin: str, host: str, same: bool) -> None:
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
def test_with_a_list_only_its_origins_may_connect(allowed: str, origin: str, good: bool) -> None:
    assert allows(origin, allowed) is good
    assert allows(origin, allowed, development=True) is good
    assert allows(origin, "https://other.org", allowed) is good


@given(st.text(st.sampled_from("ab.:/@#?-%*104 3"), min_size=1, max_size=9))
@settings(deadline=None)
def test_nothing_behind_an_allowed_origin_makes_another_one_allowed(suffix: str) -> None:
    assert allows("https://example.com" + suffix, "https://example.com") is (suffix == ":443")


def test_in_development_any_page_may_connect() -> None:
    assert allows("https://evil.net", development=True)
    assert allows("null", development=True)


@pytest.mark.parametrize(
    ("allowed", "origin", "good"),
    [("https://example.com", "https://example.com", True), ("https://example.com", "https://evil.net", False),
     ("*", "https://evil.net", True)],
)  # fmt: skip
def test_an_allowed_page_of_another_origin_may_read_the_answer(allowed: str, origin: str, good: bool) -> None:
    headers = Origins((allowed,), development=False).cors(request(Origin=origin))
    assert headers.get("Access-Control-Allow-Origin") == (origin if good else None)
    assert headers["Vary"] == "Origin"


def test_without_an_origin_there_is_nothing_to_allow() -> None:
    assert Origins(("*",), development=False).cors(request()) == {"Vary": "Origin"}


# Tokens.


@pytest.mark.parametrize(
    ("header", "token"),
    [
        ("Bearer abc", "abc"),
        ("bearer  abc ", "abc"),
        ("Bearer", None),
        ("Bearer ", None),
        ("Basic abc", None),
        ("Bearer\tabc", None),
        ("", None),
        ("Bearer a b", "a b"),
    ],
)
def test_a_bearer_token_is_what_follows_the_scheme(header: str, token: str | None) -> None:
    assert bearer(request(Authorization=header)) == token
    assert bearer(request()) is None
    assert bearer(garbled(Authorization="Bearer \udcff")) == "\udcff"


TOKENS = {Caller.SIDECAR: "app_token", Caller.OPERATOR: "admin_token", Caller.PROMETHEUS: "metrics_token"}


async def status(caller: Caller, asked: web.Request, *allowed: str, **tokens: str) -> int:
    """What a guarded route answers; `allowed` are origins."""
    values: dict[str, Any] = dict.fromkeys(TOKENS.values()) | tokens
    access = Access(**values, origins=Origins(allowed, development=not allowed), metrics=Metrics())

    async def handler(_: web.Request) -> web.Response:
        return web.Response()

    try:
        return (await access.guard(caller, handler)(asked)).status
    except web.HTTPException as error:
        return error.status


def sent(caller: Caller, token: str) -> dict[str, str]:
    return {"dapr-api-token": token} if caller is Caller.SIDECAR else {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("caller", TOKENS, ids=lambda caller: caller.value)
@pytest.mark.parametrize(
    ("token", "answer"),
    [("right", 200), ("wrong", 401), ("righ", 401), ("rightt", 401), ("Right", 401), ("", 401), ("é", 401)],
)
async def test_where_a_token_is_set_it_decides_wherever_the_peer_is(caller: Caller, token: str, answer: int) -> None:
    for remote in ("127.0.0.1", "10.0.0.9"):
        asked = request(remote, **sent(caller, token), X_Forwarded_For="10.0.0.9", Origin="https://evil.net")
        assert await status(caller, asked, **{TOKENS[caller]: "right"}) == answer


@pytest.mark.parametrize("caller", TOKENS, ids=lambda caller: caller.value)
async def test_a_garbled_token_is_401(caller: Caller) -> None:
    asked = garbled(dapr_api_token="\udcff", Authorization="Bearer \udcff")
    assert await status(caller, asked, **{TOKENS[caller]: "right"}) == 401


@pytest.mark.parametrize("caller", TOKENS, ids=lambda caller: caller.value)
async def test_a_missing_token_is_401_also_on_loopback(caller: Caller) -> None:
    assert await status(caller, request(), **{TOKENS[caller]: "right"}) == 401


@pytest.mark.parametrize("caller", TOKENS, ids=lambda caller: caller.value)
async def test_a_token_opens_its_own_routes_only(caller: Caller) -> None:
    for other in set(TOKENS) - {caller}:
        asked = request("10.0.0.9", **sent(caller, "right") | sent(other, "right"))
        assert await status(caller, asked, **{TOKENS[other]: "right", TOKENS[caller]: "another"}) == 401


async def test_a_token_may_hold_any_characters() -> None:
    asked = request("10.0.0.9", Authorization="Bearer é😀")
    assert await status(Caller.OPERATOR, asked, admin_token="é😀") == 200


async def test_a_refusal_says_what_is_wanted_and_is_logged_without_secrets() -> None:
    metrics = Metrics()
    access = Access(
        app_token=None, admin_token="right", metrics_token=None, origins=Origins((), development=False), metrics=metrics
    )
    with capture_logs() as lines:
        with pytest.raises(web.HTTPUnauthorized) as caught:
            access.check(Caller.OPERATOR, request("10.0.0.9", Authorization="Bearer wrong"))
        with pytest.raises(web.HTTPForbidden) as forbidden:
            access.check(Caller.SIDECAR, request("10.0.0.9"))
    assert caught.value.headers["WWW-Authenticate"] == "Bearer"
    assert "APP_API_TOKEN" in str(forbidden.value.text)
    assert [(line["event"], line["caller"], line["why"]) for line in lines] == [
        ("request.denied", "operator", "token"),
        ("request.denied", "sidecar", "not_loopback"),
    ]
    assert {(line["path"], line["peer"]) for line in lines} == {("/stats", "10.0.0.9")}
    assert not {"right", "wrong", "secret"} & {str(value) for line in lines for value in line.values()}
    assert metrics.errors["denied"] == 2


# Loopback.


@pytest.mark.parametrize(
    ("remote", "answer"),
    [
        ("127.0.0.1", 200),
        ("127.1.2.3", 200),
        ("::1", 200),
        ("::ffff:127.0.0.1", 200),
        ("::ffff:10.0.0.9", 403),
        ("10.0.0.9", 403),
        ("192.168.1.1", 403),
        ("0.0.0.0", 403),
        ("fe80::1%eth0", 403),
        ("2001:db8::1", 403),
        ("", 403),
        (None, 403),
    ],
)
@pytest.mark.parametrize("caller", [Caller.SIDECAR, Caller.OPERATOR], ids=lambda caller: caller.value)
async def test_without_a_token_only_this_machine_is_served(caller: Caller, remote: str | None, answer: int) -> None:
    assert await status(caller, request(remote)) == answer


@pytest.mark.parametrize("headers", PROXIES, ids=str)
@pytest.mark.parametrize("caller", [Caller.SIDECAR, Caller.OPERATOR], ids=lambda caller: caller.value)
async def test_what_a_proxy_forwards_is_not_of_this_machine(caller: Caller, headers: dict[str, str]) -> None:
    assert await status(caller, request("127.0.0.1", **headers)) == 403


@pytest.mark.parametrize(
    ("origin", "answer"),
    [("http://localhost:8004", 200), ("https://evil.net", 403), ("http://localhost:3000", 403), ("null", 403)],
)
@pytest.mark.parametrize("allowed", [(), ("*",), ("https://evil.net",)], ids=str)
async def test_a_foreign_page_in_a_local_browser_is_not_of_this_machine(
    origin: str, answer: int, allowed: tuple[str, ...]
) -> None:
    """Whatever may connect to /ws: a page that may listen must not publish."""
    assert await status(Caller.SIDECAR, request("127.0.0.1", Origin=origin), *allowed) == answer


@pytest.mark.parametrize(
    ("host", "answer"),
    [
        ("localhost:8004", 200),
        ("app.localhost:8004", 200),
        ("127.0.0.1:8004", 200),
        ("10.1.2.3:8004", 200),
        ("[::1]:8004", 200),
        ("websocket-service:8004", 200),
        ("", 200),
        ("[", 200),
        ("evil.example:8004", 403),
        ("evil.example.:8004", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example", 403),
    ],
)
@pytest.mark.parametrize("caller", [Caller.SIDECAR, Caller.OPERATOR])
async def test_a_name_of_the_dns_that_points_here_is_not_of_this_machine(
    caller: Caller, host: str, answer: int
) -> None:
    assert await status(caller, request(host=host)) == answer


@pytest.mark.parametrize("remote", ["127.0.0.1", "10.0.0.9", None])
@pytest.mark.parametrize("headers", [{}, *PROXIES], ids=str)
async def test_without_a_token_anyone_reads_metrics(remote: str | None, headers: dict[str, str]) -> None:
    assert await status(Caller.PROMETHEUS, request(remote, **headers)) == 200


async def test_a_route_for_anyone_is_not_guarded() -> None:
    everything = dict.fromkeys(TOKENS.values(), "right")
    assert await status(Caller.ANYONE, request("10.0.0.9", Origin="https://evil.net"), **everything) == 200
