"""Free ports."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from wsbridge.cli.chain import ports
from wsbridge.cli.chain.ports import free_port, free_ports, is_open

PORTS = 150  # of the 199 in a block
PROCESSES = 10


def test_free_port_can_be_bound_and_is_below_the_range_of_outgoing_connections() -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        assert is_open(port)
    assert not is_open(port)
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert port < first


def test_free_port_that_nobody_has_bound_yet_is_not_given_again() -> None:
    given = free_ports(PORTS)
    assert len(set(given)) == len(given)


def test_free_ports_of_other_processes_are_not_given() -> None:
    program = f"from wsbridge.cli.chain.ports import free_ports; print(*free_ports({PORTS}), flush=True); input()"
    command = [sys.executable, "-c", program]
    running = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(PROCESSES)
    ]
    given = free_ports(PORTS)
    for process in running:
        assert process.stdout
        given += map(int, process.stdout.readline().split())
    for process in running:
        process.communicate("\n")
    assert len(set(given)) == len(given) == PORTS * (1 + PROCESSES)


def test_free_ports_of_a_forked_process_are_not_those_of_its_parent() -> None:
    program = f"""
import os
from wsbridge.cli.chain.ports import free_port, free_ports
free_port()
if os.fork():
    os.wait()
print(*free_ports({PORTS}))
"""
    output = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True).stdout.split()
    assert len(set(output)) == len(output) == 2 * PORTS


def test_free_port_without_a_free_one_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(ports, "_ports", lambda: iter([server.getsockname()[1]] * 199))
        with pytest.raises(OSError, match=r"None of 199 ports is free"):
            free_port()
