"""The routes of the browser client."""

import base64
import gzip
import hashlib
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from tests.support.running import SECRET, Start
from wsbridge.web.client_file import ClientFile, client_file
from wsbridge.web.client_module import ClientModuleHandler

TEXT = b"export const one = 1;\n"
FILE = ClientFile(bodies={"br": b"brotli", "gzip": gzip.compress(TEXT), "identity": TEXT}, source_map=b'{"version":3}')
FOREVER = "public, max-age=31536000, immutable"
Client = TestClient[web.Request, web.Application]


def serving(file: ClientFile) -> Client:
    """A server with the routes of this file. Its client decodes nothing."""
    app = web.Application()
    for method, path, _, handler in ClientModuleHandler(file).routes():
        app.router.add_route(method, path, handler)
        app.router.add_head(path, handler)
    return TestClient(TestServer(app), auto_decompress=False, skip_auto_headers=["Accept-Encoding"])


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    """A bridge with a built client."""
    async with serving(FILE) as client:
        yield client


async def test_module_is_readable_by_any_origin(start: Start) -> None:
    bridge = await start(JWT_SECRET=SECRET, INTERNAL_PORT="0")
    async with bridge.http.get(f"{bridge.url}/client.js", headers={"Origin": "https://elsewhere.example"}) as response:
        assert (response.status, response.content_type, response.charset) == (200, "text/javascript", "utf-8")
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert await response.read() == client_file().bodies["identity"]


@pytest.mark.parametrize(
    ("accepted", "coding"), [(None, "identity"), ("gzip, deflate, br", "br"), ("br;q=0.1, gzip;q=0.2", "gzip")]
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_module_is_sent_in_the_accepted_coding(
    client: Client, method: str, accepted: str | None, coding: str
) -> None:
    headers = {"Accept-Encoding": accepted} if accepted is not None else {}
    async with client.request(method, "/client.js", headers=headers) as response:
        assert response.status == 200
        assert response.headers.get("Content-Encoding", "identity") == coding
        assert response.headers["Content-Length"] == str(len(FILE.bodies[coding]))
        assert await response.read() == (FILE.bodies[coding] if method == "GET" else b"")
        assert (response.headers["Cache-Control"], response.headers["Vary"]) == ("no-cache", "Accept-Encoding")


async def test_module_without_an_acceptable_coding_is_406(client: Client) -> None:
    async with client.get("/client.js", headers={"Accept-Encoding": "identity;q=0"}) as response:
        assert response.status == 406


async def test_module_for_a_range_is_sent_whole(client: Client) -> None:
    async with client.get("/client.js", headers={"Range": "bytes=0-3"}) as response:
        assert (response.status, response.headers["Accept-Ranges"], await response.read()) == (200, "none", TEXT)


@pytest.mark.fault("H5")
@pytest.mark.parametrize("coding", FILE.bodies)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_module_with_a_known_etag_is_304(client: Client, method: str, coding: str) -> None:
    accept = {"Accept-Encoding": coding}
    async with client.get("/client.js", headers=accept) as first:
        etag = first.headers["ETag"]
        assert not etag.startswith("W/")
    for known in (etag, f'"other", {etag}', f"W/{etag}", "*"):
        async with client.request(method, "/client.js", headers=accept | {"If-None-Match": known}) as again:
            assert (again.status, await again.read(), again.headers["ETag"]) == (304, b"", etag)
            assert (again.headers["Cache-Control"], again.headers["Vary"]) == ("no-cache", "Accept-Encoding")
            assert again.headers["Access-Control-Allow-Origin"] == "*"
            assert "Content-Encoding" not in again.headers
    async with client.get("/client.js", headers=accept | {"If-None-Match": '"other"'}) as changed:
        assert changed.status == 200


@pytest.mark.fault("H5")
async def test_module_is_compressed_once_and_each_coding_has_its_etag(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compress(*_: object, **__: object) -> bytes:
        raise AssertionError("compressed for a request")

    monkeypatch.setattr("zlib.compressobj", compress)
    monkeypatch.setattr("gzip.compress", compress)
    etags = set()
    for coding in (*FILE.bodies, *FILE.bodies):
        async with client.get("/client.js", headers={"Accept-Encoding": coding}) as response:
            etags.add(response.headers["ETag"])
    assert len(etags) == len(FILE.bodies)


async def test_description_has_the_url_and_the_integrity_of_the_present_file(client: Client) -> None:
    async with client.get("/client.json") as response:
        assert response.headers["Cache-Control"] == "no-cache"
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        description = await response.json()
    async with client.get(f"/{description['url']}") as response:
        assert (response.headers["Cache-Control"], response.headers["Access-Control-Allow-Origin"]) == (FOREVER, "*")
        body = await response.read()
    assert description == {
        "url": f"client.{hashlib.sha256(TEXT).hexdigest()[:16]}.js",
        "integrity": f"sha384-{base64.b64encode(hashlib.sha384(body).digest()).decode()}",
    }


async def test_module_of_another_version_is_the_present_one_and_is_not_kept(client: Client) -> None:
    async with client.get(f"/client.{'0' * 16}.js") as response:
        assert (response.status, await response.read(), response.headers["Cache-Control"]) == (200, TEXT, "no-cache")
    async with client.get("/client.other.js") as response:
        assert response.status == 404


async def test_source_map_is_beside_the_module_that_names_it(client: Client) -> None:
    async with client.get("/client.js") as response:
        name = response.headers["SourceMap"]
    async with client.get(f"/{name}") as response:
        assert (response.headers["Cache-Control"], await response.read()) == (FOREVER, FILE.source_map)
    async with client.get(f"/client.{'0' * 16}.js.map") as response:
        assert response.status == 404


async def test_module_from_the_sources_has_no_source_map() -> None:
    async with serving(ClientFile(bodies={"identity": TEXT})) as client:
        async with client.get("/client.json") as response:
            name = (await response.json())["url"]
        async with client.get(f"/{name}") as response:
            assert (response.status, response.headers.get("SourceMap")) == (200, None)
        async with client.get(f"/{name}.map") as response:
            assert response.status == 404
