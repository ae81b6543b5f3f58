"""Bad handshakes in their own process: `python -m tests.siege.flood PORT RATE`, the rate in handshakes a second.

At the end of its input it prints the number of refusals a second. It uses plain sockets without tasks, because on a
shared machine the load must cost less than the bridge.
"""

import contextlib
import resource
import selectors
import socket
import struct
import sys
import threading
import time

from tests.siege.bad import address
from tests.support.frames import UPGRADE

SWEEP = 0.01  # seconds, at most, between two bursts
MOST_OPEN = 400  # open handshakes; at this number the flood waits for answers
REQUEST = (UPGRADE.format(path="/ws?token=eyJhbGciOiJIUzI1NiJ9.e30.bad") + "\r\n").encode()
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER of 0: no port is left in TIME_WAIT


class Flood:
    """Handshakes with an invalid token."""

    def __init__(self, port: int, rate: float) -> None:
        self._port = port
        self._rate = rate
        self._selector = selectors.DefaultSelector()
        self._begun = self._refused = 0
        self.reached = 0.0  # refusals a second, of any kind

    def run(self, stopped: threading.Event) -> None:
        """Keep to the rate until stopped; open handshakes end with the process."""
        started = time.monotonic()
        while not stopped.is_set():
            due = int((time.monotonic() - started) * self._rate) - self._begun
            for _ in range(min(due, MOST_OPEN - len(self._selector.get_map()))):
                self._begin()
            for key, events in self._selector.select(SWEEP):
                if isinstance(sock := key.fileobj, socket.socket):
                    self._go_on(sock, events)
        self.reached = self._refused / (time.monotonic() - started)

    def _begin(self) -> None:
        self._begun += 1
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        sock.bind((address(self._begun), 0))
        sock.connect_ex(("127.0.0.1", self._port))
        self._selector.register(sock, selectors.EVENT_WRITE)

    def _go_on(self, sock: socket.socket, events: int) -> None:
        """Send the request once connected, then wait for an answer or the end of the connection."""
        with contextlib.suppress(OSError):
            if events & selectors.EVENT_WRITE:
                sock.send(REQUEST)
                self._selector.modify(sock, selectors.EVENT_READ)
                return
        self._selector.unregister(sock)
        sock.close()
        self._refused += 1


def main(port: int, rate: float) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    flood, stopped = Flood(port, rate), threading.Event()
    thread = threading.Thread(target=flood.run, args=(stopped,))
    thread.start()
    print("ready", flush=True)
    sys.stdin.read()
    stopped.set()
    thread.join()
    print(flood.reached, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
