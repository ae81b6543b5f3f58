"""Routes about one user, by path and by query: the sessions, and ending one or all of them, on real sockets."""

import re
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock
from urllib.parse import quote, urlencode

import pytest

from tests.support.frames import Peer
from tests.support.logs import Logs
from tests.support.running import ADMIN_TOKEN, SECRET, Running, Start, closed, receive, token, until_told
from tests.support.valkey import Valkey
from wsbridge.broker.base import BrokerUnavailable
from wsbridge.broker.redis.broker import RedisBroker

VIEWER = "what only viewers know"


async def disconnect(bridge: Running, **query: str) -> tuple[int, Any]:
    async with bridge.http.post(f"{bridge.url}/user/disconnect", params=query) as response:
        return response.status, await response.json()


async def test_user_lists_the_sessions(bridge: Running) -> None:
    ws, hello = await bridge.opened("u1")
    await bridge.publish({"user_id": "u1"})
    position = (await receive(ws))["id"]
    status, found = await bridge.get("/users/u1")
    assert (status, found["user_id"], found["last_event_id"]) == (200, "u1", position)
    (session,) = found["sessions"]
    assert session["session_id"] == hello["session_id"]
    assert (session["transport"], session["address"], session["unsent_bytes"]) == ("websocket", "127.0.0.1", 0)
    assert "aiohttp" in session["user_agent"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", session["since"])
    assert (await bridge.get("/users/nobody"))[1]["sessions"] == []


@pytest.mark.fault("C6")
async def test_user_without_a_history_has_no_position(bridge: Running) -> None:
    found = await bridge.get("/users/ghost")
    assert found == (200, {"user_id": "ghost", "sessions": [], "last_event_id": None})
    assert bridge.bridge.metrics.registry.get_sample_value("wsbridge_history_users") == 0


@pytest.mark.fault("C11")
@pytest.mark.parametrize(
    "user",
    [
        "{",
        "}",
        "{}",
        "{user_id}",
        "{a:b}",
        "a/b",
        "a/disconnect",
        "/",
        "%",
        "%7B",
        "%2F",
        "%25",
        "a b",
        " ",
        "+",
        "&=;",
        "\\",
        '"',
        "?",
        "#",
        ".",
        "..",
        "ünï 😀",
        "\u202e",
        "x" * 256,
        "<script>",
    ],
)
async def test_user_with_any_id_is_found_and_disconnected_in_both_forms(bridge: Running, user: str) -> None:
    """The path as it is, on a raw socket: most clients change one with dots in it."""
    quoted = quote(user, safe="")
    path = f"/users/{quoted}"
    for found, ending in (
        (path, f"{path}/disconnect"),
        (f"/user?user_id={quoted}", f"/user/disconnect?user_id={quoted}"),
    ):
        ws, hello = await bridge.opened(user)
        async with Peer(bridge.port) as peer:
            status, answer = await peer.request(f"GET {found} HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert status == 200
            assert hello["session_id"] in answer
        async with Peer(bridge.port) as peer:
            assert (await peer.request(f"POST {ending} HTTP/1.1\r\nHost: localhost\r\n\r\n"))[0] == 202
        assert await closed(ws) == (4509, "force_disconnect")


@pytest.mark.fault("C11")
@pytest.mark.parametrize("user", ["...", "%2e", "%2e%2e", "a/..", "a//b", "//", "./a", "a\r\nb: c", "\x00", "\u0085"])
async def test_user_whom_url_parsers_normalise_is_found_by_the_query(bridge: Running, user: str) -> None:
    """aiohttp's client, curl and browsers all send the query alike; a path with such an id becomes another path."""
    ws, hello = await bridge.opened(user)
    query = urlencode({"user_id": user})
    _, found = await bridge.get(f"/user?{query}")
    assert (found["user_id"], found["sessions"][0]["session_id"]) == (user, hello["session_id"])
    await bridge.publish({"user_id": user}, id=user)
    await receive(ws)
    _, found = await bridge.get("/user/events?" + urlencode({"user_id": user, "event_id": user}))
    assert (found["user_id"], found["event_id"], found["code"]) == (user, user, "delivered")
    assert await disconnect(bridge, user_id=user) == (202, {"user_id": user, "disconnected": 1})
    assert await closed(ws) == (4509, "force_disconnect")


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("/user", "/user needs the parameter user_id once in its query, and it is missing."),
        ("/user?user=alice", "user_id once in its query, and it is missing."),
        ("/user?user_id=", "user_id once in its query, and it is empty."),
        ("/user?user_id=a&user_id=b", "user_id once in its query, and it is 2 times."),
        ("/user/events?user_id=a", "/user/events needs the parameter event_id once"),
        ("/console/payload?event_id=e1", "/console/payload needs the parameter user_id once"),
    ],
)
async def test_route_without_its_parameter_says_which(bridge: Running, path: str, complaint: str) -> None:
    status, found = await bridge.get(path)
    assert (status, complaint in found["detail"]) == (400, True), found


