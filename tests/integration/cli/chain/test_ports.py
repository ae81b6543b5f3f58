"""Free ports."""

import socket
from pathlib import Path

from wsbridge.cli.chain.ports import free_port, is_open


def test_free_port_can_be_bound_and_is_below_the_range_of_outgoing_connections() -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        assert is_open(port)
    assert not is_open(port)
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert port < first
