"""The user of a request: places of tokens, the one that is used of several, and its user. On real sockets."""

from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from tests.support.growth import LINEAR, growth
from tests.support.logs import Logs
from tests.support.running import SECRET, Running, Start, closed, connect, receive, token
from wsbridge.auth.authenticator import offered_tokens

WAYS: dict[str, dict[str, Any]] = {
    "header": {"headers": {"Authorization": "Bearer {}"}},
    "subprotocol": {"protocols": ("wsbridge.v1", "bearer.{}")},
    "query": {"query": {"token": "{}"}},
    "cookie": {"headers": {"Cookie": "other=1; session={}"}},
}


def by(**tokens: str) -> dict[str, Any]:
    """Connect with these tokens, each at its place."""
    carried: dict[str, Any] = {"headers": {}, "query": {}, "protocols": ()}
    for way, text in tokens.items():
        for part, value in WAYS[way].items():
            if part == "protocols":
                carried[part] = tuple(word.format(text) for word in value)
            else:
                carried[part] |= {name: word.format(text) for name, word in value.items()}
    return carried


@pytest.mark.parametrize("way", WAYS)
async def test_identify_reads_a_token_from_each_place(start: Start, way: str) -> None:
    bridge = await start(JWT_SECRET=SECRET, JWT_COOKIE="session")
    ws = await connect(bridge, **by(**{way: token(ttl=3600)}))
    assert (await receive(ws))["user_id"] == "u1"
    assert ws.protocol == ("wsbridge.v1" if way == "subprotocol" else None)


@pytest.mark.fault("G2")
@pytest.mark.parametrize("first", range(4))
async def test_identify_with_several_tokens_takes_the_first_valid_one(start: Start, first: int) -> None:
    """Header, subprotocol, query, cookie: a stale token does not hide a valid one after it."""
    bridge = await start(JWT_SECRET=SECRET, JWT_COOKIE="session")
    ways = ("header", "subprotocol", "query", "cookie")[first:]
    ws = await connect(bridge, **by(**{way: token(way) for way in ways}))
    assert (await receive(ws))["user_id"] == ways[0]
    ws = await connect(bridge, **by(**{way: token(way) for way in ways} | {ways[0]: "bad"}))
    if ways[1:]:
        assert (await receive(ws))["user_id"] == ways[1]
    else:
        assert await closed(ws) == (4401, "token_invalid")


STALE = token("u1", ttl=-60)


@pytest.mark.fault("G2")
@pytest.mark.parametrize(
    "carried",
    [
        {"headers": {"Cookie": f"session={STALE}; other=1; session={token(ttl=3600)}"}},
        {"headers": {"Cookie": f"session={token(ttl=3600)}; session={STALE}"}},
        {"headers": {"Cookie": f'session="{token(ttl=3600)}"; session=; session=x'}},
        {"headers": CIMultiDict([("Cookie", f"session={STALE}"), ("Cookie", f"session={token(ttl=3600)}")])},
        {"headers": {"Authorization": "Bearer a-proxys-own", "Cookie": f"session={token(ttl=3600)}"}},
        {"query": [("token", STALE), ("token", token(ttl=3600))]},
        {"protocols": ("wsbridge.v1", f"bearer.{STALE}", f"bearer.{token(ttl=3600)}")},
        {
            "query": [("user_id", "u1"), ("token", token("u2", ttl=3600))],
            "headers": {"Cookie": f"session={token(ttl=3600)}"},
        },
    ],
    ids=["stale first", "stale last", "quoted", "two headers", "a proxy's", "query", "subprotocols", "another user's"],
)
async def test_identify_with_one_valid_token_among_several_takes_it(start: Start, carried: dict[str, Any]) -> None:
    bridge = await start(JWT_SECRET=SECRET, JWT_COOKIE="session")
    assert (await receive(await connect(bridge, **carried)))["user_id"] == "u1"


@pytest.mark.fault("G2")
@pytest.mark.parametrize(
    ("tokens", "close"),
    [
        (["bad", STALE], (4401, "token_expired")),
        (["bad", token("u2", ttl=3600)], (4503, "user_mismatch")),
        (["bad1", "bad2", "bad3", "bad4", token(ttl=3600)], (4401, "token_invalid")),
    ],
    ids=["the expired one", "another user's", "no more than four are verified"],
)
async def test_identify_without_a_valid_token_reports_the_closest_refusal(
    start: Start, tokens: list[str], close: tuple[int, str]
) -> None:
    bridge = await start(JWT_SECRET=SECRET)
    ws = await connect(bridge, query=[("user_id", "u1"), *(("token", each) for each in tokens)])
    assert await closed(ws) == close