async def test_disconnect_with_an_unavailable_broker_ends_local_sessions_and_is_503(
    bridge: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unavailable(user: str) -> None:
        raise BrokerUnavailable("no answer of Redis")

    monkeypatch.setattr(bridge.bridge.broker, "disconnect", unavailable)
    ws, _ = await bridge.opened()
    async with bridge.http.post(f"{bridge.url}/users/u1/disconnect") as response:
        assert response.status == 503
        assert "no answer of Redis" in await response.text()
    assert (await receive(ws))["type"] == "goodbye"
    assert await closed(ws) == (4509, "force_disconnect")


async def test_disconnect_closes_all_sessions_of_the_user_only(bridge: Running, logs: Logs) -> None:
    first, _ = await bridge.opened("u1")
    second, _ = await bridge.opened("u1")
    other, _ = await bridge.opened("u2")
    async with bridge.http.post(f"{bridge.url}/users/u1/disconnect") as response:
        assert response.status == 202
    for ws in (first, second):
        assert await closed(ws) == (4509, "force_disconnect")
    await bridge.publish({"user_id": "u2"})
    assert (await receive(other))["type"] == "task_update"
    assert logs.of("user.disconnected", user="u1", sessions=2)
    async with bridge.http.post(f"{bridge.url}/users/nobody/disconnect") as response:
        assert response.status == 202


async def test_disconnect_of_one_session_leaves_the_others_of_the_user(bridge: Running, logs: Logs) -> None:
    one, hello = await bridge.opened("u1")
    other, _ = await bridge.opened("u1")
    session = hello["session_id"]
    assert await disconnect(bridge, user_id="u1", session_id=session) == (
        202,
        {"user_id": "u1", "session_id": session, "disconnected": 1},
    )
    assert await closed(one) == (4509, "force_disconnect")
    assert logs.of("user.disconnected", user="u1", session=session, sessions=1, peer="127.0.0.1")
    await bridge.publish({"user_id": "u1"})
    assert (await receive(other))["type"] == "task_update"


@pytest.mark.parametrize("session", ["0123456789ab", "..", "<b>", "x" * 4_000])
async def test_disconnect_of_a_session_that_the_user_does_not_have_is_404(bridge: Running, session: str) -> None:
    ws, hello = await bridge.opened("u1")
    assert (await disconnect(bridge, user_id="u1", session_id=session))[0] == 404
    assert (await disconnect(bridge, user_id="u2", session_id=hello["session_id"]))[0] == 404
    assert (await disconnect(bridge, user_id="u1", session_id=""))[0] == 400  # not all of them
    await bridge.publish({"user_id": "u1"})
    assert (await receive(ws))["type"] == "task_update"


async def test_disconnect_of_one_session_is_refused_to_a_viewer(start: Start, logs: Logs) -> None:
    bridge = await start(JWT_SECRET=SECRET, VIEWER_TOKEN=VIEWER)
    ws, hello = await bridge.opened("u1", token=token())
    url = f"{bridge.url}/user/disconnect?user_id=u1&session_id={hello['session_id']}"
    for sent, status in ((VIEWER, 401), (ADMIN_TOKEN, 202)):
        async with bridge.http.post(url, headers={"Authorization": f"Bearer {sent}"}) as response:
            assert response.status == status
    assert await closed(ws) == (4509, "force_disconnect")
    assert len(logs.of("user.disconnected")) == 1


async def test_disconnect_of_one_session_on_another_replica_ends_it(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Valkey(tmp_path) as valkey:
        one, other = await start(REDIS_URL=valkey.url), await start(REDIS_URL=valkey.url)

        async def both_answer() -> bool:
            _, found = await one.get("/user/events?user_id=u1&event_id=e1")
            return len(found["replicas"]) == 2

        await until_told(both_answer)
        ws, hello = await other.opened("u1")
        second, another = await other.opened("u1")
        assert (await disconnect(one, user_id="u1", session_id=hello["session_id"]))[0] == 202
        assert await closed(ws) == (4509, "force_disconnect")
        assert (await disconnect(one, user_id="u1", session_id=hello["session_id"]))[0] == 404
        assert isinstance(other.bridge.broker, RedisBroker)
        monkeypatch.setattr(other.bridge.broker.replicas, "take", AsyncMock())
        status, found = await disconnect(one, user_id="u1", session_id=another["session_id"])
        assert (status, "1 of 2 replicas did not answer. Try again." in found["detail"]) == (503, True)
        await one.publish({"user_id": "u1"})
        assert (await receive(second))["type"] == "task_update"
