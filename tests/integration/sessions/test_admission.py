"""Admission on real sockets: tokens, users, origins, limits."""

from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import OKPAlgorithm
from pytest_aiohttp import AiohttpServer

from tests.support.deliveries import EXAMPLE
from tests.support.logs import Logs
from tests.support.running import SECRET, Start, closed, connect, receive, token, until

OTHER_SECRET = "the secret before that, also of thirty-two bytes"


async def test_admission_takes_the_user_of_the_token(start: Start, logs: Logs) -> None:
    bridge = await start(JWT_SECRET=SECRET)
    ws = await connect(bridge, query={"token": token("user-123")})
    assert (await receive(ws))["user_id"] == "user-123"
    await bridge.post(EXAMPLE, "application/json")
    assert (await receive(ws))["event"]["task_id"] == "456"
    assert logs.of("session.opened", user="user-123")


async def test_admission_with_each_kind_of_key_accepts_its_tokens(start: Start) -> None:
    pairs: dict[str, Any] = {"EdDSA": Ed25519PrivateKey.generate(), "ES256": generate_private_key(SECP256R1())}
    pems = [key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo) for key in pairs.values()]
    bridge = await start(JWT_PUBLIC_KEY=b"".join(pems).decode())
    for algorithm, key in pairs.items():
        ws = await connect(bridge, query={"token": token(algorithm, key=key, algorithm=algorithm)})
        assert (await receive(ws))["user_id"] == algorithm


async def test_admission_with_a_key_set_accepts_its_tokens(start: Start, aiohttp_server: AiohttpServer) -> None:
    key = Ed25519PrivateKey.generate()
    public = OKPAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": "k1", "use": "sig"}

    async def key_set(_: web.Request) -> web.Response:
        return web.json_response({"keys": [public]})

    app = web.Application()
    app.router.add_get("/jwks", key_set)
    server = await aiohttp_server(app)
    bridge = await start(JWT_JWKS_URL=str(server.make_url("/jwks")))
    ws = await connect(bridge, query={"token": token(key=key, algorithm="EdDSA")})
    assert (await receive(ws))["user_id"] == "u1"
    ws = await connect(bridge, query={"token": token(key=Ed25519PrivateKey.generate(), algorithm="EdDSA")})
    assert await closed(ws) == (4401, "token_invalid")


async def test_admission_without_any_key_closes_with_1013(start: Start, logs: Logs, unused_tcp_port: int) -> None:
    bridge = await start(JWT_JWKS_URL=f"http://127.0.0.1:{unused_tcp_port}/jwks")
    ws = await connect(bridge, query={"token": token(key=Ed25519PrivateKey.generate(), algorithm="EdDSA")})
    goodbye = await receive(ws)  # for engines that hide the close code
    assert (goodbye["type"], goodbye["code"], goodbye["reason"]) == ("goodbye", 1013, "unavailable")
    assert await closed(ws) == (1013, "unavailable")
    assert logs.of("session.refused", code=1013, reason="unavailable")
    status, health = await bridge.get("/health")
    assert (status, health["status"]) == (503, "unavailable")
    assert health["checks"]["keys"] != "ok"


async def test_admission_during_a_rotation_accepts_both_secrets(start: Start) -> None:
    bridge = await start(JWT_SECRET=SECRET, JWT_SECRET_PREVIOUS=OTHER_SECRET)
    for key in (SECRET, OTHER_SECRET):
        ws = await connect(bridge, query={"token": token(key=key)})
        assert (await receive(ws))["type"] == "connected"


@pytest.mark.parametrize(
    ("claims", "good"),
    [
        ({"aud": "us", "iss": "them"}, True),
        ({"aud": ["others", "us"], "iss": "them"}, True),
        ({"aud": "others", "iss": "them"}, False),
        ({"iss": "them"}, False),
        ({"aud": "us"}, False),
        ({"aud": "us", "iss": "others"}, False),
    ],
)
async def test_admission_checks_audience_and_issuer_if_set(start: Start, claims: dict[str, Any], good: bool) -> None:
    bridge = await start(JWT_SECRET=SECRET, JWT_AUDIENCE="us", JWT_ISSUER="them", JWT_USER_CLAIM="email")
    ws = await connect(bridge, query={"token": token(**claims, email="ann@example.com")})
    if good:
        assert (await receive(ws))["user_id"] == "ann@example.com"
    else:
        assert await closed(ws) == (4401, "token_invalid")


async def test_admission_without_an_audience_does_not_check_it(start: Start) -> None:
    bridge = await start(JWT_SECRET=SECRET)
    ws = await connect(bridge, query={"token": token(aud="somebody")})
    assert (await receive(ws))["type"] == "connected"


ALLOWED = "https://example.com,https://*.example.org,http://localhost:3000"
ORIGINS = {
    "https://example.com": True,
    "https://EXAMPLE.com": True,
    "https://example.com:443": True,
    "https://example.com:8443": False,
    "http://example.com": False,
    "https://example.com.evil.net": False,
    "https://evil-example.com": False,
    "https://a.example.com": False,
    "https://a.example.org": True,
    "https://a.b.example.org": True,
    "https://example.org": False,
    "https://evilexample.org": False,
    "http://localhost:3000": True,
    "http://localhost": False,
    "null": False,
    "": False,
}


