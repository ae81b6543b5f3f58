"""Key sources: secrets, PEM, and a key server on a real socket that fails in every way."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from structlog.testing import capture_logs

from tests.support.key_material import EC_KEYS, ED, ED_KEY, ES, PREVIOUS, RS, RSA_KEY, SECRET, jwk, pem
from tests.support.running import token, until
from wsbridge.auth.jwks import Key
from wsbridge.auth.keys import JWKS_PAUSE, JWKS_TTL, FixedKeys, RemoteKeys, Unavailable, build
from wsbridge.auth.tokens import TokenVerifier
from wsbridge.config.env import load
from wsbridge.config.settings import Settings, SettingsError
from wsbridge.core.close_codes import Refused
from wsbridge.telemetry.metrics import Metrics

REAL_SLEEP = asyncio.sleep


def built(**values: str) -> Sequence[Key]:
    """The keys of settings without a key server."""
    loaded, _ = load({f"WSBRIDGE_{name}": text for name, text in values.items()})
    keys = build(loaded, Metrics())
    assert isinstance(keys, FixedKeys)
    return asyncio.run(keys.candidates(None))


def mistake(**values: str) -> str:
    with pytest.raises(SettingsError) as caught:
        built(**values)
    (line,) = caught.value.lines
    return line


# Secrets and PEM.


def test_build_with_a_secret_allows_hmac_only() -> None:
    assert built(JWT_SECRET=SECRET) == [Key(SECRET, ("HS256", "HS384", "HS512"))]


def test_build_during_a_rotation_has_the_new_secret_first() -> None:
    assert [key.material for key in built(JWT_SECRET=SECRET, JWT_SECRET_PREVIOUS=PREVIOUS)] == [SECRET, PREVIOUS]


@pytest.mark.parametrize(
    ("key", "algorithms"),
    [(RSA_KEY, RS), *((key, (name,)) for name, key in EC_KEYS.items()), (ED_KEY, ED)],
    ids=["RSA", *EC_KEYS, "EdDSA"],
)
def test_build_with_a_public_key_derives_its_algorithms(key: Any, algorithms: tuple[str, ...]) -> None:
    (found,) = built(JWT_PUBLIC_KEY=pem(key))
    assert found.algorithms == algorithms


def test_build_with_a_pem_of_several_keys_and_comments_reads_all() -> None:
    text = f"# the old one\n{pem(RSA_KEY)}\nand\n{pem(EC_KEYS['ES256'])}{pem(ED_KEY)}"
    assert [key.algorithms for key in built(JWT_PUBLIC_KEY=text)] == [RS, ES, ED]


def test_build_with_algorithms_restricts_every_key() -> None:
    assert built(JWT_SECRET=SECRET, JWT_ALGORITHMS="HS256")[0].algorithms == ("HS256",)
    text = pem(RSA_KEY) + pem(EC_KEYS["ES256"])
    assert [key.algorithms for key in built(JWT_PUBLIC_KEY=text, JWT_ALGORITHMS="RS512,ES256")] == [("RS512",), ES]


def test_build_with_algorithms_drops_keys_without_any() -> None:
    text = pem(RSA_KEY) + pem(EC_KEYS["ES256"])
    assert [key.algorithms for key in built(JWT_PUBLIC_KEY=text, JWT_ALGORITHMS="RS256")] == [("RS256",)]


@pytest.mark.parametrize(
    "values",
    [
        {"JWT_SECRET": SECRET, "JWT_ALGORITHMS": "RS256"},
        {"JWT_SECRET": SECRET, "JWT_ALGORITHMS": "HS256,EdDSA"},
        {"JWT_PUBLIC_KEY": pem(RSA_KEY), "JWT_ALGORITHMS": "HS256"},
        {"JWT_PUBLIC_KEY": pem(RSA_KEY), "JWT_ALGORITHMS": "ES256"},
        {"JWT_JWKS_URL": "http://127.0.0.1:1/", "JWT_ALGORITHMS": "HS256"},
    ],
    ids="+".join,
)
def test_build_with_an_algorithm_of_another_family_raises(values: dict[str, str]) -> None:
    source = next(iter(values))
    line = mistake(**values)
    assert line.startswith(f"WSBRIDGE_JWT_ALGORITHMS: expected algorithms of WSBRIDGE_{source} (")
    assert line.endswith(values["JWT_ALGORITHMS"].removeprefix("HS256,"))


BAD_PEMS = {
    "a private key": RSA_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
    "cut off": pem(RSA_KEY)[:80],
    "no base64": "-----BEGIN PUBLIC KEY-----\n%%%\n-----END PUBLIC KEY-----",
    "a certificate": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
    "RSA of 1024 bits": pem(rsa.generate_private_key(65_537, 1024)),
    "an unknown curve": pem(ec.generate_private_key(ec.SECP256K1())),
    "Ed448": pem(ed448.Ed448PrivateKey.generate()),
    "DSA": pem(dsa.generate_private_key(1024)),
}


@pytest.mark.parametrize("text", BAD_PEMS.values(), ids=BAD_PEMS)
def test_build_with_an_unusable_public_key_raises(text: str) -> None:
    line = mistake(JWT_PUBLIC_KEY=text)
    assert line.startswith("WSBRIDGE_JWT_PUBLIC_KEY: expected ")
    assert "BEGIN" not in line


# A key server.


class KeyServer:
    """Serves a key set and counts the requests; `status`, `body` and `gate` make it fail."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = []
        self.hits = 0
        self.status = 200
        self.body: bytes | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        app = web.Application()
        app.router.add_get("/keys", self._answer)
        self.server = TestServer(app)

    @property
    def url(self) -> str:
        return str(self.server.make_url("/keys"))

    async def _answer(self, request: web.Request) -> web.Response:
        self.hits += 1
        await self.gate.wait()
        body = json.dumps({"keys": self.keys}).encode() if self.body is None else self.body
        return web.Response(status=self.status, body=body)


