"""What pages are given: the client always, the demo page only to try it out."""

import pytest

from tests.conftest import Start
from tests.support import SECRET, Running


async def test_the_demo_page_in_development_mode(bridge: Running) -> None:
    async with bridge.http.get(bridge.url) as response:
        assert (response.status, response.content_type, response.charset) == (200, "text/html", "utf-8")
        assert response.headers["Cache-Control"] == "no-store"
        page = await response.text()
    assert page.lower().startswith("<!doctype html>")
    assert "{{" not in page


@pytest.mark.fault("A6")
async def test_front_with_demo_set_is_the_demo_page_on_any_host(start: Start) -> None:
    bridge = await start(HOST="0.0.0.0", AUTH="none", DEMO="true")
    status, page = await bridge.get("/", Host="bridge.example.com:9000")
    assert status == 200
    assert page.lower().startswith("<!doctype html>")


@pytest.mark.fault("A6")
@pytest.mark.parametrize("settings", [{"JWT_SECRET": SECRET}, {"HOST": "0.0.0.0", "AUTH": "none"}], ids=str)
async def test_front_without_a_demo_page_says_what_this_is(start: Start, settings: dict[str, str]) -> None:
    bridge = await start(**settings)
    async with bridge.http.get(bridge.url, headers={"Host": "bridge.example.com"}) as response:
        assert (response.status, response.content_type) == (404, "text/plain")
        text = await response.text()
    assert text.startswith("This is wsbridge")
    assert "WSBRIDGE_DEMO=true" in text
    assert text.count("\n") == 1


async def test_front_of_the_public_port_says_where_the_demo_page_is(start: Start) -> None:
    bridge = await start(INTERNAL_PORT="0")
    status, text = await bridge.get("/")
    assert status == 404
    assert "WSBRIDGE_INTERNAL_PORT" in text


async def test_the_client_is_for_pages_of_any_origin(start: Start) -> None:
    bridge = await start(JWT_SECRET=SECRET, INTERNAL_PORT="0")
    async with bridge.http.get(f"{bridge.url}/client.js", headers={"Origin": "https://elsewhere.example"}) as response:
        assert (response.status, response.content_type, response.charset) == (200, "text/javascript", "utf-8")
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert response.headers["Content-Encoding"] in ("gzip", "deflate")
        assert "export function createClient" in await response.text()


async def test_a_browser_that_has_the_client_is_not_sent_it_again(bridge: Running) -> None:
    url = f"{bridge.url}/client.js"
    async with bridge.http.get(url) as first:
        etag = first.headers["ETag"]
        assert first.headers["Cache-Control"] == "no-cache"
    for known in (etag, f'"other", {etag}', "*"):
        async with bridge.http.get(url, headers={"If-None-Match": known}) as again:
            assert (again.status, await again.read(), again.headers["ETag"]) == (304, b"", etag)
    async with bridge.http.get(url, headers={"If-None-Match": '"other"'}) as changed:
        assert changed.status == 200
