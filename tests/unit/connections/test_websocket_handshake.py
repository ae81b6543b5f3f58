"""Valid and invalid WebSocket handshakes; tests on real sockets are in test_websocket and test_faults."""

import pytest
from aiohttp import HttpVersion10, web
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from wsbridge.connections.websocket_handshake import check_handshake

GOOD = {
    "Host": "localhost",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def request(**changed: str | None) -> web.Request:
    """The sample handshake of RFC 6455 §1.2. Given headers replace its own; None removes one."""
    headers = GOOD | {name.replace("_", "-"): value for name, value in changed.items()}
    return make_mocked_request("GET", "/ws", CIMultiDict({k: v for k, v in headers.items() if v is not None}))


@pytest.mark.parametrize(
    "changed",
    [{}, {"Upgrade": " WebSocket "}, {"Connection": "keep-alive, Upgrade"}, {"Sec_WebSocket_Version": " 13 "}],
    ids=str,
)
def test_check_handshake_accepts_every_valid_spelling(changed: dict[str, str]) -> None:
    check_handshake(request(**changed))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"Upgrade": None, "Connection": None}, "Connection: upgrade'."),
        ({"Upgrade": "h2c"}, "a proxy may have removed"),
        ({"Connection": "keep-alive"}, "a proxy may have removed"),
    ],
    ids=str,
)
def test_check_handshake_without_upgrade_names_the_headers(changed: dict[str, str | None], said: str) -> None:
    with pytest.raises(web.HTTPUpgradeRequired) as refused:
        check_handshake(request(**changed))
    assert said in str(refused.value.text)
    assert refused.value.headers["Upgrade"] == "websocket"
    assert "Sec-WebSocket-Version" not in refused.value.headers


@pytest.mark.parametrize("version", [None, "8", "12"])
def test_check_handshake_of_another_version_names_13(version: str | None) -> None:
    with pytest.raises(web.HTTPUpgradeRequired) as refused:
        check_handshake(request(Sec_WebSocket_Version=version))
    assert refused.value.headers["Sec-WebSocket-Version"] == "13"


def test_check_handshake_of_http_1_0_is_refused() -> None:
    with pytest.raises(web.HTTPUpgradeRequired):
        check_handshake(make_mocked_request("GET", "/ws", CIMultiDict(GOOD), version=HttpVersion10))


@pytest.mark.parametrize("key", [None, "", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZQ==", "*" * 24])
def test_check_handshake_with_a_bad_key_is_a_bad_request(key: str | None) -> None:
    with pytest.raises(web.HTTPBadRequest):
        check_handshake(request(Sec_WebSocket_Key=key))


@pytest.mark.parametrize("name", ["Sec-WebSocket-Key", "Host"])
def test_check_handshake_with_a_repeated_header_is_a_bad_request(name: str) -> None:
    headers = CIMultiDict(GOOD)
    headers.add(name, GOOD[name])
    with pytest.raises(web.HTTPBadRequest):
        check_handshake(make_mocked_request("GET", "/ws", headers))
