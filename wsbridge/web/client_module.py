"""HTTP routes of the browser client, for pages of any origin: it contains no secrets and no user data."""

import base64
import hashlib

import msgspec
from aiohttp import ETag, hdrs, web

from wsbridge.auth.access import Caller, Route
from wsbridge.web.accept_encoding import choose
from wsbridge.web.client_file import ClientFile, client_file

_REVALIDATE = "no-cache"  # ask each time: a new version is used at once
_FOREVER = "public, max-age=31536000, immutable"
_NAME = "/client.{hash:[0-9a-f]{16}}.js"


def client_routes() -> list[Route]:
    return ClientModuleHandler(client_file()).routes()


class ClientModuleHandler:
    """`/client.js`, `/client.{hash}.js`, its source map, and `/client.json`, which has the present hash.

    The file is compressed in advance. Each representation has its own strong ETag (RFC 9110 §8.8.1). A range is never
    served: the file is small. Another hash is that of another version, whose page was made before an update or by a
    newer replica. It gets the present file too, without permission to keep it.
    """

    def __init__(self, file: ClientFile) -> None:
        self._representations = {coding: (body, _etag(body)) for coding, body in file.bodies.items()}
        plain = file.bodies["identity"]
        self._hash = hashlib.sha256(plain).hexdigest()[:16]
        self._source_map = file.source_map
        integrity = base64.b64encode(hashlib.sha384(plain).digest()).decode()
        self._manifest = {"url": f"client.{self._hash}.js", "integrity": f"sha384-{integrity}"}

    def routes(self) -> list[Route]:
        return [
            ("GET", "/client.js", Caller.ANYONE, self._module),
            ("GET", _NAME, Caller.ANYONE, self._module),
            ("GET", f"{_NAME}.map", Caller.ANYONE, self._map),
            ("GET", "/client.json", Caller.ANYONE, self._describe),
        ]

    async def _module(self, request: web.Request) -> web.Response:
        coding = choose(request.headers.get(hdrs.ACCEPT_ENCODING, ""), self._representations)
        if coding is None:
            raise web.HTTPNotAcceptable(text=f"Accept-Encoding must allow one of {', '.join(self._representations)}.")
        body, tag = self._representations[coding]
        response = self._response(request, body, "text/javascript; charset=utf-8")
        response.headers.update({hdrs.VARY: hdrs.ACCEPT_ENCODING, hdrs.ACCEPT_RANGES: "none"})
        response.etag = tag
        if self._source_map:
            response.headers["SourceMap"] = f"client.{self._hash}.js.map"
        if any(etag.value in (tag.value, "*") for etag in request.if_none_match or ()):
            response.set_status(304)
            response.body = None
        elif coding != "identity":
            response.headers[hdrs.CONTENT_ENCODING] = coding
        return response

    async def _map(self, request: web.Request) -> web.Response:
        if self._source_map is None or request.match_info["hash"] != self._hash:
            raise web.HTTPNotFound
        return self._response(request, self._source_map, "application/json")

    async def _describe(self, request: web.Request) -> web.Response:
        return self._response(request, msgspec.json.encode(self._manifest), "application/json")

    def _response(self, request: web.Request, body: bytes, content_type: str) -> web.Response:
        is_present = request.match_info.get("hash") == self._hash
        headers = {
            hdrs.CONTENT_TYPE: content_type,
            hdrs.CACHE_CONTROL: _FOREVER if is_present else _REVALIDATE,
            hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*",
        }
        return web.Response(body=body, headers=headers)


def _etag(body: bytes) -> ETag:
    return ETag(hashlib.sha256(body).hexdigest()[:32])
