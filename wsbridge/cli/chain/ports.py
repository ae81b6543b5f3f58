"""Free ports of this machine."""

import contextlib
import secrets
import socket


def free_port() -> int:
    """A free port on loopback, below the range of outgoing connections.

    While its server is down, a client's outgoing connection could otherwise take the port, even the connection of the
    client that tries to reach it.
    """
    while True:
        port = 10_000 + secrets.randbelow(22_000)  # hypothesis seeds `random` equally in every process
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port


def free_ports(count: int) -> list[int]:
    """That many different free ports."""
    ports = set[int]()
    while len(ports) < count:
        ports.add(free_port())
    return list(ports)


def is_open(port: int) -> bool:
    """Whether a program on loopback accepts connections at the port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
        return True
    return False
