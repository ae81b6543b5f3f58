"""The page at `/`: the demo page in development and demo mode only."""

import pytest

from tests.support.running import SECRET, Running, Start


async def test_index_in_development_is_the_demo_page(bridge: Running) -> None:
    async with bridge.http.get(bridge.url) as response:
        assert (response.status, response.content_type, response.charset) == (200, "text/html", "utf-8")
        assert response.headers["Cache-Control"] == "no-store"
        page = await response.text()
    assert page.lower().startswith("<!doctype html>")
    assert "{{" not in page


@pytest.mark.fault("A6")
async def test_index_in_demo_mode_is_the_demo_page_on_any_host(start: Start) -> None:
    bridge = await start(HOST="0.0.0.0", AUTH="none", DEMO="true")
    status, page = await bridge.get("/", Host="bridge.example.com:9000")
    assert status == 200
    assert page.lower().startswith("<!doctype html>")


@pytest.mark.fault("A6")
@pytest.mark.parametrize("settings", [{"JWT_SECRET": SECRET}, {"HOST": "0.0.0.0", "AUTH": "none"}], ids=str)
async def test_index_without_a_demo_page_is_a_404_with_a_sentence(start: Start, settings: dict[str, str]) -> None:
    bridge = await start(**settings)
    async with bridge.http.get(bridge.url, headers={"Host": "bridge.example.com"}) as response:
        assert (response.status, response.content_type) == (404, "text/plain")
        text = await response.text()
    assert text.startswith("This is wsbridge")
    assert "WSBRIDGE_DEMO=true" in text
    assert text.count("\n") == 1


async def test_index_of_the_public_port_names_the_internal_one(start: Start) -> None:
    bridge = await start(INTERNAL_PORT="0")
    status, text = await bridge.get("/")
    assert status == 404
    assert "WSBRIDGE_INTERNAL_PORT" in text
