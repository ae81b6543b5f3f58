"""Free ports of this machine."""

import contextlib
import errno
import functools
import itertools
import os
import random
import socket
from collections.abc import Iterator

_FIRST, _END = 10_000, 32_000  # below the range of outgoing connections
_BLOCK = 200  # ports, of which the first is the lock


def free_port() -> int:
    """A free port on loopback, below the range of outgoing connections.

    While its server is down, a client's outgoing connection could otherwise take the port, even the connection of the
    client that tries to reach it. A server may start on it at any later time: no other process is given this port, and
    this one not before it was given all others of its block. OSError if none of them is free.
    """
    for port in itertools.islice(_ports(), _BLOCK - 1):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    raise OSError(errno.EADDRINUSE, f"None of {_BLOCK - 1} ports is free on loopback. End some of the servers on them.")


def free_ports(count: int) -> list[int]:
    """That many different free ports."""
    return [free_port() for _ in range(count)]


def is_open(port: int) -> bool:
    """Whether a program on loopback accepts connections at the port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
        return True
    return False


@functools.cache
def _ports() -> Iterator[int]:
    """The ports of a block that no other process has, over and over.

    A UDP socket at the first one is the lock. It stays open until this process ends.
    """
    blocks = range(_FIRST, _END, _BLOCK)
    # not the shared generator: hypothesis seeds it equally in every process
    for first in random.SystemRandom().sample(blocks, len(blocks)):
        with socket.socket(type=socket.SOCK_DGRAM) as lock, contextlib.suppress(OSError):
            lock.bind(("127.0.0.1", first))
            lock.detach()
            return itertools.cycle(range(first + 1, first + _BLOCK))
    raise OSError(errno.EADDRINUSE, f"Other processes have all blocks of ports from {_FIRST} to {_END} on loopback.")


os.register_at_fork(after_in_child=_ports.cache_clear)  # the block is the parent's
