"""Tokens of Keycloak, Auth0 and Microsoft Entra ID, as docs/identity.md describes them: accepted, and refused."""

from collections.abc import Callable
from typing import NamedTuple

import pytest

from tests.support.doctor import found
from tests.support.identity import DISCOVERY, KEYS, Provider
from tests.support.logs import Logs
from tests.support.running import Running, Start, closed, connect, data_of, receive

SECRET = "s" * 64
OTHER_TENANT = "https://login.microsoftonline.com/0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9/v2.0"
providers = pytest.mark.parametrize("name", DISCOVERY)


class Trap(NamedTuple):
    """A token that must be refused; `doctor` is what `wsbridge doctor` finds in it."""

    token: Callable[[Provider], str]
    doctor: str
    issuer: str = ""  # instead of the documented setting


# What the log says → how it comes about. These are the rows of the document's tables.
TRAPS = {
    "Keycloak": {
        "claim aud is 'account'": Trap(lambda p: p.token(aud="account"), "its aud is account, but"),
        "no claim aud": Trap(lambda p: p.token(aud=None), "it has no aud, but"),
        "claim aud is 'web'": Trap(lambda p: p.token(aud="web", typ="ID"), "its aud is web, but"),
        "claim iss is 'http://keycloak:8080/realms/acme'": Trap(
            lambda p: p.token(iss="http://keycloak:8080/realms/acme"),
            "its iss is http://keycloak:8080/realms/acme, but",
        ),
        "claim sub is missing": Trap(lambda p: p.token(sub=None), "it has no sub, but WSBRIDGE_JWT_USER_CLAIM"),
        "no key for the token's alg 'HS512'": Trap(
            lambda p: p.token({"alg": "HS512", "kid": "a"}, SECRET, typ="Refresh"), "its alg is HS512, but"
        ),
    },
    "Auth0": {
        "the token is encrypted (JWE)": Trap(Provider.opaque_token, "the token is encrypted (JWE)"),
        "claim iss is 'https://acme.eu.auth0.com/'": Trap(
            Provider.token, "its iss is https://acme.eu.auth0.com/, but", issuer="https://acme.eu.auth0.com"
        ),
        "claim iss is 'https://login.example.com/'": Trap(
            lambda p: p.token(iss="https://login.example.com/"), "its iss is https://login.example.com/, but"
        ),
        "claim aud is 'q3Zk1XcW8uVt5RsYp0LmNaBd7EfGhJ2K'": Trap(
            lambda p: p.token(aud=p.claims["azp"]),
            "its aud is q3Zk1XcW8uVt5RsYp0LmNaBd7EfGhJ2K, but",
        ),
        "alg 'HS256' is not allowed": Trap(
            lambda p: p.token({"alg": "HS256", "kid": None}, SECRET), "its alg is HS256, but"
        ),
    },
    "Microsoft Entra ID": {
        "claim iss is 'https://sts.windows.net/8d3f1c52-7a0b-4e5d-9c61-2f4b8a90d7e3/'": Trap(
            lambda p: p.token(iss=f"https://sts.windows.net/{p.claims['tid']}/", aud="api://acme-events", ver="1.0"),
            "its aud is api://acme-events, but",
        ),
        "its header has a nonce": Trap(Provider.token_for_graph, "its header has a nonce"),
        "claim aud is 'c6d4e2f0-18a9-4b37-8f5e-0d1c2b3a4958'": Trap(
            lambda p: p.token(aud=p.claims["azp"]), "its aud is c6d4e2f0-18a9-4b37-8f5e-0d1c2b3a4958, but"
        ),
        f"claim iss is '{OTHER_TENANT}'": Trap(lambda p: p.token(iss=OTHER_TENANT), f"its iss is {OTHER_TENANT}, but"),
        "no key for the token's alg 'RS256'": Trap(
            lambda p: p.token({"kid": "of the API"}, KEYS[1]), "its aud, iss, alg and exp fit the settings"
        ),
    },
}


async def connected(bridge: Running, text: str) -> str:
    """The user of a session that this token opens, over WebSocket."""
    ws = await connect(bridge, protocols=("wsbridge.v1", f"bearer.{text}"))
    return str((await receive(ws))["user_id"])


@providers
async def test_access_token_of_the_documented_shape_connects_by_both_transports(start: Start, name: str) -> None:
    async with Provider(name) as provider:
        documented = (provider.documented["JWT_ISSUER"], provider.documented["JWT_JWKS_URL"])
        assert documented == tuple(DISCOVERY[name].values())
        bridge = await start(**provider.settings)
        text = provider.token()
        ws = await connect(bridge, protocols=("wsbridge.v1", f"bearer.{text}"), query={"user_id": provider.user})
        assert (await receive(ws))["user_id"] == provider.user
        async with bridge.http.get(f"{bridge.url}/sse", params={"token": text}) as stream:
            assert (await data_of(stream))["user_id"] == provider.user
            assert await bridge.publish({"user_id": provider.user, "n": 1}) == "SUCCESS"
            assert (await data_of(stream))["event"] == (await receive(ws))["event"]
            status, shown = await bridge.get(f"/user?user_id={provider.user.replace('|', '%7C')}")
            assert (status, len(shown["sessions"])) == (200, 2)


@providers
async def test_token_of_a_new_key_connects_and_of_the_withdrawn_one_is_refused(
    start: Start, logs: Logs, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("wsbridge.auth.keys.JWKS_PAUSE", 0.0)
    async with Provider(name) as provider:
        bridge = await start(**provider.settings)
        old = provider.token()
        assert await connected(bridge, old) == provider.user
        provider.rotate()
        assert await connected(bridge, provider.token()) == provider.user
        assert await closed(await connect(bridge, query={"token": old})) == (4401, "token_invalid")
        assert "has no key for the token's alg 'RS256'" in (await logs.line("auth.failed"))["why"]


@providers
async def test_token_that_is_not_for_the_bridge_is_refused_with_the_documented_reason(
    start: Start, logs: Logs, name: str
) -> None:
    async with Provider(name) as provider:
        assert list(TRAPS[name]) == provider.reasons
        for reason, trap in TRAPS[name].items():
            settings = provider.settings | ({"JWT_ISSUER": trap.issuer} if trap.issuer else {})
            bridge = await start(**settings)
            text, seen = trap.token(provider), len(logs.of("auth.failed"))
            assert await closed(await connect(bridge, query={"token": text})) == (4401, "token_invalid")
            async with bridge.http.get(f"{bridge.url}/sse", params={"token": text}) as answer:
                assert answer.status == 401
            whys = [line["why"] for line in logs.of("auth.failed")[seen:]]
            assert [reason in why for why in whys] == [True, True], whys
            finding = await found("websocket", settings, public_url=bridge.url, token=text)
            assert trap.doctor in finding.text


async def test_user_id_of_another_claim_is_refused_with_the_users_claim(start: Start, logs: Logs) -> None:
    """A page that knows its user by Entra's `oid`, and a bridge that takes `sub`, which differs in each application."""
    async with Provider("Microsoft Entra ID") as provider:
        bridge = await start(**provider.settings | {"JWT_USER_CLAIM": "sub"})
        assert await connected(bridge, provider.token()) == provider.claims["sub"]
        query = {"token": provider.token(), "user_id": provider.claims["oid"]}
        assert (await closed(await connect(bridge, query=query)))[1] == "user_mismatch"
        assert provider.claims["oid"] in (await logs.line("auth.failed"))["why"]
