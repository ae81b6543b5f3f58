"""The files of the console's page: nothing inline, nothing from outside."""

import re

import pytest

from tests.support.running import ADMIN_TOKEN, ROOT, SECRET, Running, Start

FILES = {"/console": "text/html", "/console/console.js": "text/javascript", "/console/console.css": "text/css"}
SOURCE = ROOT / "wsbridge" / "web" / "static" / "console"


@pytest.mark.parametrize(("path", "content_type"), FILES.items())
async def test_page_is_served_with_a_strict_policy(start: Start, path: str, content_type: str) -> None:
    bridge = await start(JWT_SECRET=SECRET, INTERNAL_PORT="0")
    async with bridge.http.get(f"http://127.0.0.1:{bridge.server.ports[1]}{path}") as response:
        assert (response.status, response.content_type) == (200, content_type)
        policy = dict(part.strip().split(" ", 1) for part in response.headers["Content-Security-Policy"].split(";"))
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert ADMIN_TOKEN not in await response.text()
    assert (policy["default-src"], policy["script-src"], policy["style-src"]) == ("'none'", "'self'", "'self'")
    assert (policy["frame-ancestors"], policy["require-trusted-types-for"]) == ("'none'", "'script'")
    assert "unsafe" not in str(policy)
    assert (await bridge.get(path))[0] == 404  # of the public port


@pytest.mark.parametrize(("settings", "needs"), [({}, ""), ({"ADMIN_TOKEN": "a" * 16}, "yes")])
async def test_page_says_whether_a_token_is_needed(start: Start, settings: dict[str, str], needs: str) -> None:
    bridge = await start(**settings)
    assert f'name="wsbridge-needs-token" content="{needs}"' in (await bridge.get("/console"))[1]


async def test_page_loads_nothing_from_outside(bridge: Running) -> None:
    for path in FILES:
        text = (await bridge.get(path))[1]
        text = re.sub(r"data:image/svg\+xml[^\"]*|http://www\.w3\.org/2000/svg", "", text)
        assert re.findall(r"https?://|//cdn|@import|\burl\(", text) == []
        assert "{{" not in text


def test_page_has_no_inline_code_or_style_and_makes_no_markup_of_text() -> None:
    html = (SOURCE / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"<style|<script(?![^>]* src=)|\son\w+=|\sstyle=", html) == []
    for path in SOURCE.glob("*.js"):
        source = path.read_text(encoding="utf-8")
        assert re.findall(r"(?:inner|outer|Adjacent)HTML|\.write\(|eval\(|Function\(|Storage", source) == []