class Clock(SimpleNamespace):
    """Replaces the module `time`."""

    def __init__(self) -> None:
        super().__init__(now=1_000.0, monotonic=lambda: self.now)


@pytest.fixture
async def server() -> AsyncIterator[KeyServer]:
    server = KeyServer()
    server.keys = [jwk(RSA_KEY, "a")]
    await server.server.start_server()
    yield server
    server.gate.set()
    await server.server.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("wsbridge.auth.keys.time", clock)
    return clock


def remote(server: KeyServer, metrics: Metrics | None = None) -> RemoteKeys:
    loaded, _ = load({"WSBRIDGE_JWT_JWKS_URL": server.url})
    keys = build(loaded, metrics or Metrics())
    assert isinstance(keys, RemoteKeys)
    return keys


async def ids(keys: RemoteKeys, kid: str | None) -> list[str | None]:
    return [key.id for key in await keys.candidates(kid)]


async def test_keys_are_fetched_once_and_cached(server: KeyServer, clock: Clock) -> None:
    server.keys = [jwk(RSA_KEY, "a"), jwk(ED_KEY, "b"), jwk(EC_KEYS["ES256"])]
    keys = remote(server)
    before = keys.trouble
    assert await ids(keys, "a") == ["a", None]  # a key without an id is always a candidate
    assert (before, keys.trouble) == ("the key set has not been fetched yet", None)
    clock.now += 1_000_000
    assert await ids(keys, "b") == ["b", None]
    assert await ids(keys, None) == ["a", "b", None]
    assert server.hits == 1


@pytest.mark.fault("B3")
async def test_failed_fetch_is_logged_without_the_query(server: KeyServer) -> None:
    server.status = 503
    loaded, _ = load({"WSBRIDGE_JWT_JWKS_URL": f"{server.url}?code=hunter2"})
    keys = build(loaded, Metrics())
    assert isinstance(keys, RemoteKeys)
    with capture_logs() as lines, pytest.raises(Unavailable):
        await keys.candidates("a")
    assert [line["error"] for line in lines] == ["ClientResponseError: 503 Service Unavailable"]
    assert "hunter2" not in str(lines)


async def test_unknown_kid_causes_one_fetch_per_pause(server: KeyServer, clock: Clock) -> None:
    keys = remote(server)
    for pauses in range(1, 4):
        for _ in range(3):
            found = await asyncio.gather(*(ids(keys, f"made up {n}") for n in range(100)))
            assert found == [[]] * 100
            assert server.hits == pauses
        clock.now += JWKS_PAUSE