@pytest.mark.fault("G4")
async def test_identify_with_two_lines_of_subprotocols_reads_both(start: Start) -> None:
    bridge = await start(JWT_SECRET=SECRET)
    lines = CIMultiDict(
        [("Sec-WebSocket-Protocol", f"bearer.{token(ttl=3600)}"), ("Sec-WebSocket-Protocol", "wsbridge.v1")]
    )
    ws = await connect(bridge, headers=lines)
    assert (await receive(ws))["user_id"] == "u1"
    assert ws._response.headers.getall("Sec-WebSocket-Protocol") == ["wsbridge.v1"]
    assert await bridge.publish({"user_id": "u1", "n": 1}) == "SUCCESS"
    assert (await receive(ws))["event"]["n"] == 1


@pytest.mark.fault("G1")
@pytest.mark.parametrize(
    "carried",
    [
        {"headers": {"Authorization": "Basic dTE6cA=="}},
        {"headers": {"Authorization": "Bearer "}},
        {"headers": {"Cookie": "session=x"}},
        {"protocols": ("bearer.x",)},
        {"query": {"token": ""}},
        {},
    ],
    ids=["basic", "empty bearer", "unnamed cookie", "no wsbridge.v1", "empty query", "nothing"],
)
async def test_identify_with_text_that_is_not_a_token_refuses(
    start: Start, logs: Logs, carried: dict[str, Any]
) -> None:
    bridge = await start(JWT_SECRET=SECRET)
    query = carried.pop("query", {}) | {"user_id": "u1"}
    ws = await connect(bridge, **carried, query=query)
    assert await closed(ws) == (4401, "token_missing")
    (line,) = logs.of("auth.failed", code=4401, reason="token_missing", user="u1")
    assert line["why"].endswith("the parameter token of the URL, or a cookie (set WSBRIDGE_JWT_COOKIE to its name)")
    ws = await connect(bridge, **carried)
    assert await closed(ws) == (4401, "token_missing")


async def test_identify_with_any_case_of_the_scheme_accepts(start: Start) -> None:
    bridge = await start(JWT_SECRET=SECRET)
    ws = await connect(bridge, headers={"Authorization": f"bearer {token(ttl=3600)}"})
    assert (await receive(ws))["user_id"] == "u1"


async def test_identify_with_a_user_id_of_another_user_refuses(start: Start, logs: Logs) -> None:
    bridge = await start(JWT_SECRET=SECRET)
    ws = await connect(bridge, query={"user_id": "u1", "token": token("u1")})
    assert (await receive(ws))["user_id"] == "u1"
    ws = await connect(bridge, query={"user_id": "u2", "token": token("u1")})
    assert await closed(ws) == (4503, "user_mismatch")
    assert logs.of("auth.failed", code=4503, reason="user_mismatch")


@pytest.mark.parametrize("user", [None, "", "x" * 257, "é" * 129])
async def test_identify_without_authentication_requires_a_bounded_user_id(
    bridge: Running, logs: Logs, user: str | None
) -> None:
    ws = await connect(bridge, query={} if user is None else {"user_id": user})
    assert await closed(ws) == (4500, "user_id_required")
    assert logs.of("session.refused", code=4500, reason="user_id_required")


@pytest.mark.parametrize("user", ["x" * 256, "é" * 128, "a b/c?d=e&f", "\n", "😀", "0"])
async def test_identify_without_authentication_accepts_any_text_as_user(bridge: Running, user: str) -> None:
    ws = await connect(bridge, query={"user_id": user})
    assert (await receive(ws))["user_id"] == user
    assert await bridge.publish({"user_id": user}) == "SUCCESS"
    assert (await receive(ws))["event"] == {"user_id": user}


async def test_identify_without_authentication_ignores_tokens(bridge: Running) -> None:
    ws = await connect(bridge, query={"user_id": "u1", "token": "nonsense"})
    hello = await receive(ws)
    assert hello["user_id"] == "u1"
    assert "expires_in_ms" not in hello


@pytest.mark.fault("C2")
def test_offered_tokens_among_many_subprotocols_take_linear_time() -> None:
    def find(size: int) -> None:
        headers = {"Sec-WebSocket-Protocol": "," * size}
        list(offered_tokens(make_mocked_request("GET", "/ws", headers), None))

    assert growth(find, 1_000) < LINEAR
