"""Static content at `/`: the demo page, or a sentence about the service."""

import html
import re
import sys
from collections.abc import Callable
from functools import partial
from importlib.resources import files

from aiohttp import hdrs, web

from wsbridge.config.settings import Settings
from wsbridge.web.client_bundle import bundle
from wsbridge.web.quickstart import program, topic_option

_STATIC = files("wsbridge.web").joinpath("static")


class FrontHandler:
    """`GET /`: the demo page on a port with the internal routes, elsewhere 404 with one sentence about the service."""

    def __init__(self, settings: Settings, *, internal: bool) -> None:
        has_demo = settings.development or settings.demo
        self._response = _demo_page(settings) if has_demo and internal else _sentence(has_demo=has_demo)

    async def page(self, request: web.Request) -> web.Response:
        return self._response()


def _demo_page(settings: Settings) -> Callable[[], web.Response]:
    public_port = str(settings.port) if settings.internal_port is not None else ""  # empty: that of the page
    folder = _STATIC.joinpath("demo")
    parts = {
        "STYLE": folder.joinpath("demo.css").read_text(encoding="utf-8"),
        "SCRIPT": bundle(folder, "demo"),
        "PUBLIC_PORT": public_port,
        "COMMAND": html.escape(program(sys.argv[0])),
        "TOPICS": ",".join(map("=".join, settings.topics)),  # of words, `=` and `,`, which need no escape
        "TOPIC_OPTION": topic_option(settings.topics[0][0]),
    }
    page = folder.joinpath("index.html").read_text(encoding="utf-8")
    page = re.sub(r"\{\{([A-Z_]+)\}\}", lambda name: parts[name[1]], page)
    return partial(web.Response, text=page, content_type="text/html", headers={hdrs.CACHE_CONTROL: "no-store"})


def _sentence(*, has_demo: bool) -> Callable[[], web.Response]:
    demo = (
        "its demo page is on the port of WSBRIDGE_INTERNAL_PORT"
        if has_demo
        else "to try it out with a demo page, set WSBRIDGE_AUTH=none and WSBRIDGE_DEMO=true"
    )
    text = f"This is wsbridge, which sends a user's events to that user's browsers, at /ws and /sse; {demo}.\n"
    return partial(web.Response, status=404, text=text)
