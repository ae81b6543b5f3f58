"""Files for pages: the client always, the demo page in development and demo mode only."""

import gzip
import re

import pytest

from tests.support.running import ROOT, SECRET, Running, Start
from wsbridge.web.client_bundle import bundle
from wsbridge.web.pages import accepts_gzip


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


async def test_client_module_is_readable_by_any_origin(start: Start) -> None:
    bridge = await start(JWT_SECRET=SECRET, INTERNAL_PORT="0")
    async with bridge.http.get(f"{bridge.url}/client.js", headers={"Origin": "https://elsewhere.example"}) as response:
        assert (response.status, response.content_type, response.charset) == (200, "text/javascript", "utf-8")
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        assert response.headers["Content-Encoding"] == "gzip"
        assert "export function createClient" in await response.text()


@pytest.mark.fault("H5")
@pytest.mark.parametrize("accepted", ["gzip", "identity"])
async def test_client_module_with_a_known_etag_is_304(bridge: Running, accepted: str) -> None:
    url, accept = f"{bridge.url}/client.js", {"Accept-Encoding": accepted}
    async with bridge.http.get(url, headers=accept) as first:
        etag = first.headers["ETag"]
        assert not etag.startswith("W/")
        assert (first.headers["Cache-Control"], first.headers["Vary"]) == ("no-cache", "Accept-Encoding")
    for known in (etag, f'"other", {etag}', f"W/{etag}", "*"):
        async with bridge.http.get(url, headers=accept | {"If-None-Match": known}) as again:
            assert (again.status, await again.read(), again.headers["ETag"]) == (304, b"", etag)
            assert "Content-Encoding" not in again.headers
    async with bridge.http.get(url, headers=accept | {"If-None-Match": '"other"'}) as changed:
        assert changed.status == 200


@pytest.mark.fault("H5")
async def test_client_module_is_compressed_once_and_each_coding_has_its_etag(
    bridge: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compress(*_: object, **__: object) -> bytes:
        raise AssertionError("compressed for a request")

    monkeypatch.setattr("zlib.compressobj", compress)
    monkeypatch.setattr("gzip.compress", compress)
    etags = set()
    for accepted, coding in (("gzip, br", "gzip"), ("identity", None), ("gzip;q=0", None)):
        for _ in range(2):
            headers = {"Accept-Encoding": accepted}
            async with bridge.http.get(f"{bridge.url}/client.js", headers=headers) as response:
                assert response.headers.get("Content-Encoding") == coding
                etags.add(response.headers["ETag"])
    assert len(etags) == 2


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", False),
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("gzip; q=0", False),
        ("gzip;q=0.000, *", False),
        ("deflate, br", False),
        ("*", True),
        ("*;q=0", False),
        ("gzip;q=0.01", True),
        (";;,=", False),
    ],
)
def test_accepts_gzip_follows_names_and_weights(header: str, expected: bool) -> None:
    assert accepts_gzip(header) is expected


@pytest.mark.fault("H5")
def test_documents_state_the_size_of_the_client() -> None:
    text = bundle(ROOT / "wsbridge" / "web" / "static" / "client", "client").encode()
    sizes = round(len(gzip.compress(text, 9)) / 1000), round(len(text) / 1000)
    for name in ("README.md", "client/README.md"):
        document = (ROOT / name).read_text(encoding="utf-8")
        [(compressed, plain)] = re.findall(r"`/client\.js`[^.]*?(\d+) kB compressed, (\d+) kB plain", document)
        assert abs(int(compressed) - sizes[0]) <= 1, name
        assert abs(int(plain) - sizes[1]) <= 1, name