async def test_rotation_is_noticed_with_the_first_token_of_the_new_key(server: KeyServer, clock: Clock) -> None:
    keys = remote(server)
    assert await ids(keys, "a") == ["a"]
    server.keys = [jwk(ED_KEY, "b")]
    assert await ids(keys, "b") == []  # less than a pause after the last fetch
    clock.now += JWKS_PAUSE
    assert await ids(keys, "b") == ["b"]
    assert await ids(keys, "a") == []


async def test_current_keys_are_another_object_after_a_change_only(server: KeyServer, clock: Clock) -> None:
    """`TokenVerifier` remembers tokens while they are the same object."""
    keys = remote(server)
    await ids(keys, "a")
    before = keys.current
    for change, is_same in ((dict[str, Any](), True), ({"kid": "b"}, False)):
        server.keys = [jwk(RSA_KEY, "a") | change]
        clock.now += JWKS_PAUSE
        await ids(keys, "unknown")
        assert (keys.current is before) is is_same
    assert server.hits == 3


async def test_token_of_a_withdrawn_key_is_refused_after_the_next_fetch(server: KeyServer, clock: Clock) -> None:
    keys = remote(server)
    verifier, text = TokenVerifier(keys, Settings()), token(key=RSA_KEY, algorithm="RS256")
    assert (await verifier.verify(text)).user == "u1"
    server.keys = [jwk(ED_KEY, "b")]
    clock.now += JWKS_PAUSE
    await ids(keys, "b")
    with pytest.raises(Refused):
        await verifier.verify(text)


