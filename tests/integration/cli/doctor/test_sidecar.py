"""`wsbridge doctor` and a stand-in for a sidecar. `tests/e2e/test_doctor.py` has the real one."""

import pytest
from aiohttp import web

from tests.support.doctor import FAILURE, NOT_CHECKED, NOWHERE, OK, WARNING, StandIn, found
from tests.support.running import SECRET

PRODUCTION = {"JWT_SECRET": SECRET}
CHECKS = ("sidecar", "sidecar-version", "api-token", "app-token", "component", "subscription")


async def test_checks_of_a_healthy_sidecar_are_ok() -> None:
    async with StandIn() as sidecar:
        for check in CHECKS:
            finding = await found(check, PRODUCTION, sidecar=sidecar.url)
            assert finding.state is OK, (check, finding)


async def test_sidecar_that_does_not_run_fails_outside_of_development_mode_only() -> None:
    finding = await found("sidecar", PRODUCTION, sidecar=NOWHERE)
    assert (finding.state, "--dapr, another port with DAPR_HTTP_PORT" in finding.cure) == (FAILURE, True)
    finding = await found("sidecar", sidecar=NOWHERE)
    assert (finding.state, "--dapr, another port with DAPR_HTTP_PORT" in finding.text) == (NOT_CHECKED, True)
    demo = {"HOST": "0.0.0.0", "AUTH": "none", "DEMO": "true"}
    assert (await found("sidecar", demo, sidecar=NOWHERE)).state is NOT_CHECKED
    for check in CHECKS[1:]:
        assert (await found(check, PRODUCTION, sidecar=NOWHERE)).state is NOT_CHECKED
        assert "--dapr" in (await found(check, PRODUCTION)).text


async def test_sidecar_that_is_another_server_fails() -> None:
    async with StandIn() as other:
        assert (await found("sidecar", PRODUCTION, sidecar=f"{other.url}/elsewhere")).state is FAILURE


@pytest.mark.parametrize(
    ("version", "faults"),
    [("1.18.3", []), ("1.18.2", ["traceid"]), ("1.17.9", ["SIGTERM", "traceid"]), ("1.16.0-rc.1", ["bulk"])],
)
async def test_sidecar_version_with_known_faults_warns_and_names_them(version: str, faults: list[str]) -> None:
    async with StandIn(runtimeVersion=version) as sidecar:
        finding = await found("sidecar-version", PRODUCTION, sidecar=sidecar.url)
    assert finding.state is (WARNING if faults else OK)
    assert all(fault in finding.text for fault in faults)


async def test_sidecar_version_that_is_unknown_is_not_checked() -> None:
    async with StandIn(runtimeVersion="edge") as sidecar:
        assert (await found("sidecar-version", sidecar=sidecar.url)).state is NOT_CHECKED


async def test_api_token_that_differs_fails_without_printing_it() -> None:
    async with StandIn() as sidecar:
        sidecar.api_token = "what the sidecar requires"
        assert (await found("api-token", sidecar=sidecar.url)).state is FAILURE
        finding = await found("api-token", sidecar=sidecar.url, api_token="another-one")
        assert (finding.state, "another-one" in finding.text + finding.cure) == (FAILURE, False)
        assert (await found("api-token", sidecar=sidecar.url, api_token=sidecar.api_token)).state is OK


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (web.HTTPUnauthorized, "sends no APP_API_TOKEN"),
        (web.HTTPForbidden, "the bridge refuses the sidecar"),
        (web.HTTPNotFound, "the app-port 8005 does not serve"),
        (web.HTTPInternalServerError, "gets no answer at its app-port 8005 (500)"),
    ],
)
async def test_app_token_explains_each_answer(status: type[web.HTTPException], text: str) -> None:
    async with StandIn() as sidecar:
        sidecar.invoked = status
        finding = await found("app-token", sidecar=sidecar.url)
    assert (finding.state, text in finding.text) == (FAILURE, True)
    if status is web.HTTPUnauthorized:
        assert "Restart the one whose value you change, and the sidecar in any case" in finding.cure


async def test_component_that_is_not_loaded_or_in_memory_is_found() -> None:
    async with StandIn(components=[]) as sidecar:
        finding = await found("component", sidecar=sidecar.url)
        assert (finding.state, "add websocket-service to its scopes" in finding.cure) == (FAILURE, True)
        sidecar.metadata["components"] = [{"name": "pubsub-kafka", "type": "pubsub.in-memory"}]
        assert (await found("component", sidecar=sidecar.url)).state is WARNING


async def test_subscription_that_is_missing_fails_and_names_the_topic() -> None:
    async with StandIn() as sidecar:
        finding = await found("subscription", {"TOPICS": "task-updates=a,orders=b"}, sidecar=sidecar.url)
        assert (finding.state, "not subscribed to orders of" in finding.text) == (FAILURE, True)


@pytest.mark.parametrize(
    ("status", "state", "text"),
    [
        (204, OK, "the scopes of pubsub-kafka let the bridge publish receipts to receipts/1"),
        (403, FAILURE, "the scopes of pubsub-kafka forbid the bridge to publish receipts to receipts/1"),
        (404, NOT_CHECKED, "the sidecar answers 404 to an empty bulk for receipts/1: see component and api-token"),
    ],
)
async def test_receipts_explains_each_answer(status: int, state: str, text: str) -> None:
    async with StandIn() as sidecar:
        sidecar.published = status
        finding = await found("receipts", {"RECEIPTS_TOPIC": "receipts/1"}, sidecar=sidecar.url)
        assert (await found("receipts", sidecar=sidecar.url)).text == "WSBRIDGE_RECEIPTS_TOPIC is not set"
    assert (finding.state, finding.text) == (state, text)


async def test_invocation_by_another_app_that_succeeds_fails() -> None:
    async with StandIn() as sidecar:

        async def state() -> str:
            return (await found("invocation", sidecar=sidecar.url, caller=sidecar.url)).state

        assert await state() == FAILURE
        sidecar.invoked = web.HTTPForbidden
        assert await state() == NOT_CHECKED  # an answer of the bridge
        sidecar.text = "access control policy has denied access"
        assert await state() == OK
        assert (await found("invocation", sidecar=sidecar.url)).state is NOT_CHECKED
        assert (await found("invocation", sidecar=sidecar.url, caller=NOWHERE)).state is NOT_CHECKED
