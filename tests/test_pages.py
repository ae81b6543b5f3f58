"""The demo page is there in development mode only."""

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


@pytest.mark.parametrize("settings", [{"JWT_SECRET": SECRET}, {"HOST": "0.0.0.0", "AUTH": "none"}])
async def test_else_there_is_none(start: Start, settings: dict[str, str]) -> None:
    bridge = await start(**settings)
    assert (await bridge.get("/"))[0] == 404
