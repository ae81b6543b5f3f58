"""Static content for browsers: the client module, and at `/` the demo page or a sentence about the service."""

import gzip
import hashlib
import html
import re
import sys
from collections.abc import Callable
from functools import partial
from importlib.resources import files

from aiohttp import ETag, hdrs, web

from wsbridge.config.settings import Settings
from wsbridge.web.client_bundle import bundle
from wsbridge.web.quickstart import program

_STATIC = files("wsbridge.web").joinpath("static")


class ClientModuleHandler:
    """`GET /client.js`, for pages of any origin, since it contains no secrets and no user data.

    It is compressed once at the start. Each representation has its own strong ETag (RFC 9110 §8.8.1).
    """

    def __init__(self) -> None:
        text = bundle(_STATIC.joinpath("client"), "client").encode()
        bodies = {"": text, "gzip": gzip.compress(text, 9, mtime=0)}
        self._representations = {
            encoding: (body, ETag(hashlib.sha256(body).hexdigest()[:32])) for encoding, body in bodies.items()
        }

    async def module(self, request: web.Request) -> web.Response:
        encoding = "gzip" if accepts_gzip(request.headers.get(hdrs.ACCEPT_ENCODING, "")) else ""
        body, tag = self._representations[encoding]
        response = web.Response(content_type="text/javascript", charset="utf-8")
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = "*"
        response.headers[hdrs.CACHE_CONTROL] = "no-cache"  # revalidate each time: a new version is used at once
        response.headers[hdrs.VARY] = hdrs.ACCEPT_ENCODING
        response.etag = tag
        if any(etag.value in (tag.value, "*") for etag in request.if_none_match or ()):
            response.set_status(304)
            return response
        response.body = body
        if encoding:
            response.headers[hdrs.CONTENT_ENCODING] = encoding
        return response


def accepts_gzip(header: str) -> bool:
    """Whether an `Accept-Encoding` header accepts gzip (RFC 9110 §12.5.3): by name or by `*`, and not with `q=0`."""
    weights = {}
    for part in header.lower().split(","):
        coding, _, parameter = part.partition(";")
        weights[coding.strip()] = re.fullmatch(r"\s*q\s*=\s*0(\.0*)?\s*", parameter) is None
    return weights.get("gzip", weights.get("x-gzip", weights.get("*", False)))


class FrontHandler:
    """`GET /`: the demo page on a port with the internal routes, elsewhere 404 with one sentence about the service."""

    def __init__(self, settings: Settings, *, internal: bool) -> None:
        has_demo = settings.development or settings.demo
        self._response = _demo_page(settings) if has_demo and internal else _sentence(has_demo=has_demo)

    async def page(self, request: web.Request) -> web.Response:
        return self._response()


def _demo_page(settings: Settings) -> Callable[[], web.Response]:
    public_port = str(settings.port) if settings.internal_port is not None else ""  # empty: that of the page
    page = _STATIC.joinpath("demo.html").read_text(encoding="utf-8")
    page = page.replace("{{PUBLIC_PORT}}", public_port).replace("{{COMMAND}}", html.escape(program(sys.argv[0])))
    return partial(web.Response, text=page, content_type="text/html", headers={hdrs.CACHE_CONTROL: "no-store"})


def _sentence(*, has_demo: bool) -> Callable[[], web.Response]:
    demo = (
        "its demo page is on the port of WSBRIDGE_INTERNAL_PORT"
        if has_demo
        else "to try it out with a demo page, set WSBRIDGE_AUTH=none and WSBRIDGE_DEMO=true"
    )
    text = f"This is wsbridge, which sends a user's events to that user's browsers, at /ws and /sse; {demo}.\n"
    return partial(web.Response, status=404, text=text)