FAULTS: dict[str, dict[str, Any]] = {
    "500": {"status": 500},
    "404": {"status": 404},
    "not JSON": {"body": b"<html>"},
    "not a key set": {"body": b"[]"},
    "bad UTF-8": {"body": b'{"keys":["\xff"]}'},
    "nested deeply": {"body": b'{"keys":' + b"[" * 100_000 + b"]" * 100_000 + b"}"},
    "larger than 1 MiB": {"body": b'{"keys":[' + b" " * 1_048_576 + b"]}"},
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_failed_fetch_keeps_the_old_keys(fault: dict[str, Any], server: KeyServer, clock: Clock) -> None:
    keys = remote(server)
    await ids(keys, "a")
    vars(server).update(fault)
    clock.now += JWKS_PAUSE
    assert await ids(keys, "unknown") == []
    assert server.hits == 2
    assert await ids(keys, "a") == ["a"]


@pytest.mark.fault("G3")
@pytest.mark.parametrize(
    ("keys", "why"),
    [([], "it is empty"), ([jwk(RSA_KEY, "e", use="enc")], "e: its use is 'enc', not 'sig'")],
    ids=["empty", "useless"],
)
async def test_key_set_without_a_usable_key_is_unavailable_with_the_reason(
    keys: list[dict[str, Any]], why: str, server: KeyServer, clock: Clock
) -> None:
    source = remote(server)
    assert await ids(source, "a") == ["a"]
    before = source.trouble
    server.keys = keys
    clock.now += JWKS_PAUSE
    with pytest.raises(Unavailable, match=re.escape(f"no usable key ({why})")):
        await ids(source, "unknown")
    assert (before, source.trouble) == (None, f"the key set has no usable key ({why})")
    with pytest.raises(Unavailable):
        await ids(source, "a")


@pytest.mark.fault("G3")
async def test_key_set_without_a_withdrawn_key_refuses_its_tokens_only(server: KeyServer, clock: Clock) -> None:
    server.keys = [jwk(RSA_KEY, "a"), jwk(ED_KEY, "b")]
    source = remote(server)
    assert await ids(source, "a") == ["a"]
    server.keys = [jwk(ED_KEY, "b")]
    clock.now += JWKS_PAUSE
    assert await ids(source, "unknown") == []
    assert await ids(source, "a") == []
    assert await ids(source, "b") == ["b"]


@pytest.mark.fault("G5")
async def test_key_set_is_fetched_through_the_proxy_of_the_environment(
    server: KeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host name does not resolve. Only a proxy can answer for it, here the key server itself."""
    monkeypatch.setenv("HTTP_PROXY", server.url.removesuffix("/keys"))
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    source = RemoteKeys("http://keys.invalid/keys", (), Metrics())
    assert await ids(source, "a") == ["a"]


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_candidates_without_any_key_raise_unavailable(fault: dict[str, Any], server: KeyServer) -> None:
    vars(server).update(fault)
    keys = remote(server)
    for kid in ("a", None):
        with pytest.raises(Unavailable):
            await keys.candidates(kid)
    assert keys.trouble is not None
    assert server.hits == 1


async def test_fetch_from_a_server_that_starts_late_is_retried(server: KeyServer, clock: Clock) -> None:
    server.status = 503
    keys = remote(server)
    with pytest.raises(Unavailable):
        await keys.candidates("a")
    server.status = 200
    clock.now += JWKS_PAUSE
    assert await ids(keys, "a") == ["a"]


async def test_fetch_from_a_server_that_is_down_raises_unavailable(server: KeyServer, clock: Clock) -> None:
    keys = remote(server)
    await ids(keys, "a")
    await server.server.close()
    clock.now += JWKS_PAUSE
    assert await ids(keys, "unknown") == []
    assert await ids(keys, "a") == ["a"]


async def test_fetch_from_a_server_that_hangs_times_out(server: KeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsbridge.auth.keys.JWKS_TIMEOUT", 0.05)
    server.gate.clear()
    with pytest.raises(Unavailable):
        await remote(server).candidates("a")


async def test_candidates_with_a_known_kid_do_not_wait_for_a_fetch(server: KeyServer, clock: Clock) -> None:
    keys = remote(server)
    await ids(keys, "a")
    server.gate.clear()
    clock.now += JWKS_PAUSE
    waiting = asyncio.create_task(ids(keys, "unknown"))
    await until(lambda: server.hits == 2)
    assert await ids(keys, "a") == ["a"]
    assert not waiting.done()
    server.gate.set()
    assert await waiting == []


async def test_cancelled_caller_does_not_end_the_shared_fetch(server: KeyServer) -> None:
    server.gate.clear()
    keys = remote(server)
    impatient, patient = asyncio.create_task(ids(keys, "a")), asyncio.create_task(ids(keys, "a"))
    await until(lambda: server.hits == 1)
    impatient.cancel()
    server.gate.set()
    assert await patient == ["a"]
    assert server.hits == 1


async def test_keys_are_refreshed_in_the_background(server: KeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wsbridge.auth.keys.JWKS_TTL", 0)
    monkeypatch.setattr("wsbridge.auth.keys.JWKS_PAUSE", 0)
    keys = remote(server)
    job = asyncio.create_task(keys.refresh())
    await until(lambda: keys.trouble is None)
    server.status = 500
    hits = server.hits
    await until(lambda: server.hits > hits + 2)  # a failure does not end the refresh
    server.status, server.keys = 200, [jwk(ED_KEY, "b")]
    hits = server.hits
    await until(lambda: server.hits > hits + 2)
    assert await ids(keys, "b") == ["b"]
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job


async def test_refresh_after_a_failure_is_sooner_than_after_a_success(
    server: KeyServer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        clock.now += seconds
        server.status = 200 if len(slept) > 1 else 503
        await REAL_SLEEP(0)

    monkeypatch.setattr("wsbridge.auth.keys.asyncio.sleep", sleep)
    server.status = 503
    job = asyncio.create_task(remote(server).refresh())
    while len(slept) < 4:
        await REAL_SLEEP(0)
    job.cancel()
    await asyncio.gather(job, return_exceptions=True)
    assert slept[:4] == [JWKS_PAUSE, JWKS_PAUSE, JWKS_TTL, JWKS_TTL]


async def test_fetch_is_logged_without_the_password_of_the_url(server: KeyServer, clock: Clock) -> None:
    metrics = Metrics()
    loaded, _ = load({"WSBRIDGE_JWT_JWKS_URL": server.url.replace("//", "//bridge:hunter2@")})
    keys = build(loaded, metrics)
    with capture_logs() as lines:
        await keys.candidates("a")
        server.status = 500
        clock.now += JWKS_PAUSE
        await keys.candidates("b")
    assert [(line["event"], line["log_level"], line["keys"]) for line in lines] == [
        ("jwks.fetched", "info", 1),
        ("jwks.failed", "warning", 1),
    ]
    assert "hunter2" not in str(lines)
    assert metrics.errors["jwks"] == 1
