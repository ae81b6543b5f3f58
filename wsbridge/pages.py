"""What a browser is given: the client as a module, and at `/` the demo page or a sentence that says what this is."""

import hashlib
from importlib.resources import files

from aiohttp import ETag, hdrs, web

from wsbridge.bundle import bundle

_STATIC = files("wsbridge").joinpath("static")


class ClientDoor:
    """`GET /client.js`, for pages of any origin: there is no secret in it, and nothing of a user."""

    def __init__(self) -> None:
        self._text = bundle(_STATIC.joinpath("client"), "client")
        self._etag = ETag(hashlib.sha256(self._text.encode()).hexdigest()[:32], is_weak=True)  # weak: compressed or not

    async def module(self, request: web.Request) -> web.Response:
        response = web.Response(content_type="text/javascript", charset="utf-8")
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = "*"
        response.headers[hdrs.CACHE_CONTROL] = "no-cache"  # asked for again each time, so that a deploy is seen at once
        response.headers[hdrs.VARY] = hdrs.ACCEPT_ENCODING
        response.etag = self._etag
        known = request.if_none_match or ()
        if any(etag.value in (self._etag.value, "*") for etag in known):
            response.set_status(304)
        else:
            response.text = self._text
            response.enable_compression()
        return response


class FrontDoor:
    """`GET /` where there is no demo page. 404, since nothing is there to be used."""

    def __init__(self, text: str) -> None:
        self._text = text

    async def sentence(self, request: web.Request) -> web.Response:
        return web.Response(status=404, text=self._text + "\n")


class PagesDoor:
    """`public_port` is where /ws is, as text; empty where the page is on the same port."""

    def __init__(self, *, public_port: str) -> None:
        page = _STATIC.joinpath("demo.html").read_text(encoding="utf-8")
        self._demo = page.replace("{{PUBLIC_PORT}}", public_port)

    async def demo(self, request: web.Request) -> web.Response:
        return web.Response(text=self._demo, content_type="text/html", headers={hdrs.CACHE_CONTROL: "no-store"})
