"""The client's address: the peer's, or the one that trusted proxies report."""

import pytest

from wsbridge.connections.client_address import TrustedProxies, plain

PRIVATE = TrustedProxies(("private",))
LISTED = TrustedProxies(("192.0.2.0/24", "2001:db8::1"))


@pytest.mark.fault("B3")
@pytest.mark.parametrize(
    ("proxies", "peer", "chain", "client"),
    [
        (PRIVATE, "203.0.113.7", "", "203.0.113.7"),
        (PRIVATE, "203.0.113.7", "198.51.100.1", "203.0.113.7"),  # sent by an untrusted peer
        (PRIVATE, "10.0.0.2", "198.51.100.1", "198.51.100.1"),
        (PRIVATE, "10.0.0.2", "1.2.3.4, 198.51.100.1", "198.51.100.1"),  # the left one may be forged
        (PRIVATE, "10.0.0.2", "198.51.100.1, 10.0.0.9", "198.51.100.1"),
        (PRIVATE, "10.0.0.2", "192.168.0.5", "192.168.0.5"),
        (PRIVATE, "10.0.0.2", "", "10.0.0.2"),
        (PRIVATE, "10.0.0.2", "unknown", "10.0.0.2"),
        (PRIVATE, "10.0.0.2", "198.51.100.1, nonsense, 10.0.0.9", "10.0.0.9"),
        (PRIVATE, "10.0.0.2", ",,,", "10.0.0.2"),
        (PRIVATE, "::ffff:10.0.0.2", "198.51.100.1:4711", "198.51.100.1"),
        (PRIVATE, "fd00::1", "[2001:db8::7]:443", "2001:db8::7"),
        (PRIVATE, "fe80::1%eth0", "2001:db8::7", "2001:db8::7"),
        (LISTED, "192.0.2.9", "10.0.0.1", "10.0.0.1"),
        (LISTED, "10.0.0.1", "198.51.100.1", "10.0.0.1"),
        (LISTED, "2001:db8::1", "2001:db8::2", "2001:db8::2"),
        (TrustedProxies(()), "127.0.0.1", "198.51.100.1", "127.0.0.1"),
    ],
)
def test_client_is_the_rightmost_address_that_is_not_trusted(
    proxies: TrustedProxies, peer: str, chain: str, client: str
) -> None:
    assert proxies.client(peer, chain, "") == client


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ("for=198.51.100.1;proto=https", "198.51.100.1"),
        ('for="[2001:db8::7]:4711"', "2001:db8::7"),
        ("For=1.2.3.4, for=198.51.100.1", "198.51.100.1"),
        ("for=_hidden", "10.0.0.2"),
        ("proto=https", "10.0.0.2"),
    ],
)
def test_client_in_a_forwarded_header_is_found(forwarded: str, client: str) -> None:
    assert PRIVATE.client("10.0.0.2", "", forwarded) == client


def test_client_behind_a_long_chain_looks_at_its_end_only() -> None:
    assert PRIVATE.client("10.0.0.2", "198.51.100.1," + "10.0.0.3," * 100 + "10.0.0.4", "") == "10.0.0.3"


@pytest.mark.parametrize(
    ("address", "shown"),
    [("::ffff:127.0.0.1", "127.0.0.1"), ("fe80::1%2", "fe80::1"), ("2001:DB8::1", "2001:db8::1"), ("", "")],
)
def test_plain_shows_one_address_one_way(address: str, shown: str) -> None:
    assert plain(address) == shown