@pytest.mark.parametrize(("origin", "allowed"), ORIGINS.items())
async def test_admission_with_a_list_of_origins_accepts_only_those(start: Start, origin: str, allowed: bool) -> None:
    bridge = await start(AUTH="none", HOST="0.0.0.0", ALLOWED_ORIGINS=ALLOWED)
    ws = await connect(bridge, query={"user_id": "u1"}, headers={"Origin": origin})
    if allowed:
        assert (await receive(ws))["type"] == "connected"
    else:
        assert await closed(ws) == (4503, "origin_forbidden")


@pytest.mark.parametrize(
    ("origin", "host", "allowed"),
    [
        ("https://app.example.com", "app.example.com", True),  # TLS ends before the bridge
        ("http://app.example.com:8004", "app.example.com:8004", True),
        ("https://app.example.com", "app.example.com:443", True),
        ("https://app.example.com:8443", "app.example.com", False),
        ("https://other.example.com", "app.example.com", False),
        ("null", "app.example.com", False),
    ],
)
async def test_admission_without_a_list_accepts_the_same_origin(
    start: Start, origin: str, host: str, allowed: bool
) -> None:
    bridge = await start(AUTH="none", HOST="0.0.0.0")
    ws = await connect(bridge, query={"user_id": "u1"}, headers={"Origin": origin, "Host": host})
    if allowed:
        assert (await receive(ws))["type"] == "connected"
    else:
        assert await closed(ws) == (4503, "origin_forbidden")


async def test_admission_without_an_origin_or_in_development_accepts(start: Start) -> None:
    bridge = await start(ALLOWED_ORIGINS="https://example.com")
    assert (await receive(await bridge.connect()))["type"] == "connected"
    bridge = await start()
    ws = await connect(bridge, query={"user_id": "u1"}, headers={"Origin": "https://anything.example"})
    assert (await receive(ws))["type"] == "connected"


async def test_admission_checks_the_origin_first(start: Start, logs: Logs) -> None:
    bridge = await start(JWT_SECRET=SECRET, ALLOWED_ORIGINS="https://example.com", MAX_CONNECTIONS="1")
    await bridge.opened(token=token())
    ws = await connect(bridge, query={"token": "bad"}, headers={"Origin": "https://evil.net"})
    assert await closed(ws) == (4503, "origin_forbidden")
    assert not logs.of("auth.failed")


@pytest.mark.fault("E7")
async def test_bad_token_in_band_is_counted_as_an_auth_error(start: Start) -> None:
    bridge = await start(JWT_SECRET=SECRET)
    ws = await connect(bridge, query={"token": token()})
    assert (await receive(ws))["type"] == "connected"
    await ws.send_json({"type": "auth", "token": token(key=OTHER_SECRET)})
    assert await closed(ws) == (4401, "token_invalid")
    await until(lambda: bridge.bridge.metrics.closes["4401", "token_invalid"])
    assert +bridge.bridge.metrics.errors == {"auth": 1}


async def test_admission_in_a_drain_refuses_a_stream_and_counts_no_failure_of_the_client(
    start: Start, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    bridge, faults = await start(), list[str]()
    monkeypatch.setattr(bridge.bridge.rate_limits, "failed", faults.append)
    bridge.bridge.admission.draining = True
    async with bridge.http.get(f"{bridge.url}/sse", params={"user_id": "u1"}) as response:
        assert (response.status, b"shutdown" in await response.read()) == (200, True)
    assert logs.of("session.refused", code=1012, reason="shutdown", user="u1")
    assert (faults, +bridge.bridge.metrics.errors) == ([], {})


@pytest.mark.parametrize(
    ("query", "headers", "is_auth"),
    [
        ({"user_id": "u1"}, {}, True),
        ({"user_id": "u2", "token": "{}"}, {}, True),
        ({"user_id": "x" * 257, "token": "{}"}, {}, False),
        ({"token": "{}"}, {"Origin": "https://evil.example"}, False),
    ],
    ids=["no token", "another user", "no user", "origin"],
)
async def test_admission_counts_each_fault_of_a_client_against_its_address(
    start: Start,
    logs: Logs,
    monkeypatch: pytest.MonkeyPatch,
    query: dict[str, str],
    headers: dict[str, str],
    is_auth: bool,
) -> None:
    bridge = await start(JWT_SECRET=SECRET, ALLOWED_ORIGINS="https://example.com")
    faults = list[str]()
    monkeypatch.setattr(bridge.bridge.rate_limits, "failed", faults.append)
    query = {name: value.format(token()) if name == "token" else value for name, value in query.items()}
    await closed(await connect(bridge, query=query, headers=headers))
    assert await logs.line("auth.failed" if is_auth else "session.refused")
    assert faults == ["127.0.0.1"]
    assert bridge.bridge.metrics.errors["auth"] == int(is_auth)


@pytest.mark.parametrize(
    ("query", "headers", "counted"), [({"token": "x"}, {}, 1), ({}, {"Origin": "https://evil.example"}, 0)]
)
async def test_refused_connection_counts_as_an_auth_error_if_its_token_is_wrong(
    start: Start, query: dict[str, str], headers: dict[str, str], counted: int
) -> None:
    bridge = await start(JWT_SECRET=SECRET)
    ws = await connect(bridge, query=query, headers=headers)
    await closed(ws)
    assert bridge.bridge.metrics.errors["auth"] == counted
