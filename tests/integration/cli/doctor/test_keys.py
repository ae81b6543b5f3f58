"""`wsbridge doctor` and key servers that are wrong on purpose."""

import time
from collections.abc import Sequence
from email.utils import formatdate
from typing import Any

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support.doctor import FAILURE, NOT_CHECKED, OK, WARNING, found
from tests.support.key_material import EC_KEYS, RSA_KEY, jwk
from tests.support.running import Served

GOOD, FOR_ENCRYPTION = jwk(RSA_KEY, "good"), jwk(EC_KEYS["ES256"], "other", use="enc")

SHORT = jwk(rsa.generate_private_key(65_537, 1024), "short")


class KeyServer(Served):
    """Serves `keys`; its clock is `ahead` by some seconds."""

    def __init__(self, *keys: Any, ahead: float = 0.0) -> None:
        self.keys = keys
        self.ahead = ahead

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return (web.get("/jwks", self._jwks),)

    async def _jwks(self, _: web.Request) -> web.Response:
        date = formatdate(time.time() + self.ahead, usegmt=True)
        return web.json_response({"keys": self.keys}, headers={"Date": date})

    @property
    def settings(self) -> dict[str, str]:
        return {"JWT_JWKS_URL": f"http://127.0.0.1:{self.port}/jwks?key=open-sesame"}


@pytest.mark.parametrize(
    ("keys", "state", "text"),
    [
        ([GOOD], OK, "usable keys: 1"),
        ([GOOD, FOR_ENCRYPTION], OK, "usable keys: 1, not for signatures: 1"),
        ([GOOD, FOR_ENCRYPTION, SHORT], WARNING, "short: its type, curve or size is not supported"),
        ([FOR_ENCRYPTION], FAILURE, "the key set has no usable key (other: its use is 'enc'"),
        ([], FAILURE, "it is empty"),
    ],
)
async def test_jwks_names_keys_that_are_not_usable(keys: list[Any], state: str, text: str) -> None:
    async with KeyServer(*keys) as server:
        finding = await found("jwks", server.settings)
    assert (finding.state, text in finding.text) == (state, True), finding
    assert "remove" not in finding.cure  # the only key cannot be removed, and one that signs nothing may stay


async def test_jwks_without_a_key_of_an_allowed_algorithm_names_the_setting() -> None:
    async with KeyServer(GOOD) as server:
        finding = await found("jwks", server.settings | {"JWT_ALGORITHMS": "ES256"})
        assert (finding.state, "WSBRIDGE_JWT_ALGORITHMS" in finding.cure) == (FAILURE, True), finding
    async with KeyServer(FOR_ENCRYPTION) as server:
        finding = await found("jwks", server.settings)
        assert ("let the issuer add a key" in finding.cure, "ALGORITHMS" in finding.cure) == (True, False), finding


async def test_jwks_that_cannot_be_fetched_fails_without_printing_the_query() -> None:
    async with KeyServer() as server:
        missing = {"JWT_JWKS_URL": server.settings["JWT_JWKS_URL"].replace("jwks", "nowhere")}
        finding = await found("jwks", missing)
        assert (finding.state, "404" in finding.text) == (FAILURE, True)
        assert (await found("jwks-clock", missing)).state is NOT_CHECKED
    gone = await found("jwks", server.settings)
    assert gone.state is FAILURE
    assert "open-sesame" not in finding.text + gone.text


async def test_jwks_checks_without_a_url_are_not_checked() -> None:
    for check in ("jwks", "jwks-clock"):
        assert (await found(check)).state is NOT_CHECKED


@pytest.mark.parametrize(("ahead", "state"), [(0, OK), (300, FAILURE), (-300, FAILURE)])
async def test_jwks_clock_that_differs_by_more_than_the_leeway_fails(ahead: float, state: str) -> None:
    async with KeyServer(GOOD, ahead=ahead) as server:
        assert (await found("jwks-clock", server.settings)).state == state
