"""The client's address of a request: that of the peer, or the one that a trusted proxy forwards."""

import functools
import ipaddress
import re
from collections.abc import Iterable, Iterator

from aiohttp import web

ADDRESS = web.RequestKey("address", str)
PRIVATE = "private"  # a word in the setting for all of these networks
PRIVATE_NETWORKS = (
    "127.0.0.0/8", "::1/128",  # this machine
    "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7",  # RFC 1918, RFC 4193
    "100.64.0.0/10",  # RFC 6598, which clouds use as well
    "169.254.0.0/16", "fe80::/10",  # link-local
)  # fmt: skip
MOST_HOPS = 32  # entries of a forwarded list that are read, from its end; the others are ignored
_FOR = re.compile(r'for="?([^";,]+)', re.IGNORECASE)
_WITH_PORT = re.compile(r"\[([^\]]+)\](?::\d+)?|([\d.]+):\d+")


def address_of(request: web.BaseRequest) -> str:
    """The client's address, for logs and limits."""
    return request.get(ADDRESS) or plain(request.remote or "")


@functools.lru_cache(4096)
def plain(address: str) -> str:
    """An address without its zone, and an IPv4-mapped IPv6 address (of a dual-stack socket) as IPv4."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)


class TrustedProxies:
    """`networks` are addresses and networks, or `private`. Only their forwarded addresses are trusted, nothing else."""

    def __init__(self, networks: Iterable[str]) -> None:
        names = [name for word in networks for name in (PRIVATE_NETWORKS if word == PRIVATE else (word,))]
        self._networks = [ipaddress.ip_network(name) for name in names]
        self.trusts = functools.lru_cache(4096)(self._trusts)

    def _trusts(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(plain(address))
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)

    def client(self, peer: str, x_forwarded_for: str, forwarded: str) -> str:
        """The rightmost forwarded address that is not of a trusted proxy; `peer` if it is not trusted or forwards none.

        A client can forge the addresses left of that one.
        """
        found = plain(peer)
        for address in _from_the_right(x_forwarded_for, forwarded):
            if not self.trusts(found):
                break
            found = address
        return found


def _from_the_right(x_forwarded_for: str, forwarded: str) -> Iterator[str]:
    entries = x_forwarded_for.split(",") if x_forwarded_for else _FOR.findall(forwarded)
    for entry in entries[: -MOST_HOPS - 1 : -1]:
        text = entry.strip()
        if split := _WITH_PORT.fullmatch(text):
            text = split[1] or split[2]
        try:
            yield plain(str(ipaddress.ip_address(text.partition("%")[0])))
        except ValueError:
            return  # entries left of a malformed one are ignored
